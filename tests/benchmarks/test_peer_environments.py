"""Peers in environments of their own: what is installed, and what their weights' files must say."""

import json
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.source import ROOT
from vlv_benchmarks.cli import peers as cli
from vlv_benchmarks.peers import PEERS, making, named, python_of, refusal, versions
from vlv_benchmarks.peers._head import for_transformers_4
from vlv_benchmarks.peers.making import set_up
from vlv_core.errors import VlvError

OWN = [peer for peer in PEERS if peer.packages]


@pytest.mark.parametrize("peer", OWN, ids=lambda peer: peer.name)
def test_what_decides_a_figure_is_pinned(peer: Any) -> None:
    pins = dict(re.split("==", each, maxsplit=1) for each in peer.packages if "==" in each)
    names = {name.partition("[")[0] for name in pins}
    # vLLM itself pins the one torch that it was built for
    assert names == {"vllm"} if peer.gpu else {"torch", "transformers"} < names
    assert peer.shows[0] in names
    assert all(re.fullmatch(r"[0-9.]+", version) for version in pins.values())


@pytest.mark.parametrize("peer", [each for each in PEERS if not each.packages], ids=str)
def test_a_peer_without_an_environment_says_what_pip_is_given(
    peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlv_benchmarks.peers.find_spec", lambda name: None)
    missing = ", ".join(peer.requires)
    assert refusal(peer) == f"{missing} not installed: pip install {peer.install}"
    extra = re.fullmatch(r"'vlv\[(\w+)\]'", peer.install)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    given = pyproject["project"]["optional-dependencies"][extra[1]] if extra else [peer.install]
    assert any(each.startswith(peer.shows[0]) for each in given)


def test_the_old_stack_stays_old() -> None:
    pins = dict(each.split("==") for each in named("optimum-onnx").packages if "==" in each)
    assert tuple(map(int, pins["transformers"].split("."))) < (4, 58)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """Commands that setting up would run; they leave an interpreter and nothing else."""
    commands: list[tuple[str, ...]] = []

    def run(say: Any, *command: str) -> None:
        commands.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True, exist_ok=True)
            (Path(command[-1]) / "bin" / "python").touch()

    monkeypatch.setattr(making, "_run", run)
    monkeypatch.setattr(making, "_looked_into", lambda peer, python: {peer.shows[0]: "1.2"})
    for module in ("peers", "peers.making"):
        monkeypatch.setattr(f"vlv_benchmarks.{module}.environments", lambda: tmp_path)
    return commands


@pytest.mark.parametrize("name", ["openvino-genai", "optimum-onnx"])
def test_set_up_takes_away_what_a_peer_breaks_on(name: str, ran: list[tuple[str, ...]]) -> None:
    done = CliRunner().invoke(cli.command, ["setup", name])
    assert done.exit_code == 0, done.output
    removed = [command[-1] for command in ran if "uninstall" in command]
    assert removed == list(named(name).unwanted)
    installs = [i for i, command in enumerate(ran) if "install" in command]
    assert set(named(name).packages) <= set(ran[installs[0]])
    assert "--no-deps" in ran[installs[-1]]


def test_an_environment_that_was_set_up_is_ready_and_in_no_repository(
    ran: list[tuple[str, ...]], tmp_path: Path
) -> None:
    peer = named("optimum-onnx")
    assert refusal(peer) == "not set up: vlv-bench peers setup optimum-onnx"
    assert set_up(peer, say=print) == tmp_path / "optimum-onnx" / "bin" / "python"
    assert refusal(peer) == "" and python_of(peer)
    assert versions(peer) == {"optimum-onnx": "1.2"}
    assert (tmp_path / ".gitignore").read_text() == "*\n"
    newer = replace(peer, packages=("optimum-onnx==9",))
    assert refusal(newer) == (
        "set up with other versions than are due now: vlv-bench peers setup optimum-onnx"
    )
    assert python_of(newer) == "" and versions(newer) == {}


@pytest.mark.parametrize("breaks", ["venv", "install", "uninstall", "look"])
def test_what_stopped_halfway_is_not_taken_for_whole(
    breaks: str, ran: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = named("openvino-genai")
    set_up(peer, say=print)
    whole = making._run

    def stopped(say: Any, *command: str) -> None:
        if breaks in command:
            raise KeyboardInterrupt
        whole(say, *command)

    def looked(peer: Any, python: str) -> dict[str, str]:
        raise VlvError("what was installed cannot be imported")

    monkeypatch.setattr(making, "_run", stopped)
    if breaks == "look":
        monkeypatch.setattr(making, "_looked_into", looked)
    with pytest.raises((KeyboardInterrupt, VlvError)):
        set_up(peer, say=print)
    command = "vlv-bench peers setup openvino-genai"
    assert refusal(peer) == f"its setting up was not finished: {command}"
    assert python_of(peer) == "" and versions(peer) == {}


def test_pips_progress_is_told_and_its_last_lines_if_it_fails() -> None:
    told: list[str] = []
    say = "print('Collecting a'); print('noise'); print('Downloading b')"
    making._run(told.append, sys.executable, "-c", say)
    assert [line.split("s  ")[1] for line in told] == ["Collecting a", "Downloading b"]
    fail = "import sys; [print(i) for i in range(99)]; sys.exit('no matching distribution')"
    with pytest.raises(VlvError, match="no matching distribution") as caught:
        making._run(told.append, sys.executable, "-c", fail)
    lines = caught.value.message.splitlines()
    assert "(code 1)" in lines[0] and len(lines) == 1 + making.KEPT and caught.value.hint
    with pytest.raises(VlvError, match=r"the environment cannot be made: .*No such file"):
        making._run(told.append, "/nowhere/python")


def test_what_was_installed_is_imported_before_it_counts() -> None:
    peer = replace(named("llama-cpp"), requires=("json",), shows=("numpy",))
    assert making._looked_into(peer, sys.executable) == {"numpy": np.__version__}
    with pytest.raises(VlvError, match=r"(?s)cannot be imported:.*No module named 'absent_one'"):
        making._looked_into(replace(peer, requires=("absent_one",)), sys.executable)


@pytest.mark.parametrize(
    ("said", "due"),
    [
        ({"rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}}, 100000.0),
        ({"hidden_size": 4}, None),
    ],
)
def test_the_rotary_base_is_written_where_version_4_reads_it(
    tmp_path: Path, said: dict[str, Any], due: float | None
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(said))
    for_transformers_4(path)
    assert json.loads(path.read_text()) == (said if due is None else {**said, "rope_theta": due})
