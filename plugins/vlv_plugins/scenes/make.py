"""Write scenes as files to look at: `python -m vlv_plugins.scenes.make OUT --world S`."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
from PIL import Image

from vlv_core.errors import UsageError
from vlv_plugins.scenes.captions import caption
from vlv_plugins.scenes.pictures import pictures
from vlv_plugins.scenes.splits import scenes
from vlv_plugins.scenes.templates import REGISTERS, Register
from vlv_plugins.scenes.world import WORLDS, World


def make(
    folder: Path, *, world: World, split: str, indices: Sequence[int], register: Register
) -> Path:
    """Write pictures as `000000.png`, ... and `captions.jsonl`, one {path, caption, scene} a line.

    Returns the path of `captions.jsonl`, which is written last. Raises UsageError for an unknown
    split or register, a negative index, and a folder that already has captions.
    """
    listing = folder / "captions.jsonl"
    if listing.exists():
        raise UsageError(f"{str(listing)!r} exists already; choose another folder")
    drawn, shown = scenes(world, split, indices), pictures(world, split, indices)
    captions = [
        caption(scene, register, variant=index) for scene, index in zip(drawn, indices, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, scene, picture, words in zip(indices, drawn, shown, captions, strict=True):
        path = folder / f"{index:06d}.png"
        Image.fromarray(picture).save(path)
        rows.append({"path": path.name, "caption": words, "scene": json.loads(scene.to_json())})
    unfinished = listing.with_suffix(".partial")
    unfinished.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return unfinished.rename(listing)


@click.command(help="Write scenes of ShapeScape-64 as pictures with captions to the folder OUT.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--world", type=click.Choice(tuple(WORLDS)), default="S", show_default=True)
@click.option("--split", default="iid", show_default=True, help="Which scenes.")
@click.option("--register", type=click.Choice(REGISTERS), default="dense", show_default=True)
@click.option("--count", default=16, show_default=True, help="How many scenes.")
def main(*, out: Path, world: str, split: str, register: Register, count: int) -> None:
    """Command line of `make`."""
    try:
        listing = make(
            out, world=WORLDS[world], split=split, indices=range(count), register=register
        )
    except UsageError as error:
        raise click.UsageError(error.message) from error
    click.echo(f"{count} pictures and {listing}")


if __name__ == "__main__":
    main()
