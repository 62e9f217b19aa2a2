"""The package's graphs run by plain onnxruntime, greedily: what GenAI is compared with.

It shares no code with GenAI but the graphs, and gives the cache a buffer of its own at each step.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vlv_export.genai.placeholders import Placeholders

Arrays = dict[str, NDArray[Any]]


class Plain:
    """The three graphs of a package."""

    def __init__(self, folder: Path, placeholders: Placeholders) -> None:
        self.vision, self.embedding, self.decoder = (
            onnxruntime.InferenceSession(
                str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"]
            )
            for name in ("vision", "embedding", "decoder")
        )
        self.placeholders = placeholders

    def caption(
        self, pixels: NDArray[np.uint8], *, length: int, eos: tuple[int, ...]
    ) -> list[list[int]]:
        """Tokens of each picture uint8 (B, S, S, 3), without the end of text."""
        rows, count = len(pixels), self.placeholders.count
        planes = pixels.transpose(0, 3, 1, 2)[None].astype(np.float32)
        features = self.vision.run(None, {"pixel_values": planes})[0]
        ids = np.full((rows, count), self.placeholders.pad, np.int64)
        cache = self._empty(rows, count + length)
        said: list[list[int]] = [[] for _ in range(rows)]
        going = set(range(rows))
        total = count
        while going and total < count + length:
            embeds = self.embedding.run(None, {"input_ids": ids, "image_features": features})[0]
            logits, cache = self._step(embeds, cache, np.ones((rows, total), np.int64))
            best = logits[:, 0].argmax(axis=1)
            going -= {row for row in going if best[row] in eos}
            for row in going:
                said[row].append(int(best[row]))
            ids, features = best[:, None], features[:0]
            total += 1
        return said

    def _empty(self, rows: int, capacity: int) -> Arrays:
        return {
            each.name: np.zeros(
                (rows, each.shape[1], capacity, each.shape[3]),
                np.float16 if each.type == "tensor(float16)" else np.float32,
            )
            for each in self.decoder.get_inputs()
            if each.name.startswith("past.")
        }

    def _step(
        self, embeds: NDArray[np.float32], cache: Arrays, mask: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], Arrays]:
        feeds = {"inputs_embeds": embeds, "attention_mask": mask, **cache}
        names = [each.name for each in self.decoder.get_outputs()]
        logits, *present = self.decoder.run(names, feeds)
        past = [name.replace("present.", "past.", 1) for name in names[1:]]
        return logits, dict(zip(past, present, strict=True))
