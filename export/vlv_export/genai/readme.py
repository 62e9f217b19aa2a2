"""The package's README.md: what it is, and a script that needs none of our code."""

from vlv_core.specs import Fit
from vlv_export.genai.config import MAX_ROWS
from vlv_export.genai.placeholders import PROMPT, Placeholders

PICTURE = """\
import onnxruntime_genai as og

model = og.Model(".")
processor = model.create_multimodal_processor()
images = og.Images.open("picture.png")
inputs = processor("{prompt}", images=images)
generator = og.Generator(model, og.GeneratorParams(model))
generator.set_inputs(inputs)
while not generator.is_done():
    generator.generate_next_token()
print(processor.decode(generator.get_sequence(0)[{count}:]))
"""
PIXELS = """\
import numpy as np
import onnxruntime_genai as og

model, tensors = og.Model("."), og.NamedTensors()
pixels = np.load("pixels.npy")  # uint8 (B, {size}, {size}, 3), B at most {rows}
planes = pixels.transpose(0, 3, 1, 2)[None].astype(np.float32)
tensors["pixel_values"] = np.ascontiguousarray(planes)
tensors["input_ids"] = np.full((len(pixels), {count}), {pad}, np.int32)
tensors["num_image_tokens"] = np.full(len(pixels), {count}, np.int64)
params, tokenizer = og.GeneratorParams(model), og.Tokenizer(model)
params.set_search_options(batch_size=len(pixels))
generator = og.Generator(model, params)
generator.set_inputs(tensors)
while not generator.is_done():
    generator.generate_next_token()
for row in range(len(pixels)):
    print(tokenizer.decode(generator.get_sequence(row)[{count}:]))
"""
TEXT = """\
# {name}

Captions pictures by ONNX Runtime GenAI,
with nothing but `pip install onnxruntime-genai`. Run in this folder:

{picture}## Pixels, and many pictures at once

The pictures as the model was trained on them, cut and resized by Pillow: no rounding differs.

```python
{pixels}```

## Limits of GenAI

At most {rows} pictures at once, greedy or sampled: its beam search does not work on packages of
three graphs.
"""
FILES = """\
```python
{code}```

PNG files come in as Pillow reads them, JPEG files a few grey levels off.{squashed}

"""
SQUASHED = """ GenAI squashes pictures that
are not square, and this model has learned from their middle: cut it out first, or give pixels."""
NO_FILES = """\
GenAI has no operation for the way this model fits pictures into its view, so it is given pixels.

"""


def readme(name: str, *, placeholders: Placeholders, size: int, fit: Fit | None) -> str:
    """The text for a package `name` of a model whose encoder reads pixels of edge `size`.

    `fit` is the model's own way with pictures; None if GenAI cannot take files at all.
    """
    count = placeholders.count
    picture = FILES.format(
        code=PICTURE.format(prompt=PROMPT, count=count),
        squashed="" if fit == "squash" else SQUASHED,
    )
    return TEXT.format(
        name=name,
        picture=NO_FILES if fit is None else picture,
        pixels=PIXELS.format(size=size, count=count, pad=placeholders.pad, rows=MAX_ROWS),
        rows=MAX_ROWS,
    )
