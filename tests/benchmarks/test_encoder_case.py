"""The case `encoder` on a tiny encoder, in this process: prepared once, the same work for each row,
and a wrong output is not timed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vlv_benchmarks import _encoder
from vlv_benchmarks.cases import encoder as case
from vlv_benchmarks.child import perform
from vlv_benchmarks.job import Job, Order, Planned
from vlv_benchmarks.planning import make_plan
from vlv_benchmarks.turn import Quality, Turn
from vlv_core.errors import VlvError
from vlv_core.plugins import load_plugins

PLUGINS = load_plugins()
CALLS = 2
SIZE, QUERIES = 64, 6
TINY = {
    "encoder": ["mini-vit", {"width": 24, "depth": 1, "heads": 2}],
    "bottleneck": ["query", {"num_queries": QUERIES, "depth": 1, "heads": 2}],
    "decoder": ["mini-t2i", {"text_width": 32, "text_depth": 1, "text_heads": 2, "vae_width": 16,
                             "width": 24, "depth": 1, "heads": 2}],
    "connector": ["mlp", {}],
    "head": ["mini-lm", {"width": 40, "heads": 2, "depth": 1}],
}  # fmt: skip


def planned(*, quick: bool = True) -> tuple[Planned, ...]:
    return make_plan(
        Order(model="mini", plugins=PLUGINS, cases=("encoder",), quick=quick, threads=1)
    ).rows


def job_of(row: Planned, inputs: Path) -> Job:
    settings = {**row.settings, "parts": TINY, "size": SIZE, "calls": CALLS}
    return Job(run=f"{case.__name__}:run", row=row.row, settings=settings, inputs=str(inputs))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's shared folder, prepared."""
    folder = tmp_path_factory.mktemp("inputs")
    job = job_of(planned()[0], folder)
    _encoder.prepare(replace(job, settings={**job.settings, "folder": str(folder / "encoder")}))
    return folder


@pytest.fixture(scope="module")
def turns(inputs: Path) -> dict[str, Turn]:
    """By label."""
    return {each.row.label: perform(job_of(each, inputs)) for each in planned()}


def said_of(inputs: Path) -> dict[str, Any]:
    with np.load(inputs / "encoder" / case.SAID) as said:
        return {name: said[name] for name in said.files}


def judged(inputs: Path, found: dict[str, Any], dtype: str = "fp32") -> Quality:
    row = next(each for each in planned() if each.row.dtype == dtype)
    return case._quality(job_of(row, inputs), found, inputs / "encoder")


def test_rows_are_of_one_work_and_float32_of_torch_is_what_they_are_compared_with() -> None:
    rows = planned(quick=False)
    assert len({each.row.group for each in rows}) == 1
    assert [each.row.label for each in rows if each.row.reference] == ["torch eager"]
    assert [each.row.dtype for each in rows] == ["fp32", "bf16", "fp32", "int8"]
    assert {each.settings["size"] for each in rows} == {768}


def test_the_workload_says_how_large_the_picture_is_and_that_weights_are_random() -> None:
    order = Order(model="mini", plugins=PLUGINS, cases=("encoder",), quick=True)
    quick, full = (case.plan(replace(order, quick=each)).workload for each in (True, False))
    assert "384 x 384" in quick.summary and quick.options == {"size": 384}
    assert "768 x 768" in full.summary and "random weights" in full.summary
    assert quick.images == 0, "pictures of its own: the run's model is not asked about them"


def test_it_runs_only_when_it_is_named() -> None:
    plan = make_plan(Order(model="mini", plugins=PLUGINS, quick=True))
    assert "encoder" not in plan.workload


@pytest.mark.parametrize("row", planned(), ids=lambda each: each.row.label)
def test_a_turn_times_calls_and_proves_them(row: Planned, turns: dict[str, Turn]) -> None:
    turn = turns[row.row.label]
    assert turn.error is None
    assert set(turn.stages) == {"total"} and len(turn.stages["total"]) == CALLS
    assert len(turn.discarded["total"]) == 1 and turn.counts == {"images": CALLS}
    assert turn.quality.parity == "passed", turn.quality.reason
    assert turn.output_sha256 and set(turn.work) == {"total"}
    exported = row.row.backend == "onnxruntime"
    assert set(turn.facts) == ({"artefact_bytes", "graph_nodes"} if exported else set())


def test_each_form_is_held_to_the_rate_of_its_own_arithmetic(turns: dict[str, Turn]) -> None:
    work = {label: turn.work["total"] for label, turn in turns.items()}
    assert [each.arithmetic for each in work.values()] == ["float32", "bfloat16", "float32", "int8"]
    assert len({each.operations for each in work.values()}) == 1
    plain, low, graph, small = (each.bytes for each in work.values())
    assert plain == graph == 2 * low and small < low


