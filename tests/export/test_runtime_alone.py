"""The runtime in a process of its own, where the libraries of training and exporting are absent."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError, UsageError
from vlv_core.generation import GenerationOptions
from vlv_core.loading import load
from vlv_core.specs import OpenOptions
from vlv_export import Runtime
from vlv_export.runtime import open_artefact
from vlv_export.runtime.threads import default_threads, pick_threads

ALONE = """
import json, sys

class Absent:
    # Refuses what a runtime's environment does not have.
    NAMES = {"torch", "transformers", "onnx", "onnxscript", "onnx_ir", "diffusers", "ml_dtypes"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())

from vlv_core.generation import GenerationOptions
from vlv_export import Runtime

out, picture = sys.argv[1:]
runtime = Runtime.open(out, parts="all", threads=1)
beams = GenerationOptions(max_new_tokens=10, beams=4)
z = runtime.encode(picture).z
said = {
    "greedy": runtime.caption(picture)[0].tokens,
    "beams": runtime.caption(picture, options=beams)[0].tokens,
    "mixed": runtime.caption(runtime.mix([z, z], keep=[2, 2]))[0].tokens,
    "drawn": runtime.reconstruct(picture, seed=3, steps=2).tolist(),
    "read": runtime.from_text(["a red circle."]).context.tolist(),
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}
print(json.dumps(said))
"""

Said = dict[str, Any]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "p.png"
    pixels = np.random.default_rng(8).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def alone(artefact: Path, picture: Path) -> Said:
    """What a process without those libraries says."""
    command = [sys.executable, "-c", ALONE, str(artefact), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_it_says_the_same_words(alone: Said, captioner: Captioner, picture: Path) -> None:
    beams = GenerationOptions(max_new_tokens=10, beams=4)
    z = captioner.encode(picture).z
    mixed = captioner.mix([z, z], keep=[2, 2])
    assert tuple(alone["greedy"]) == captioner.caption(picture)[0].tokens
    assert tuple(alone["beams"]) == captioner.caption(picture, options=beams)[0].tokens
    assert tuple(alone["mixed"]) == captioner.caption(mixed)[0].tokens


def test_it_draws_and_reads_the_same(alone: Said, captioner: Captioner, picture: Path) -> None:
    drawn = captioner.reconstruct(picture, seed=3, steps=2)
    assert np.abs(np.array(alone["drawn"]) - drawn).max() <= 1
    read = captioner.from_text(["a red circle."]).context
    np.testing.assert_allclose(np.array(alone["read"]), read, atol=1e-5)


def test_it_imports_the_stated_libraries_alone(alone: Said) -> None:
    declared = {"numpy", "PIL", "tokenizers", "onnxruntime", "safetensors", "pluggy"}
    needed_by_those = {"cython_runtime"}
    ours = {"vlv_core", "vlv_export", "__main__", "__mp_main__"}
    # Path files of site-packages run in every process of this environment.
    started = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    known = declared | needed_by_those | ours | set(started) | sys.stdlib_module_names
    others = {name for name in alone["modules"] if name not in known and name[0] != "_"}
    assert not others
    assert declared <= set(alone["modules"])


def test_importing_the_runtime_loads_no_heavy_library() -> None:
    code = (
        "import sys; from vlv_export import Runtime; "
        "print([m for m in ('onnxruntime', 'tokenizers', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_opener_reads_its_options(artefact: Path) -> None:
    opened = open_artefact(artefact, OpenOptions(parts="caption", threads=1))
    assert opened.variant == "onnx-fp32"
    assert opened.backend.latent_shape is None
    assert opened.backend.sessions.threads == 1
    assert open_artefact(artefact, OpenOptions(parts="all")).backend.latent_shape is not None


def test_a_folder_is_known_by_its_manifest(artefact: Path, captioner: Captioner) -> None:
    opened = load(artefact, threads=1)
    assert isinstance(opened, Runtime)
    assert (opened.domain, opened.view) == (captioner.domain, captioner.view)


def test_other_devices_are_refused(artefact: Path) -> None:
    with pytest.raises(
        UsageError, match="no variant of this artefact runs on a GPU; it has onnx-fp32"
    ):
        open_artefact(artefact, OpenOptions(device="cuda"))


def test_another_element_type_is_another_variant(artefact: Path) -> None:
    with pytest.raises(ModelError, match="no variant 'onnx-fp16'; the artefact has onnx-fp32"):
        open_artefact(artefact, OpenOptions(dtype="float16"))
    with pytest.raises(ModelError, match="no variant 'onnx-int4'"):
        open_artefact(artefact, OpenOptions(dtype="onnx-int4"))


def test_a_variant_may_be_named_in_full(artefact: Path) -> None:
    assert open_artefact(artefact, OpenOptions(dtype="onnx-fp32")).variant == "onnx-fp32"


def test_names_tell_model_content_and_variant(artefact: Path) -> None:
    name = Runtime.open(artefact, threads=1).name
    model, _, rest = name.partition("@")
    digest, _, variant = rest.partition("/")
    assert (model, variant) == ("tiny", "onnx-fp32")
    assert len(digest) == 12
    assert Runtime.open(artefact, parts="all", threads=1).name == name, "of what decides words"


def test_threads_are_the_cores_that_the_process_may_use() -> None:
    assert 1 <= default_threads() <= len(os.sched_getaffinity(0))
    assert pick_threads(None) == default_threads()
    assert pick_threads(3) == 3
    with pytest.raises(UsageError, match="threads is 0; use 1 or more"):
        pick_threads(0)


def test_hardware_threads_of_one_core_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / f"{cpu}").write_text(f"{siblings}\n")
    monkeypatch.setattr("vlv_export.runtime.threads._SIBLINGS", str(tmp_path / "{}"))
    monkeypatch.setattr("vlv_export.runtime.threads._QUOTA", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert default_threads() == 2
    (tmp_path / "quota").write_text("150000 100000\n")
    monkeypatch.setattr("vlv_export.runtime.threads._QUOTA", tmp_path / "quota")
    assert default_threads() == 1, "one and a half processors"
    (tmp_path / "quota").write_text("max 100000\n")
    assert default_threads() == 2
