"""The plain loop and ours do the same work: one loss, and the same weights after some steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vlv_benchmarks._operations import operations
from vlv_benchmarks.baselines import _training_race as races
from vlv_benchmarks.baselines._plain_training import Draws, Loaded, PlainTraining
from vlv_benchmarks.baselines.captioned import LENGTHS, captioned
from vlv_benchmarks.cases import train as case
from vlv_benchmarks.job import Job, Order
from vlv_core.data.jsonl import JsonlDataset
from vlv_core.model import VLV
from vlv_core.plugins import load_plugins
from vlv_core.recipe import Recipe, load_recipe
from vlv_core.training.loop import train

MINI = case.RECIPES / "mini.toml"
SMALL: dict[str, Any] = {
    "encoder": {"width": 16, "depth": 1, "heads": 2},
    "bottleneck": {"depth": 1, "heads": 2, "num_queries": 4},
    "decoder": {"width": 24, "depth": 1, "heads": 2, "vae_width": 16, "text_width": 16},
    "head": {"width": 16, "depth": 1, "heads": 2, "hidden": 24},
}
LLAMA = {
    "model_type": "llama",
    **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 300},
    "max_position_embeddings": 512,
}
both = pytest.mark.parametrize("number", [1, 2])


def recipe(*, llama: bool = False) -> Recipe:
    """mini's, a few numbers wide."""
    options = dict(SMALL)
    if llama:
        options["head"] = {
            **{"plugin": "causal-lm", "model": "tiny", "architecture": LLAMA},
            "gradient_checkpointing": True,
        }
    changes = [
        ((part, key), value) for part, table in options.items() for key, value in table.items()
    ]
    return load_recipe(MINI, changes)


def race(number: int, *, llama: bool = False, epochs: int = 1) -> races.Race:
    return races.Race(recipe=recipe(llama=llama), number=number, batch=2, epochs=epochs, steps=2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> JsonlDataset:
    folder = tmp_path_factory.mktemp("pictures")
    return captioned(folder, plugins=load_plugins(), count=4, edge=64, long=False)


def weights(model: VLV) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("number", "llama"), [(1, False), (2, False), (2, True)])
def test_the_losses_are_one(
    tmp_path: Path, pictures: JsonlDataset, number: int, llama: bool
) -> None:
    settings = race(number, llama=llama)
    model = races.open_model(settings.recipe, number=number)
    assert races.loss_difference(model, pictures, settings, tmp_path) < 1e-6


