"""Captions of pixels by stock ONNX Runtime GenAI: a program that imports nothing of vlv.

    python -P _stock.py FOLDER WORK PLACEHOLDER COUNT BATCH LENGTH

WORK/pixels.npy holds uint8 (N, S, S, 3) and WORK/words.json rows of tokens; WORK/said.json is then
{"tokens": what is said of the N pictures, "words": how the rows read}. A process of its own,
because GenAI ends the process where other libraries raise.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og
from numpy.typing import NDArray


def caption(
    model: Any, pixels: NDArray[np.uint8], *, placeholder: int, count: int, length: int
) -> list[list[int]]:
    """What each row of one batch says, ends of text and padding included."""
    rows = len(pixels)
    tensors = og.NamedTensors()
    tensors["input_ids"] = np.full((rows, count), placeholder, np.int32)
    planes = pixels.transpose(0, 3, 1, 2)[None].astype(np.float32)
    tensors["pixel_values"] = np.ascontiguousarray(planes)
    tensors["num_image_tokens"] = np.full(rows, count, np.int64)
    params = og.GeneratorParams(model)
    params.set_search_options(batch_size=rows, max_length=count + length)
    generator = og.Generator(model, params)
    generator.set_inputs(tensors)
    while not generator.is_done():
        generator.generate_next_token()
    return [generator.get_sequence(row)[count:].tolist() for row in range(rows)]


def main(folder: str, work: str, *numbers: str) -> None:
    placeholder, count, batch, length = map(int, numbers)
    model = og.Model(folder)
    tokenizer = og.Tokenizer(model)
    pixels = np.load(Path(work) / "pixels.npy")
    said = []
    for start in range(0, len(pixels), batch):
        part = pixels[start : start + batch]
        said += caption(model, part, placeholder=placeholder, count=count, length=length)
    rows = json.loads((Path(work) / "words.json").read_text(encoding="utf-8"))
    words = [tokenizer.decode(np.array(row, np.int32)) for row in rows]
    text = json.dumps({"tokens": said, "words": words})
    (Path(work) / "said.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
