"""Turn finished runs into bundled models: weights in half precision, and what made them.

    python -m vlv_plugins.mini.bundle runs/mini --pretraining runs/pretrain-s
    python -m vlv_plugins.mini.bundle runs/mini-smollm2 -o plugins/vlv_plugins/mini/smollm2

MODEL/training holds the logs and curves of every stage; MODEL/examples pictures for the demo. What
a run's model takes from a source stays there, so `mini` itself is trained with --self-contained.
"""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import click
import numpy as np
import tomli_w

from vlv_core.files import write_atomically
from vlv_core.model_folder import MANIFEST, read_manifest
from vlv_core.plugins import load_plugins
from vlv_core.specs import resolve

BUNDLED = Path(__file__).with_name("model")
EXAMPLES = 24
LOGS = ("metrics.jsonl", "loss.png")


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--pretraining", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Run folder of the text-to-image model, for its logs.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), default=BUNDLED, help="Model folder.")
def main(run: Path, pretraining: Path | None, out: Path) -> None:
    """Bundle the model of RUN."""
    halve(run / "model", out)
    stages = [run / "stage1", run / "stage2"]
    stages += [pretraining / "vae", pretraining / "t2i"] if pretraining else []
    for stage in stages:
        if stage.is_dir():
            copy_logs(stage, out / "training" / stage.name)
    if out == BUNDLED:
        write_examples(out / "examples")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"{out}: {size / 1e6:.1f} MB")


def halve(model: Path, out: Path) -> None:
    """Copy a model folder with its floating-point weights in half precision."""
    import torch

    from vlv_core.weights import read, write

    manifest = read_manifest(model)
    table: dict[str, Any] = tomllib.loads((model / MANIFEST).read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    for part in table["parts"]:
        entry = manifest.entry(part)
        if entry.file:
            tensors = read(model / entry.file, entry.sha256)
            digest = write(tensors, out / entry.file, dtype=torch.float16)
            table["parts"][part]["sha256"] = digest
        if (model / part).is_dir():
            shutil.copytree(model / part, out / part, dirs_exist_ok=True)
    write_atomically(out / MANIFEST, tomli_w.dumps(table).encode())


def copy_logs(stage: Path, to: Path) -> None:
    """The log and the loss curve of one training."""
    to.mkdir(parents=True, exist_ok=True)
    for name in LOGS:
        if (stage / name).is_file():
            shutil.copyfile(stage / name, to / name)


def write_examples(folder: Path) -> None:
    """Pictures of the world that no training has seen, and what could be said of them."""
    from PIL import Image

    spec = load_plugins().get("dataset", "scenes").spec
    dataset = resolve(spec.open)(spec.config(split="iid", first=10_000), Path())
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, sample in enumerate(dataset.samples(range(EXAMPLES))):
        name = f"{index:02d}.png"
        Image.fromarray(np.asarray(sample.load())).save(folder / name, optimize=True)
        rows.append(json.dumps({"path": name, "caption": sample.caption}))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