def test_float32_of_torch_says_exactly_what_was_prepared(
    inputs: Path, turns: dict[str, Turn]
) -> None:
    assert turns["torch eager"].quality.figures["worst cosine"] == pytest.approx(1, abs=1e-12)
    again = perform(job_of(planned()[0], inputs))
    assert again.output_sha256 == turns["torch eager"].output_sha256
    assert again.output_sha256 != turns["torch eager bf16"].output_sha256
    shapes = {name: each.shape for name, each in said_of(inputs).items()}
    assert list(shapes) == ["z", "context", "prefix"]
    assert shapes["prefix"] == (CALLS + 1, QUERIES, 40)


def test_operations_are_those_of_the_layers_and_some_of_attention(inputs: Path) -> None:
    """Counted here by hooks from the layers' own sizes."""
    part = _encoder.encoder(TINY, size=SIZE, plugins=PLUGINS, seed=0)
    counted = 0

    def count(layer: nn.Module, _: Any, made: torch.Tensor) -> None:
        nonlocal counted
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        # each output position is the product of one slice of the weight per channel
        counted += 2 * made.numel() * weight[0].numel()

    for layer in part.module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(count)
    part.module(torch.from_numpy(case.picture(0, SIZE)))
    facts = json.loads((inputs / "encoder" / case.FACTS).read_text())
    assert counted <= facts["operations"] < 1.3 * counted


def test_weights_are_random_by_the_seed_alone() -> None:
    one, same, other = (
        torch.cat([each.ravel() for each in part.module.parameters()])
        for part in (
            _encoder.encoder(TINY, size=SIZE, plugins=PLUGINS, seed=seed) for seed in (3, 3, 4)
        )
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_pictures_differ_and_are_the_same_in_every_process() -> None:
    first, *others = case.views({"size": 30, "calls": 6})
    assert first.shape == (1, 30, 30, 3) and first.dtype == np.uint8
    assert all(not np.array_equal(first, each) for each in others)
    assert np.array_equal(case.picture(0, 30), first)
    assert (first[0, :2, :2] == first[0, 0, 0]).all(), "squares of two pixels"


def test_what_torch_said_passes_in_every_dtype(inputs: Path) -> None:
    for dtype in ("fp32", "bf16", "int8"):
        assert judged(inputs, said_of(inputs), dtype).parity == "passed"


@pytest.mark.parametrize("name", ["z", "context", "prefix"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
def test_an_answer_to_another_picture_fails(inputs: Path, name: str, dtype: str) -> None:
    said = said_of(inputs)
    found = judged(inputs, {**said, name: said[name][[1, 0, 2]]}, dtype)
    assert found.parity == "failed" and "without the mean over pictures" in found.reason


def test_one_answer_to_all_pictures_fails_however_like_they_are(inputs: Path) -> None:
    """With random weights pictures hardly differ: their cosine alone would let it pass."""
    far = {name: each + 1000 for name, each in said_of(inputs).items()}
    np.savez(inputs / "encoder" / "far.npz", **far)
    row = next(each for each in planned() if each.row.dtype == "int8")
    folder = inputs / "likeness"
    folder.mkdir()
    np.savez(folder / case.SAID, **far)
    same = {name: each[[0, 0, 0]] for name, each in far.items()}
    found = case._quality(job_of(row, inputs), same, folder)
    assert found.figures["worst cosine"] > case.DUE["int8"]
    assert found.parity == "failed"
    assert found.figures["without the mean over pictures"] < case.DUE_APART_ROUNDED


def test_rounding_is_forgiven_where_float32_is_not(inputs: Path) -> None:
    said = said_of(inputs)
    generator = np.random.default_rng(0)
    spread = {name: (each - each.mean(0)).std() for name, each in said.items()}
    noisy = {
        name: each + 0.3 * spread[name] * generator.standard_normal(each.shape)
        for name, each in said.items()
    }
    assert judged(inputs, noisy, "int8").parity == "passed"
    found = judged(inputs, noisy, "fp32")
    assert found.parity == "failed" and "due 0.999" in found.reason


def test_a_wrong_graph_is_not_timed(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = case._opened

    def turned(job: Job, folder: Path) -> case.Encode:
        encode = opened(job, folder)
        return lambda view: encode(view[:, ::-1])

    monkeypatch.setattr(case, "_opened", turned)
    turn = perform(job_of(planned()[3], inputs))
    assert turn.error is None and turn.quality.parity == "failed"


def test_what_is_prepared_is_not_prepared_again(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: Any, **__: Any) -> Turn:
        raise AssertionError("a second process")

    monkeypatch.setattr(case, "run_job", started)
    assert case.prepared(job_of(planned()[2], inputs)) == inputs / "encoder"
    assert not (inputs / "encoder" / "neutral").exists()


def test_why_it_cannot_be_prepared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(planned()[0], tmp_path)

    def killed(asked: Job, **_: Any) -> Turn:
        assert asked.run == f"{_encoder.__name__}:prepare"
        assert asked.settings["folder"] == str(tmp_path / "encoder")
        return Turn(row=asked.row.key, turn=0, started="", error="ended by signal 9")

    monkeypatch.setattr(case, "run_job", killed)
    with pytest.raises(VlvError, match="cannot be prepared: ended by signal 9"):
        case.prepared(job)
    turn = perform(job)
    assert turn.error == "the encoder cannot be prepared: ended by signal 9"
