"""Large 8-bit parts round by the range of all they are given: their rows are run one at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.export import tiny_artefact
from vlv_core.captioner import Captioner
from vlv_core.parts import ExportPart
from vlv_export import Runtime
from vlv_export.lowering import _quantise
from vlv_export.manifest import read_manifest
from vlv_export.runtime import sessions

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]


@pytest.fixture
def large(
    tiny: Tiny, captioner: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An int8 artefact whose parts all count as large."""
    monkeypatch.setattr(_quantise, "LARGE", 0)
    neutral = {part: tiny[1][part] for part in ("encoder", "head")}
    return tiny_artefact.make(captioner, neutral, tmp_path / "OUT", dtypes=("int8",))


def pictures() -> list[np.ndarray]:
    """One faint and one bright: together, the bright one's range would coarsen the faint one."""
    generator = np.random.default_rng(4)
    return [
        generator.integers(0, high, (64, 64, 3), dtype=np.uint8) for high in (3, 256)
    ]  # fmt: skip


def test_a_large_part_says_so_and_a_small_one_does_not(tiny: Tiny, large: Path) -> None:
    graphs = read_manifest(large).variant(None)
    assert graphs.graph("encoder").one_row
    assert not graphs.graph("head").one_row


def test_a_row_does_not_depend_on_its_neighbours(large: Path) -> None:
    runtime = Runtime.open(large)
    together = runtime.encode(pictures())
    for row, picture in enumerate(pictures()):
        alone = runtime.encode([picture])
        assert np.array_equal(together.z[row], alone.z[0])
        assert np.array_equal(together.prefix[row], alone.prefix[0])


def test_without_that_it_would(large: Path) -> None:
    """The reason for the rule, so that it can be dropped when it no longer holds."""
    runtime = Runtime.open(large)
    opened: sessions.Sessions = runtime.backend.sessions
    entry = replace(opened.variant.graph("encoder"), one_row=False)
    opened.variant.graphs["encoder"] = entry
    together, alone = runtime.encode(pictures()), runtime.encode(pictures()[:1])
    assert not np.array_equal(together.z[0], alone.z[0])
