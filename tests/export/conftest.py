"""What the tests of exporting share: a tiny model's parts and neutral graphs, made once."""

import shutil
from pathlib import Path

import pytest

from tests.export import engine_artefact, engine_graphs, lowering_graphs, tiny_artefact, tiny_golden
from vlv_core.captioner import Captioner
from vlv_core.loading import load
from vlv_core.parts import ExportPart
from vlv_export.tensorrt._exporter import RtxExporter

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Parts of a tiny model by name, and the files of their neutral graphs."""
    return lowering_graphs.tiny_parts(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def captioner(tiny: Tiny) -> Captioner:
    """The tiny model in torch."""
    return load(tiny[1]["encoder"].parent / "model", parts="all")


@pytest.fixture(scope="session")
def artefact(tiny: Tiny, captioner: Captioner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's artefact of one portable variant; copy it before changing it."""
    return tiny_artefact.make(captioner, tiny[1], tmp_path_factory.mktemp("artefact") / "OUT")


@pytest.fixture(scope="session")
def proven(tiny: Tiny, captioner: Captioner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's artefact of several variants with golden values; copy it before changing."""
    out = tmp_path_factory.mktemp("proven") / "OUT"
    dtypes = ("fp32", "fp16", "bf16", "int8")
    tiny_artefact.make(captioner, tiny[1], out, dtypes=dtypes)
    tiny_golden.write(captioner, list(tiny[0].values()), out)
    tiny_artefact.relist(out)
    return out


@pytest.fixture(scope="session")
def with_engines(tiny: Tiny, proven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's artefact with fp16 graphs for engines, and engines for sm86 built of them by
    tensorrt-rtx; copy it before changing it."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    out = tiny_artefact.copy(proven, tmp_path_factory.mktemp("with_engines"))
    engine_artefact.add(out, RtxExporter({"sm": "86"}), *tiny)
    return out


@pytest.fixture(scope="session")
def compiled(
    proven: Path, tiny: Tiny, captioner: Captioner, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The artefact with golden values, the graphs that engines are made from, and an engine
    variant whose files are none; copy it before changing."""
    out = Path(shutil.copytree(proven, tmp_path_factory.mktemp("compiled") / "OUT"))
    engine_graphs.add(out, tiny[1], dtypes=("fp32", "fp16", "bf16"))
    engine_graphs.add_yardstick(out, captioner)
    engine_graphs.pretend_engine(out)
    return out
