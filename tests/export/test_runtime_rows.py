"""Quantised variants round activations as they come: a picture's answer is still its own."""

from pathlib import Path

import numpy as np
import pytest

from tests.export import tiny_artefact
from vlv_core.captioner import Captioner
from vlv_core.parts import ExportPart
from vlv_export import Runtime

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]


@pytest.fixture(params=["int8", "int4"])
def artefact(
    request: pytest.FixtureRequest, tiny: Tiny, captioner: Captioner, tmp_path: Path
) -> Path:
    neutral = {part: tiny[1][part] for part in ("encoder", "head")}
    return tiny_artefact.make(captioner, neutral, tmp_path / "OUT", dtypes=(request.param,))


def test_a_picture_does_not_depend_on_its_neighbours(artefact: Path) -> None:
    """One faint, one bright: rounded together, the bright one's range would coarsen the faint."""
    generator = np.random.default_rng(4)
    pictures = [generator.integers(0, high, (64, 64, 3), dtype=np.uint8) for high in (3, 256)]
    runtime = Runtime.open(artefact)
    together = runtime.encode(pictures)
    for row, picture in enumerate(pictures):
        alone = runtime.encode([picture])
        np.testing.assert_allclose(together.z[row], alone.z[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(together.prefix[row], alone.prefix[0], rtol=1e-5, atol=1e-5)
