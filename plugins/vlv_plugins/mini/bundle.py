"""Turn finished runs into the bundled model: weights in half precision, and what made them.

    python -m vlv_plugins.mini.bundle runs/mini --pretraining runs/pretrain-s

MODEL/training holds the logs and curves of every stage; MODEL/examples pictures for the demo.
"""

import json
import shutil
from pathlib import Path

import click
import numpy as np

from vlv_core.model_folder import load_model, read_manifest, save_model
from vlv_core.plugins import load_plugins
from vlv_core.specs import resolve

BUNDLED = Path(__file__).with_name("model")
EXAMPLES = 24
LOGS = ("metrics.jsonl", "loss.png")


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--pretraining", type=click.Path(exists=True, file_okay=False, path_type=Path),
              required=True, help="Run folder of the text-to-image model.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), default=BUNDLED, help="Model folder.")
def main(run: Path, pretraining: Path, out: Path) -> None:
    """Bundle the model of RUN."""
    import torch

    manifest = read_manifest(run / "model")
    model, choices = load_model(run / "model", plugins=load_plugins())
    save_model(
        model,
        out,
        choices=choices,
        name=manifest.name,
        licence=manifest.licence,
        domain=manifest.domain,
        training=manifest.training,
        dtype=torch.float16,
    )
    for stage in (run / "stage1", run / "stage2", pretraining / "vae", pretraining / "t2i"):
        copy_logs(stage, out / "training" / stage.name)
    write_examples(out / "examples")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"{out}: {size / 1e6:.1f} MB")


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
