"""From an order to rows: a plugin adds a case, names are checked, every row that cannot run says
why."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.toy_runs import TOYS, order
from vlv_benchmarks import backends
from vlv_benchmarks.job import CasePlan, Order, Planned
from vlv_benchmarks.models import model_facts
from vlv_benchmarks.peers import PEERS, named, refusal
from vlv_benchmarks.planning import make_plan
from vlv_benchmarks.record import Row, Workload
from vlv_core.errors import ModelError, PluginError, UsageError
from vlv_core.plugins import load_plugins

OURS = load_plugins()


def mini(*cases: str, **options: object) -> Order:
    return Order(model="mini", plugins=OURS, cases=cases, **options)  # type: ignore[arg-type]


def test_a_plugin_adds_a_case_and_it_is_listed() -> None:
    plugins = load_plugins(files=[TOYS])
    assert "toy" in plugins.names("bench-case")
    plan = make_plan(order("steady", "refused"))
    assert [each.row.backend for each in plan.runnable] == ["steady"]
    assert plan.refused == {plan.rows[1].row.key: "needs a GPU"}
    assert plan.runs == {"toy": "toy_cases:run"}


def test_every_case_of_ours_plans_rows_with_keys_of_their_own() -> None:
    names = OURS.names("bench-case")
    plan = make_plan(mini(*names))
    keys = [each.row.key for each in plan.rows]
    assert len(keys) == len(set(keys)) and {each.row.case for each in plan.rows} == set(names)
    assert set(plan.workload) == set(names)


def test_cases_that_take_long_run_only_when_they_are_named() -> None:
    cases = {each.row.case for each in make_plan(mini()).rows}
    alone = {each.spec.name for each in OURS.all("bench-case") if each.spec.alone}
    assert cases and alone and not cases & alone


def test_without_an_artefact_a_row_says_how_to_make_one() -> None:
    plan = make_plan(mini("embed", quick=True))
    (absent,) = [each for each in plan.rows if each.row.backend == backends.RUNTIME]
    assert "vlv-export mini -o OUT --onnx" in absent.refusal
    with pytest.raises(UsageError, match="no row named 'onnx-int8'") as caught:
        make_plan(mini("embed", rows=("onnx-int8",)))
    assert "--artefact OUT" in (caught.value.hint or "")


def test_no_compiler_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    (row,) = make_plan(mini("embed", rows=("torch-compile",), quick=True)).rows
    assert row.refusal.startswith("no C++ compiler is installed (looked for c++")


def test_a_quick_run_does_not_compile() -> None:
    (row,) = make_plan(mini("embed", rows=("torch-compile",), quick=True)).rows
    assert row.refusal


def test_unknown_names_say_what_exists() -> None:
    with pytest.raises(PluginError, match=r"no bench-case named 'singel'; did you mean 'single'"):
        make_plan(mini("singel"))
    with pytest.raises(UsageError, match=r"no row named 'onnx-int2'; rows: torch-eager, torch-"):
        make_plan(mini("single", rows=("onnx-int2",)))
    with pytest.raises(UsageError, match=r"no peer 'llama'; did you mean 'llama-cpp'"):
        named("llama")


def broken_plan(monkeypatch: pytest.MonkeyPatch, answer: object) -> Order:
    asked = order("steady")
    import sys

    monkeypatch.setattr(sys.modules["toy_cases"], "plan", lambda _: answer)
    return asked


def test_a_case_that_plans_nonsense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="'toy': its plan is a list; CasePlan is due"):
        make_plan(broken_plan(monkeypatch, []))
    row = Planned(row=Row(case="toy", backend="a", label="a", model="mini"))
    plan = CasePlan(workload=Workload(summary="x"), rows=(row, row))
    with pytest.raises(PluginError, match="two rows are called toy/a/mini"):
        make_plan(replace(broken_plan(monkeypatch, plan), rows=()))
    strange = replace(plan, rows=(replace(row, row=replace(row.row, case="single")),))
    with pytest.raises(PluginError, match="it planned a row of the case 'single'"):
        make_plan(replace(broken_plan(monkeypatch, strange), rows=()))


def test_a_model_is_described_without_torch() -> None:
    facts = model_facts("mini", plugins=OURS)
    assert {"encoder", "head", "diffusion"} <= set(facts.parameters)
    # weights and little else
    assert facts.bytes["head"] == pytest.approx(4 * facts.parameters["head"], rel=0.6)
    assert len(facts.sha256) == 64


def test_an_artefact_is_no_model_to_compare_with(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="is an artefact, and --model is the trained model"):
        model_facts(str(tmp_path), plugins=OURS)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"model.toml is missing"):
        model_facts(str(tmp_path), plugins=OURS)


def test_peers_that_cannot_run_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlv_benchmarks.peers.environments", lambda: tmp_path)
    monkeypatch.setattr("vlv_benchmarks.environment.gpu_there", lambda: False)
    said = {peer.name: refusal(peer) for peer in PEERS}
    assert said["vllm"] == "needs a GPU"
    assert said["openvino-genai"] == "not set up: vlv-bench peers setup openvino-genai"
    assert said["optimum-onnx"].startswith("not set up")
    batches = {each.row.batch for each in make_plan(mini("decode", rows=("llama-cpp",))).runnable}
    assert batches <= {1}
