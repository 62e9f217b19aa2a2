"""A folder on sys.path into which a test installs real little distributions."""

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HEADER = "from vlv_core import *\n"


@dataclass
class Site:
    """Like site-packages: modules and `.dist-info` folders."""

    path: Path

    @staticmethod
    def encoders(*names: str) -> str:
        """Source of a hook that offers encoders of these names."""
        specs = [f"EncoderSpec(name={name!r}, build='m:b', summary='s')" for name in names]
        return f"@hookimpl\ndef vlv_encoders():\n    return [{', '.join(specs)}]\n"

    def module(self, name: str, source: str) -> None:
        (self.path / f"{name}.py").write_text(HEADER + textwrap.dedent(source))

    def distribution(
        self, name: str, entry_points: str, *, version: str = "1.0", metadata: str | None = None
    ) -> Path:
        folder = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(text if metadata is None else metadata)
        (folder / "entry_points.txt").write_text(f"[vlv]\n{textwrap.dedent(entry_points)}")
        return folder

    def plugin(self, name: str, source: str, *, version: str = "1.0") -> str:
        """A distribution `vlv-NAME` with one plugin NAME in one module; its name is returned."""
        module = f"vlv_test_{name.replace('-', '_')}"
        self.module(module, source)
        self.distribution(f"vlv-{name}", f"{name} = {module}\n", version=version)
        return f"vlv-{name}"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site whose modules are forgotten afterwards."""
    monkeypatch.delenv("VLV_PLUGINS", raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
