"""Packages of a tiny model, run by the wheel of ONNX Runtime GenAI itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.export import genai_packages
from tests.export.conftest import Tiny
from vlv_core.captioner import Captioner
from vlv_core.errors import MissingExtra, ModelError
from vlv_export.exporters import Prover, Request, Weights
from vlv_export.genai import _prove
from vlv_export.genai._exporter import GenaiExporter
from vlv_export.genai._prove import Package, open_package

pytest.importorskip("onnxruntime_genai", reason="the wheel of ONNX Runtime GenAI is not installed")

DTYPES = ("fp32", "fp16", "int8", "int4")
LENGTH = 20
"""tokens: the tiny head holds 24, of which its prefix takes 4"""
Made = Callable[[str], Path]


@pytest.fixture(scope="module")
def made(
    tiny: Tiny, artefact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """dtype -> the tiny model's package, made once."""
    home = tmp_path_factory.mktemp("genai")

    def make(dtype: str) -> Path:
        folder = home / dtype
        if not folder.exists():
            genai_packages.make(tiny[1], artefact, folder, dtype=dtype)
        return folder

    return make


def test_the_wheel_says_what_torch_says(made: Made, captioner: Captioner) -> None:
    package = open_package(made("fp32"))
    views = genai_packages.views(20)
    pixels = genai_packages.pixels(captioner, views)
    expected = genai_packages.eager(captioner, views, length=LENGTH)
    assert len({tuple(each) for each in expected}) > 1
    batched, _ = package.said(pixels, batch=8, length=LENGTH)
    assert batched == expected
    alone, _ = package.said(pixels[:3], batch=1, length=LENGTH)
    assert alone == expected[:3]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_precision_is_read_as_plain_onnxruntime_reads_it(
    made: Made, captioner: Captioner, dtype: str
) -> None:
    from vlv_export.genai._plain import Plain

    package = open_package(made(dtype))
    pixels = genai_packages.pixels(captioner, genai_packages.views(6))
    said, _ = package.said(pixels, batch=6, length=LENGTH)
    plain = Plain(package.folder, package.placeholders)
    assert said == plain.caption(pixels, length=LENGTH, eos=package.eos)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tied_table_is_stored_once(made: Made, dtype: str) -> None:
    folder = made(dtype)
    graph = onnx.load(str(folder / "embedding.onnx"), load_external_data=False).graph
    places = {
        entry.value
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert places == {"decoder.data"}
    assert not (folder / "embedding.data").exists()


def test_nothing_but_the_package_is_left(made: Made) -> None:
    names = {path.name for path in made("fp32").iterdir()}
    graphs = {f"{part}.onnx" for part in ("vision", "embedding", "decoder")}
    settings = {f"{each}_config.json" for each in ("genai", "tokenizer", "processor")}
    data = {"vision.data", "decoder.data"}
    assert names == graphs | settings | data | {"tokenizer.json", "README.md"}


def test_more_rows_than_genai_takes_are_its_own_refusal(made: Made, captioner: Captioner) -> None:
    package = open_package(made("fp32"))
    pixels = genai_packages.pixels(captioner, genai_packages.views(33))
    with pytest.raises(ModelError, match=r"cannot run the package: .*batch_size \(33\)"):
        package.said(pixels, batch=33, length=LENGTH)


def test_a_damaged_graph_is_told(made: Made, captioner: Captioner, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(made("fp32"), folder)
    (folder / "decoder.onnx").write_bytes(b"no graph")
    pixels = genai_packages.pixels(captioner, genai_packages.views(1))
    with pytest.raises(ModelError, match=r"cannot run the package: .*decoder\.onnx"):
        open_package(folder).said(pixels, batch=1, length=LENGTH)


@pytest.mark.parametrize("text", ["{}", "no json", '{"model": []}'])
def test_a_folder_that_is_no_package_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "genai_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"genai_config\.json is not what vlv-export writes"):
        open_package(tmp_path)


def test_without_the_wheel_packages_are_made_and_not_proved(
    made: Made, captioner: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_prove, "WHEEL", "onnxruntime_genai_of_another_name")
    package = open_package(made("fp32"))
    pixels = genai_packages.pixels(captioner, genai_packages.views(1))
    with pytest.raises(MissingExtra, match="onnxruntime-genai is not installed"):
        package.said(pixels, batch=1, length=LENGTH)


def test_the_plan_names_each_precision() -> None:
    request = Request(
        model="tiny",
        dtypes=("fp32", "int4"),
        parts=("encoder", "head"),
        weights=Weights(matrices=1_000_000, rest=1_000),
    )
    exporter = GenaiExporter()
    assert isinstance(exporter, Prover)
    planned = exporter.plan(request)
    assert [each.name for each in planned] == ["genai-fp32", "genai-int4"]
    assert all(not each.not_run for each in planned)
    assert planned[1].bytes < planned[0].bytes / 3
    assert "vlv_export.genai" in exporter.sources()


def test_the_entry_tells_the_cache_and_the_graphs(
    tiny: Tiny, artefact: Path, tmp_path: Path
) -> None:
    entry = genai_packages.make(tiny[1], artefact, tmp_path / "p", dtype="fp16")
    # One layer of two heads, 8 numbers wide, keys and values of 2 bytes.
    assert entry.kv == {"capacity": 24, "dtype": "float16", "bytes_per_token": 2 * 2 * 8 * 2}
    assert set(entry.graphs) == {"vision", "embedding", "decoder"}
    assert entry.graph("vision").outputs[0].shape == ("rows", 16)
    config = json.loads((tmp_path / "p" / "genai_config.json").read_text())["model"]
    assert config["decoder"]["num_key_value_heads"] == 2
    assert config["vision"]["num_visual_tokens"] == 4
    assert config["image_token_id"] == config["vocab_size"] - 3 == 512


def test_captions_stop_at_the_first_end_of_text() -> None:
    package = Package(Path(), None, (7, 9))  # type: ignore[arg-type]
    assert package._caption([1, 2, 9, 7, 3]) == [1, 2]
    assert package._caption([1, 2]) == [1, 2]
