"""The bundled model as packages: its own words by the wheel, and the parity level of `--genai`."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.export import genai_packages
from vlv_core.captioner import Captioner
from vlv_core.loading import find_model, load
from vlv_core.model_parts import export_parts
from vlv_core.plugins import load_plugins
from vlv_export._assets import write_assets
from vlv_export._capture import capture
from vlv_export._golden import write_golden
from vlv_export.genai import _prove
from vlv_export.genai._exporter import GenaiExporter
from vlv_export.genai._prove import compare, open_package
from vlv_export.golden import Golden
from vlv_export.manifest import VariantEntry

pytest.importorskip("onnxruntime_genai", reason="the wheel of ONNX Runtime GenAI is not installed")

PLUGINS = load_plugins(third_party=False)
DTYPES = ("fp32", "int4")
PARTED = "captions that part from the eager model's without a near-tie, share"
Packages = dict[str, Path]


@pytest.fixture(scope="module")
def mini() -> Captioner:
    return load("mini", device="cpu", plugins=PLUGINS)


@pytest.fixture(scope="module")
def entries() -> dict[str, VariantEntry]:
    """What the builds answered, by dtype; filled by `packages`."""
    return {}


@pytest.fixture(scope="module")
def golden(mini: Captioner, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Golden captions of the bundled pictures."""
    return write_golden(
        mini.backend.model,  # type: ignore[attr-defined]
        [],
        mini,
        tmp_path_factory.mktemp("golden") / "golden.safetensors",
        pictures=_examples(),
        seed=0,
    )


@pytest.fixture(scope="module")
def packages(
    mini: Captioner,
    entries: dict[str, VariantEntry],
    tmp_path_factory: pytest.TempPathFactory,
) -> Packages:
    home = tmp_path_factory.mktemp("mini")
    graphs = {}
    for part in export_parts(mini.backend.model, reconstruct=False):  # type: ignore[attr-defined]
        (home / part.name).mkdir()
        graphs[part.name] = home / part.name / f"{part.name}.onnx"
        ir.save(capture(part), graphs[part.name], external_data=f"{part.name}.data")
    (home / "assets").mkdir()
    write_assets(mini, home / "assets", reconstruct=False)
    for dtype in DTYPES:
        folder = home / "OUT" / "variants" / f"genai-{dtype}"
        entries[dtype] = genai_packages.make(graphs, home / "assets", folder, dtype=dtype)
    return {dtype: home / "OUT" / "variants" / f"genai-{dtype}" for dtype in DTYPES}


def test_the_wheel_says_the_model_s_own_words(mini: Captioner, packages: Packages) -> None:
    package, pictures = open_package(packages["fp32"]), _examples()
    captions = mini.caption(list(pictures))
    tokens = [list(each.tokens) for each in captions]
    assert len(pictures) >= 16
    said, texts = package.said(pictures, batch=len(pictures), length=80, words=tokens)
    assert said == tokens
    assert texts == [each.text for each in captions]
    alone, _ = package.said(pictures[:16], batch=1, length=80)
    assert alone == tokens[:16]


def test_the_readme_s_programs_run_as_they_stand(
    mini: Captioner, packages: Packages, tmp_path: Path
) -> None:
    folder, pictures = tmp_path / "package", _examples()[:3]
    shutil.copytree(packages["fp32"], folder)
    Image.fromarray(pictures[1]).save(folder / "picture.png")
    np.save(folder / "pixels.npy", pictures)
    texts = [caption.text for caption in mini.caption(list(pictures))]
    picture, pixels = genai_packages.scripts(folder)
    assert len(picture.splitlines()) <= 15
    assert _run(picture, folder) == f"{texts[1]}\n"
    assert _run(pixels, folder) == "".join(f"{text}\n" for text in texts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_level_passes(packages: Packages, golden: Golden, dtype: str) -> None:
    level = compare(packages[dtype], dtype=dtype, golden=golden)
    assert level.state == "passed", [check.sentence() for check in level.failures()]
    shares = {check.figure: check for check in level.checks}
    assert shares["captions of the eager model"].value >= (1.0 if dtype == "fp32" else 0.5)
    assert shares[PARTED].judged == (dtype == "fp32")


def test_captions_of_other_pictures_fail_the_level(packages: Packages, golden: Golden) -> None:
    other = replace(golden, pixels=np.roll(golden.pixels, 1, axis=0))
    level = compare(packages["fp32"], dtype="fp32", golden=other)
    assert [check.figure for check in level.failures()] == [PARTED]
    assert level.failures()[0].value > 0.5


def test_a_near_tie_of_the_eager_model_explains_a_caption(
    packages: Packages, golden: Golden
) -> None:
    """Had the eager model said the second word at row 0's first place, by a hair, all is well."""
    facts, ids = golden.facts, golden.top_ids.copy()
    chances = golden.top_log_probs.copy()
    assert ids[0, 0] == facts.greedy[0].tokens[0]
    ids[0, [0, 1]] = ids[0, [1, 0]]
    other = replace(facts.greedy[0], tokens=(int(ids[0, 0]), *facts.greedy[0].tokens[1:]))
    changed = replace(facts, greedy=(other, *facts.greedy[1:]))
    for gap, failures in ((1e-5, []), (1e-3, [PARTED])):
        chances[0, 1] = chances[0, 0] - gap
        tied = replace(golden, facts=changed, top_ids=ids, top_log_probs=chances)
        level = compare(packages["fp32"], dtype="fp32", golden=tied)
        assert [check.figure for check in level.failures()] == failures


def test_another_tokenizer_fails_the_level(
    packages: Packages, golden: Golden, tmp_path: Path
) -> None:
    folder = tmp_path / "package"
    shutil.copytree(packages["fp32"], folder)
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    vocab = data["model"]["vocab"]
    large, small = vocab["\u0120large"], vocab["\u0120medium"]
    swap = {large: small, small: large}
    data["model"]["vocab"] = {text: swap.get(each, each) for text, each in vocab.items()}
    path.write_text(json.dumps(data), encoding="utf-8")
    level = compare(folder, dtype="fp32", golden=golden)
    assert [check.figure for check in level.failures()] == ["texts"]


def test_the_report_is_of_one_level(
    packages: Packages, golden: Golden, entries: dict[str, VariantEntry]
) -> None:
    folder = packages["fp32"]
    graphs = {
        part: replace(graph, file=f"variants/genai-fp32/{graph.file}")
        for part, graph in entries["fp32"].graphs.items()
    }
    entry = replace(entries["fp32"], graphs=graphs)
    report = GenaiExporter().prove(folder.parents[1], "genai-fp32", entry, golden=golden)
    assert report.verdict == "passed"
    assert [level.level for level in report.levels] == ["L3"]


def test_without_the_wheel_the_level_is_not_run(
    packages: Packages, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_prove, "WHEEL", "onnxruntime_genai_of_another_name")
    level = compare(packages["fp32"], dtype="fp32", golden=golden)
    assert (level.state, level.reason) == ("not run", "onnxruntime-genai is not installed")


def _examples() -> NDArray[np.uint8]:
    """The pictures that come with the model, (N, 64, 64, 3)."""
    paths = sorted((find_model("mini", plugins=PLUGINS) / "examples").glob("*.png"))
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def _run(program: str, folder: Path) -> str:
    """What a program prints where nothing of ours, and no torch, can be imported."""
    ours = "import sys\nfor name in ('vlv_core', 'vlv_export', 'torch'): sys.modules[name] = None\n"
    ended = subprocess.run(
        [sys.executable, "-c", ours + program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
