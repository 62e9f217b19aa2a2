"""Artefacts changed at random: a refusal in a sentence, or no harm; nothing else, and no hang."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.export import tiny_artefact
from vlv_core.errors import VlvError
from vlv_core.generation import GenerationOptions
from vlv_export import Runtime

FUZZ = settings(
    max_examples=40,
    deadline=20_000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
PICTURE = np.zeros((64, 64, 3), np.uint8)
SHORT = GenerationOptions(max_new_tokens=3)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 7, 10**30, 0.5, "", "x", "../x", "a\0b", "onnx-fp32"),
    *([], [0], {}, {"a": 1}, [["batch"]], "float16", "pending", "variants/onnx-fp32/head.data"),
)


@pytest.fixture(scope="module")
def whole(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(artefact, tmp_path_factory.mktemp("fuzz") / "OUT")


@pytest.fixture
def out(whole: Path) -> Iterator[Path]:
    """An artefact that each example leaves as it was."""
    kept = (whole / "manifest.json").read_bytes()
    yield whole
    (whole / "manifest.json").write_bytes(kept)


def use(out: Path) -> str:
    """ "works", or the sentence of the refusal; any other exception fails the test."""
    try:
        runtime = Runtime.open(out, parts="all", threads=1)
        runtime.caption(PICTURE, options=SHORT)
    except VlvError as error:
        assert error.message
        assert "Traceback" not in error.message
        return error.message
    return "works"


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a path; without the value if it is `...`."""
    copy = json.loads(json.dumps(data))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return copy


@FUZZ
@given(data=st.data())
def test_any_value_of_the_manifest(out: Path, data: st.DataObject) -> None:
    kept = json.loads((out / "manifest.json").read_text())
    # One of each kind of place: a graph has hundreds of tensors that are alike.
    path = data.draw(st.sampled_from(sorted(places(kept), key=lambda each: (len(each), str(each)))))
    value = data.draw(st.sampled_from([..., *VALUES]))
    (out / "manifest.json").write_text(json.dumps(replaced(kept, path, value)))
    use(out)
    (out / "manifest.json").write_text(json.dumps(kept))


@FUZZ
@given(data=st.data())
def test_values_near_the_top_of_the_manifest(out: Path, data: st.DataObject) -> None:
    kept = json.loads((out / "manifest.json").read_text())
    near = [path for path in places(kept) if len(path) <= 5 and "inputs" not in path]
    path = data.draw(st.sampled_from(near))
    value = data.draw(st.sampled_from([..., *VALUES]))
    (out / "manifest.json").write_text(json.dumps(replaced(kept, path, value)))
    use(out)
    (out / "manifest.json").write_text(json.dumps(kept))


@FUZZ
@given(at=st.floats(0, 0.9999), byte=st.integers(0, 255), cut=st.booleans())
def test_any_byte_of_the_manifest(out: Path, at: float, byte: int, cut: bool) -> None:
    kept = (out / "manifest.json").read_bytes()
    place = int(at * len(kept))
    rest = b"" if cut else bytes([byte]) + kept[place + 1 :]
    (out / "manifest.json").write_bytes(kept[:place] + rest)
    said = use(out)
    assert not cut or said != "works"
    (out / "manifest.json").write_bytes(kept)


SMALL = ("generation.json", "preprocess.json", "tokenizer.json", "unconditional.safetensors")
LARGE = tuple(
    f"variants/onnx-fp32/{part}.{kind}"
    for part in ("encoder", "head", "denoiser")
    for kind in ("onnx", "data")
)


@pytest.mark.parametrize("told", [True, False], ids=["listed", "unlisted"])
@FUZZ
@given(name=st.sampled_from([*SMALL, *LARGE]), at=st.floats(0, 0.9999))
def test_files_cut_anywhere(out: Path, told: bool, name: str, at: float) -> None:
    """Also where the manifest says that this is how they are meant to be."""
    file, kept = out / name, (out / name).read_bytes()
    os.truncate(file, int(at * len(kept)))
    if told:
        tiny_artefact.relist(out)
    try:
        said = use(out)
    finally:
        file.write_bytes(kept)
        tiny_artefact.relist(out)
    assert said != "works" or (told and file.suffix in (".data", ".safetensors")), name
    assert told or "bytes; the manifest says" in said


@FUZZ
@given(data=st.data())
def test_any_value_of_the_small_files(out: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["generation.json", "preprocess.json"]))
    text = (out / name).read_text()
    kept = json.loads(text)
    path = data.draw(st.sampled_from(list(places(kept))))
    value = data.draw(st.sampled_from([..., *VALUES]))
    (out / name).write_text(json.dumps(replaced(kept, path, value)))
    tiny_artefact.relist(out)
    use(out)
    (out / name).write_text(text)
    tiny_artefact.relist(out)
