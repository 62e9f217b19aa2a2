"""What a command waits for before its first caption: which libraries and modules must stay out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOREIGN = ("transformers", "diffusers", "accelerate", "peft", "onnx", "onnxruntime", "matplotlib")
COMPILER = ("torch._dynamo", "torch._inductor", "torch.onnx", "sympy")
"""what torch imports by itself where it takes a detour through its compiler: seconds"""
UNUSED = ("numpy.random", "PIL.TiffImagePlugin", "vlv_plugins.scenes.world")
OPEN = "from vlv_core.pictures import open_picture\nassert open_picture(sys.argv[1]).size == (8, 8)"


def imported(code: str, *args: str, names: tuple[str, ...]) -> str:
    """Those of `names` that a fresh process has imported after `code`."""
    code = f"import sys\n{code}\nprint([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "p.png"
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(path)
    return path


def test_a_first_caption_of_mini_imports_no_more_than_it_needs(picture: Path) -> None:
    code = (
        "from vlv_core.loading import load\n"
        "model = load('mini', device='cpu', threads=1)\n"
        "assert model.caption(sys.argv[1])[0].tokens"
    )
    names = (*FOREIGN, *COMPILER, *UNUSED, "torch")
    assert imported(code, str(picture), names=names) == "['torch']"


def test_discovery_imports_no_world_and_no_library() -> None:
    code = "from vlv_core.plugins import load_plugins\nassert load_plugins().all('evaluator')"
    names = (*FOREIGN, *COMPILER, *UNUSED, "torch", "PIL", "vlv_plugins.scenes")
    assert imported(code, names=names) == "['vlv_plugins.scenes']"


@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_usual_pictures_open_without_the_readers_of_others(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path)
    names = ("PIL.TiffImagePlugin", "PIL.WebPImagePlugin", "PIL.EpsImagePlugin")
    assert imported(OPEN, str(path), names=names) == "[]"


@pytest.mark.parametrize("suffix", ["webp", "tiff", "gif", "bmp", "ppm"])
def test_other_pictures_open_in_a_fresh_process_too(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path)
    assert imported(OPEN, str(path), names=("PIL.Image",)) == "['PIL.Image']"
