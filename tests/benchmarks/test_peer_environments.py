"""Peers in environments of their own: what is installed, and what their weights' files must say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vlv_benchmarks.cli import peers as cli
from vlv_benchmarks.peers import PEERS, named
from vlv_benchmarks.peers._head import for_transformers_4

OWN = [peer for peer in PEERS if peer.packages]


@pytest.mark.parametrize("peer", OWN, ids=lambda peer: peer.name)
def test_what_decides_a_figure_is_pinned(peer: Any) -> None:
    pins = dict(re.split("==", each, maxsplit=1) for each in peer.packages if "==" in each)
    names = {name.partition("[")[0] for name in pins}
    assert {"torch", "transformers"} <= names
    assert all(re.fullmatch(r"[0-9.]+", version) for version in pins.values())


def test_the_old_stack_stays_old() -> None:
    pins = dict(each.split("==") for each in named("optimum-onnx").packages if "==" in each)
    assert tuple(map(int, pins["transformers"].split("."))) < (4, 58)


def test_set_up_takes_away_what_a_peer_breaks_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(cli, "_run", lambda *command: ran.append(command))
    monkeypatch.setattr("vlv_benchmarks.peers.environments", lambda: tmp_path)
    for name in ("openvino-genai", "optimum-onnx"):
        ran.clear()
        done = CliRunner().invoke(cli.command, ["setup", name])
        assert done.exit_code == 0, done.output
        removed = [command[-1] for command in ran if "uninstall" in command]
        assert removed == list(named(name).unwanted)
        installs = [i for i, command in enumerate(ran) if "install" in command]
        assert set(named(name).packages) <= set(ran[installs[0]])
        assert "--no-deps" in ran[installs[-1]]


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
