"""A folder of captioned JPEG files to train on: pictures of the bundled world, enlarged."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from vlv_core.config import configure
from vlv_core.data.jsonl import JsonlDataset
from vlv_core.registry import Plugins
from vlv_core.specs import resolve

WORLD = "scenes"
LENGTHS = (170, 280)
"""the paper's captions, tokens; a head with random weights reads bytes as tokens"""
QUALITY = 90


def captioned(folder: Path, *, plugins: Plugins, count: int, edge: int, long: bool) -> JsonlDataset:
    """`count` files, the shorter side `edge` pixels and the longer a quarter more.

    long: captions of the paper's length, by stringing several together, else each scene's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec = plugins.get("dataset", WORLD).spec
    world = resolve(spec.open)(configure(spec.config, {}, WORLD), Path())
    generator = np.random.default_rng(0)
    rows = []
    for index in range(count):
        scene = world[index]
        picture = Image.fromarray(scene.load()).resize((edge * 5 // 4, edge))
        # a photograph is not smooth: so many bytes have to be decoded
        grain = generator.normal(0, 6, (edge, edge * 5 // 4, 3))
        noisy = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index:06d}.jpg", quality=QUALITY)
        caption = scene.caption
        if long:
            length = int(generator.integers(*LENGTHS, endpoint=True))
            caption = " ".join(world[index + each].caption for each in range(length))[:length]
        rows.append({"path": f"{index:06d}.jpg", "caption": caption})
    file = folder / "captions.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return JsonlDataset(file, folder)
