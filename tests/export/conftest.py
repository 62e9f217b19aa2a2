"""What the tests of exporting share: a tiny model's parts and neutral graphs, made once."""

from pathlib import Path

import pytest

from tests.export import lowering_graphs
from vlv_core.parts import ExportPart

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Parts of a tiny model by name, and the files of their neutral graphs."""
    return lowering_graphs.tiny_parts(tmp_path_factory.mktemp("tiny"))
