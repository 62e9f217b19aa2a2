"""`vlv`: its table, its start-up, and `vlv plugins`, which lists everything and exits 0."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vlv_core.cli import app
from vlv_core.cli._app import TABLE
from vlv_core.console import run


def vlv(*args: str) -> Result:
    return CliRunner().invoke(app, args, prog_name="vlv")


def python(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *args]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def listed(*args: str) -> dict[str, Any]:
    result = vlv("plugins", "--json", *args)
    assert result.exit_code == 0, result.output
    table: dict[str, Any] = json.loads(result.stdout)
    return table


def test_help_lists_every_subcommand() -> None:
    result = vlv("--help")
    assert result.exit_code == 0
    for name, lazy in TABLE.items():
        assert name in result.output and lazy.summary[:40] in result.output
    assert "Examples:" in result.output


def test_version() -> None:
    result = vlv("--version")
    assert (result.exit_code, result.output) == (0, f"vlv {version('vlv')}\n")


def test_json_rows() -> None:
    [row] = [row for row in listed()["plugins"] if row["name"] == "query"]
    assert row == {
        "name": "query",
        "role": "bottleneck",
        "owner": "vlv",
        "version": version("vlv"),
        "plugin": "core",
        "summary": "learned queries that read the tokens by causal cross-attention",
        "available": True,
        "reason": None,
        "ambiguous": [],
    }


def test_a_missing_library_is_told_with_its_pip_line(site: Any) -> None:
    spec = "EncoderSpec(name='far', build='m:b', summary='s', requires=('no_lib',), extra='far')"
    site.plugin("far", f"@hookimpl\ndef vlv_encoders():\n    return [{spec}]\n")
    [row] = [row for row in listed()["plugins"] if row["name"] == "far"]
    assert (row["available"], row["reason"]) == (False, "needs no_lib: pip install 'vlv[far]'")
    assert "needs no_lib: pip install 'vlv[far]'" in vlv("plugins").output, "no markup eaten"


def test_two_owners_of_one_name_are_both_listed_with_the_way_out(site: Any) -> None:
    for name in ("left", "right"):
        site.plugin(name, site.encoders("shared"))
    rows = [row for row in listed()["plugins"] if row["name"] == "shared"]
    assert [row["owner"] for row in rows] == ["vlv-left", "vlv-right"]
    assert rows[0]["ambiguous"] == ["--block vlv-left", "--block vlv-right"]
    assert "ambiguous: --block vlv-left or --block vlv-right" in vlv("plugins").output
    rows = [row for row in listed("--block", "vlv-left")["plugins"] if row["name"] == "shared"]
    assert [(row["owner"], row["ambiguous"]) for row in rows] == [("vlv-right", [])]


def test_broken_plugins_are_listed_and_hide_nobody(site: Any) -> None:
    site.plugin("bad", "import no_such_library\n")
    site.plugin("half", "@hookimpl\ndef vlv_haeds():\n    return []\n")
    found = listed()
    reasons = {row["owner"]: row["reason"] for row in found["broken"]}
    assert "No module named 'no_such_library'" in reasons["vlv-bad"]
    assert "did you mean 'vlv_heads'?" in reasons["vlv-half"]
    assert "query" in [row["name"] for row in found["plugins"]]
    result = vlv("plugins")
    assert result.exit_code == 0
    assert "Broken:" in result.output and "vlv-bad 1.0" in result.output


def test_a_local_file_that_is_broken_is_only_listed(tmp_path: Path) -> None:
    [record] = [row for row in listed("--plugin", "absent.py")["broken"] if not row["version"]]
    assert record == {
        "owner": "absent.py",
        "version": "",
        "plugin": "absent",
        "reason": "cannot be imported: no such file",
    }


def test_what_is_left_out_is_told(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plugin("third", site.encoders("third"))
    monkeypatch.setenv("VLV_PLUGINS", "")
    assert "vlv-third 1.0 (plugin 'third')" in listed()["left_out"]
    assert "left out: vlv-third 1.0 (plugin 'third')" in vlv("plugins").output


def test_a_block_that_matches_nothing_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, name="vlv", args=["plugins", "--block", "vlb"]) == 2
    assert "error: --block 'vlb' matches no plugin; did you mean 'vlv'?" in capsys.readouterr().err


TORCHLESS = "import sys; sys.modules['torch'] = None; from vlv_core.cli import main; main()"


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["plugins"], ["plugins", "--json"]])
def test_without_torch(args: list[str]) -> None:
    done = python("-c", TORCHLESS, *args)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_help_imports_little() -> None:
    code = (
        "import sys; sys.argv = ['vlv', '--help']\n"
        "import atexit; from vlv_core.cli import main\n"
        "heavy = ('numpy', 'PIL', 'rich', 'torch', 'asyncio')\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules]))\n"
        "main()"
    )
    done = python("-c", code)
    assert done.returncode == 0 and done.stdout.endswith("[]\n"), done


def test_help_takes_less_than_300_ms() -> None:
    # the processor's time of the quickest of five, because a busy machine's clock proves nothing
    code = (
        "import os, subprocess, sys\n"
        "for _ in range(5):\n"
        "    before = os.times()\n"
        "    args = [sys.executable, '-m', 'vlv_core', '--help']\n"
        "    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)\n"
        "    after = os.times()\n"
        "    print(after.children_user + after.children_system\n"
        "          - before.children_user - before.children_system)"
    )
    done = python("-c", code)
    assert min(map(float, done.stdout.split())) < 0.3


def test_python_m() -> None:
    done = python("-m", "vlv_core", "plugins", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["plugins"]
