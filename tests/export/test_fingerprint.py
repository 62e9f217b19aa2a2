"""Keys change with what they are made of, and with nothing else."""

from importlib.metadata import version
from pathlib import Path

import pytest

from vlv_core.errors import PluginError
from vlv_export.fingerprint import code_beside, code_of, files_of, key_of, versions
from vlv_export.manifest import FileEntry


def test_a_key_depends_on_every_fact_and_not_on_their_order() -> None:
    assert key_of(a=1, b=[2]) == key_of(b=[2], a=1)
    assert len({key_of(a=1), key_of(a=2), key_of(b=1), key_of(a=[1])}) == 4


def test_distributions_count_by_version_and_modules_by_source() -> None:
    found = code_of(["numpy", "vlv_export.fingerprint", "vlv_export.parity"])
    assert found["numpy"] == version("numpy")
    assert all(len(found[name]) == 64 for name in ("vlv_export.fingerprint", "vlv_export.parity"))
    assert versions(["numpy", "no-such-thing"]) == {"numpy": version("numpy")}


def test_what_is_neither_is_told() -> None:
    with pytest.raises(PluginError, match=r"'vlv_export\.gone' is neither"):
        code_of(["vlv_export.gone"])


def test_changed_source_is_seen_also_beside_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made_for_this_test"
    package.mkdir()
    (package / "__init__.py").write_text("class Thing:\n    pass\n")
    (package / "other.py").write_text("FIRST = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    thing = __import__("made_for_this_test").Thing
    before = code_of(["made_for_this_test"]), code_beside([thing, int])
    assert before == (code_of(["made_for_this_test"]), code_beside([thing]))
    (package / "other.py").write_text("FIRST = 2\n")
    after = code_of(["made_for_this_test"]), code_beside([thing])
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_files_are_hashed_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("abc")
    (tmp_path / ".hidden").write_text("")
    # the well-known digest of "abc" (FIPS 180-2, B.1)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files_of(tmp_path) == {"deep/file": FileEntry(sha256=digest, bytes=3)}
