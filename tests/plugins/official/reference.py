"""The tiny checkpoint of the official release, with what its own classes computed from it.

It is not part of the project: without its folder, the tests that use it are skipped.
"""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from tests.plugins.official.plugins import plugins
from tests.source import ROOT
from vlv_core.console import Session, run
from vlv_core.registry import Plugins
from vlv_plugins.official.command import command

FOLDER = ROOT.parent / "shared" / "data" / "official-vlv"
WHY = "the official release's tiny checkpoint is not on this machine"


class Ours(Session):
    """A session that sees the plugins at hand, whatever is installed."""

    def plugins(self) -> Plugins:
        return plugins()


def unpack(out: Path) -> Path:
    """Its checkpoints and model folders, by the script that comes with them."""
    runpy.run_path(str(FOLDER / "unpack.py"))["main"](out)
    return out


def expected() -> Mapping[str, NDArray[Any]]:
    return dict(np.load(FOLDER / "expected.npz"))


def pictures() -> list[Path]:
    return [FOLDER / f"image{index}.png" for index in range(4)]


def bring(checkpoint: Path, out: Path, models: Path, *options: str) -> Result:
    """`vlv import official` with the folders of `models`: florence2, sd, llm."""
    folders = {"--florence2": "florence2", "--stable-diffusion": "sd", "--llm": "llm"}
    given = [word for option, name in folders.items() for word in (option, str(models / name))]
    arguments = [str(checkpoint), "-o", str(out), *given, *options]
    return CliRunner().invoke(command, arguments, obj=Ours())


def code_of(*arguments: str) -> int:
    """The exit code that `vlv` would end with."""
    return run(command, name="vlv", args=arguments)