@both
def test_the_comparison_finds_other_work(
    tmp_path: Path, pictures: JsonlDataset, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captions and noise that are given to other pictures make another loss."""
    settings = race(number)
    model = races.open_model(settings.recipe, number=number)
    plain = PlainTraining.loss

    def less(loop: PlainTraining, batch: Loaded, draws: Draws | None = None) -> torch.Tensor:
        return plain(loop, Loaded(batch.views[::-1].copy(), batch.captions), draws)

    monkeypatch.setattr(PlainTraining, "loss", less)
    assert races.loss_difference(model, pictures, settings, tmp_path) > 1e-6


@both
def test_steps_leave_the_same_weights(
    tmp_path: Path, pictures: JsonlDataset, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = race(number)
    stage = replace(settings.stage, steps=3)
    ours = races.open_model(settings.recipe, number=number)
    task = races._task(ours, pictures, stage, tmp_path, number=number)
    first = weights(ours)
    train(task, stage, out=tmp_path)

    model = races.open_model(settings.recipe, number=number)
    loop = PlainTraining(model, pictures, stage, number=number, padded=100)
    steps = iter(range(stage.steps))

    def draw(count: int) -> Draws:
        step = next(steps)
        made = task.batch(step, range(step * count, (step + 1) * count)).tensors
        return Draws(made["posterior"], made["noise"][:, 0], made["u"][:, 0])

    monkeypatch.setattr(loop, "_draws", draw)
    assert len(list(loop.run())) == 3
    moved = 0.0
    for name, found in weights(model).items():
        torch.testing.assert_close(found, weights(ours)[name], atol=2e-5, rtol=2e-4, msg=name)
        moved = max(moved, float((found - first[name]).abs().max()))
    assert moved > 1e-4


def test_padding_is_in_proportion_and_cuts_no_caption(pictures: JsonlDataset) -> None:
    settings = race(2)
    model = races.open_model(settings.recipe, number=2)
    lengths = model.head.tokenize([pictures[i].caption for i in range(4)])[1].sum(1)
    padded = races.padding(model, pictures)
    assert padded >= lengths.max()
    assert padded == max(int(lengths.max()), round(float(lengths.float().mean()) * 300 / 227))
    loop = PlainTraining(model, pictures, settings.stage, number=2, padded=50)
    ids, mask = loop._padded(["a red circle", "two"])
    assert ids.shape == mask.shape == (2, 50)
    assert (ids[~mask] == model.head.eos[0]).all()
    assert mask.sum(1).tolist() == model.head.tokenize(["a red circle", "two"])[1].sum(1).tolist()


def test_the_empty_prompt_is_recomputed_only_if_asked(
    pictures: JsonlDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = race(1)
    model = races.open_model(settings.recipe, number=1)
    asked: list[list[str]] = []
    plain = model.condition.from_text
    monkeypatch.setattr(model.condition, "from_text", lambda w: asked.append(w) or plain(w))
    races.plain_steps(model, pictures, settings, unconditional=False)
    assert not asked
    races.plain_steps(model, pictures, settings, unconditional=True)
    assert asked[0] == [""]
    assert len(asked) >= 4


@pytest.mark.parametrize("contestant", list(case.CONTESTANTS))
@both
def test_a_turn(tmp_path: Path, number: int, contestant: str) -> None:
    order = Order(model="mini", plugins=load_plugins(), threads=1)
    planned = case._planned(order, "mini", number, contestant)
    settings = {**planned.settings, "epochs": 2, "steps": 2}
    row = replace(planned.row, batch=2)
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    job = Job(run="", row=row, settings=settings, scratch=str(tmp_path), inputs=str(inputs))
    found = case.run(job)
    assert found.quality.parity == "passed", found.quality.reason
    assert len(found.stages["total"]) == 4
    assert len(found.discarded["total"]) == 2
    assert found.counts == {"images": 8}
    assert min(found.stages["total"]) > 0
    assert any(tmp_path.glob("cache/*/*.rows")) == (contestant == "vlv-cached")
    assert found.work["total"].operations > 0
    assert case.run(replace(job, turn=1)).work == found.work


def test_a_full_cache_computes_nothing_frozen(
    tmp_path: Path, pictures: JsonlDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop builds batches ahead, and would find some of its first pictures in no cache yet."""
    settings = race(2)
    model = races.open_model(settings.recipe, number=2)
    steps: list[int] = []
    loss, encode = races.TASKS[2].loss, model.encoder.forward
    monkeypatch.setattr(
        races.TASKS[2],
        "loss",
        lambda task, batch, step: steps.append(step) or loss(task, batch, step=step),
    )
    monkeypatch.setattr(model.encoder, "forward", lambda view: steps.append(-1) or encode(view))
    races.our_steps(model, pictures, settings, tmp_path, cached=True)
    assert steps[-4:] == [0, 1, 2, 3]
    assert steps[:-4] == [-1] * len(steps[:-4])


def test_operations_of_a_step(tmp_path: Path, pictures: JsonlDataset) -> None:
    """A cache saves exactly the frozen forward; of the rest, weights that train take three
    products a word: forward, and backward for input and weight."""
    settings = race(2, epochs=2)
    counted: dict[str, float] = {}
    for name in case.CONTESTANTS:
        model = races.open_model(settings.recipe, number=2)
        if name == "plain":
            raced = races.plain_steps(model, pictures, settings, unconditional=False)
        else:
            folder = tmp_path / name
            folder.mkdir()
            raced = races.our_steps(model, pictures, settings, folder, cached=name == "vlv-cached")
        counted[name] = operations(raced.again, backward=True)
    task = races._task(model, pictures, settings.stage, tmp_path, number=2)
    batch = task.batch(0, range(2)).tensors
    frozen = operations(task._context, batch["context.input"])
    assert counted["vlv"] - counted["vlv-cached"] == frozen > 0
    words = 2 * (task._context(batch["context.input"]).shape[1] + batch["ids"].shape[1] - 1)
    matrices = [m.weight.numel() for m in model.head.modules() if isinstance(m, torch.nn.Linear)]
    assert counted["vlv-cached"] > 3 * 2 * sum(matrices) * words
    assert counted["plain"] > counted["vlv"]


def test_operations_of_a_backward_pass_count_too() -> None:
    layer = torch.nn.Linear(5, 7, bias=False)
    x = torch.ones(3, 5, requires_grad=True)
    forward = 2 * 3 * 5 * 7
    assert operations(lambda: layer(x)) == forward
    assert operations(lambda: layer(x).sum().backward(), backward=True) == 3 * forward


def test_losses_that_differ_fail_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(races, "loss_difference", lambda *_: 0.5)
    order = Order(model="mini", plugins=load_plugins())
    planned = case._planned(order, "mini", 2, "plain")
    settings = {**planned.settings, "epochs": 1, "steps": 1}
    row, here = replace(planned.row, batch=1), str(tmp_path)
    job = Job(run="", row=row, settings=settings, scratch=here, inputs=here)
    quality = case.run(job).quality
    assert quality.parity == "failed"
    assert quality.reason == "losses differ by 5.0e-01, allowed 1e-03"


@pytest.mark.parametrize(("turn", "parity"), [(0, "passed"), (1, "none")])
def test_losses_of_a_large_model_are_compared_in_its_first_turn_alone(
    tmp_path: Path, turn: int, parity: str
) -> None:
    order = Order(model="mini", plugins=load_plugins())
    planned = case._planned(order, "mini", 2, "plain")
    settings = {**planned.settings, "epochs": 1, "steps": 1, "long": True}
    row = replace(planned.row, batch=1)
    here = str(tmp_path)
    job = Job(run="", row=row, turn=turn, settings=settings, scratch=here, inputs=here)
    assert case.run(job).quality.parity == parity


def test_the_plan_names_every_row_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = Order(model="mini", plugins=load_plugins(), threads=2)
    rows = [*case.plan(order).rows, *case.plan_large(order).rows]
    assert len({each.row.key for each in rows}) == len(rows) == 12
    assert {each.row.group for each in rows if each.row.reference} == {e.row.group for e in rows}
    sizes = {(each.row.case, each.row.model) for each in rows}
    assert sizes == {("train", "mini"), ("train-large", "vlv-paper-small")}
    monkeypatch.setattr(case, "RECIPES", tmp_path)
    assert "is in the repository" in case.plan(order).rows[0].refusal


def test_refusals_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case, "find_spec", lambda name: None)
    assert case._refusal(MINI, "package:gone") == (
        "its head is of the package gone: pip install --no-deps gone"
    )
    assert case._refusal(MINI, "").startswith("torch is not installed")


def test_captions_are_as_long_as_the_papers(tmp_path: Path) -> None:
    made = captioned(tmp_path, plugins=load_plugins(), count=3, edge=96, long=True)
    lengths = [len(made[i].caption or "") for i in range(3)]
    assert all(LENGTHS[0] <= length <= LENGTHS[1] for length in lengths)
    assert np.asarray(made[0].load()).shape == (96, 120, 3)
