"""Frozen passes and the freeze table by themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.core.training_parts import Pictures, tiny_vlv
from vlv_core.errors import ConfigError
from vlv_core.training.cache import Layout, content_digests
from vlv_core.training.freeze import PASSES, StageModules, freeze_table, is_frozen, select
from vlv_core.training.frozen import FrozenPass, open_caches

VIEWS = np.stack([Pictures().load(index) for index in range(6)])
DIGESTS = content_digests([str(index) for index in range(6)], VIEWS)
LAYOUT = Layout((3,), torch.float32)


class Means(nn.Module):
    """uint8 (B, S, S, 3) -> (B, 3). Remembers how many rows each call had."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3), requires_grad=False)
        self.calls: list[int] = []

    def forward(self, views: Tensor) -> Tensor:
        self.calls.append(len(views))
        return views.float().mean(dim=(1, 2)) * self.scale


def frozen(means: Means) -> FrozenPass:
    return FrozenPass(
        "means", modules={"means": means}, prepare=np.ascontiguousarray, compute=means
    )


def opened(means: Means, folder: Path, *, most_rows: int = 100) -> FrozenPass:
    made = frozen(means)
    made.open(folder, layout=LAYOUT, most_rows=most_rows, config="")
    return made


def test_without_a_store_everything_is_computed() -> None:
    means = Means()
    made = frozen(means)
    tensors = made.collate(VIEWS, [])
    assert set(tensors) == {"means.input"}
    assert torch.equal(made.run(tensors), means(torch.from_numpy(VIEWS)))
    assert made.take_seconds() == 0.0


def test_with_a_store_only_what_it_lacks(tmp_path: Path) -> None:
    means = Means()
    made = opened(means, tmp_path)
    first = made.run(made.collate(VIEWS[:2], DIGESTS[:2]))
    mixed = made.run(made.collate(VIEWS[:5], DIGESTS[:5]))
    again = made.run(made.collate(VIEWS[1:5], DIGESTS[1:5]))
    assert means.calls == [2, 3]
    due = means(torch.from_numpy(VIEWS))
    assert torch.equal(first, due[:2]) and torch.equal(mixed, due[:5])
    assert torch.equal(again, due[1:5])
    assert made.take_seconds() > 0 and made.take_seconds() == 0.0


def test_known_pictures_are_not_even_prepared(tmp_path: Path) -> None:
    means = Means()
    prepared: list[int] = []
    made = opened(means, tmp_path)
    made.prepare = lambda views: (prepared.append(len(views)), views)[1]
    for _ in range(2):
        tensors = made.collate(VIEWS[:3], DIGESTS[:3])
        made.run(tensors)
    assert prepared == [3, 0] and len(tensors["means.input"]) == 0


def test_a_full_store_goes_on_computing(tmp_path: Path) -> None:
    means = Means()
    made = opened(means, tmp_path, most_rows=2)
    for _ in range(2):
        out = made.run(made.collate(VIEWS[:3], DIGESTS[:3]))
    assert means.calls == [3, 1]
    assert torch.equal(out, means(torch.from_numpy(VIEWS[:3])))


def test_no_gradient_is_recorded(tmp_path: Path) -> None:
    means = Means()
    made = opened(means, tmp_path)
    assert not made.run(made.collate(VIEWS, DIGESTS)).requires_grad


def test_a_changed_part_does_not_read_the_old_rows(tmp_path: Path) -> None:
    first = Means()
    made = opened(first, tmp_path)
    made.run(made.collate(VIEWS, DIGESTS))
    changed = Means()
    changed.scale.data[0] = 2.0
    other = opened(changed, tmp_path)
    out = other.run(other.collate(VIEWS, DIGESTS))
    assert changed.calls == [6]
    assert torch.equal(out, changed(torch.from_numpy(VIEWS)))


def test_the_layout_is_found_by_trying() -> None:
    made = frozen(Means())
    assert made.layout(8, device=torch.device("cpu")) == LAYOUT
    assert LAYOUT.row_bytes == 12
    assert Layout((4, 5), torch.bfloat16).row_bytes == 40


def test_the_cap_counts_all_passes_together(tmp_path: Path) -> None:
    passes = [(frozen(Means()), LAYOUT) for _ in range(3)]
    lines = open_caches(
        passes, tmp_path, samples=1000, cap_gib=25_000 / 2**30, required=False, config=""
    )
    assert [made.store is not None for made, _ in passes] == [True, True, False]
    assert "1,000 samples x 12 bytes" in lines[0]
    assert "not kept, 0.00 GiB are left of cache_gib" in lines[2]


def test_a_full_disk_is_told_apart_from_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr("vlv_core.training.frozen.shutil.disk_usage", lambda path: Usage)
    with pytest.raises(ConfigError, match=r"0\.00 GiB are free on the disk"):
        open_caches(
            [(frozen(Means()), LAYOUT)],
            tmp_path,
            samples=1000,
            cap_gib=8.0,
            required=True,
            config="",
        )


def test_every_part_but_the_other_stage_s_is_passed_through() -> None:
    assert set(PASSES[1]) | set(PASSES[2]) == {name for name, _ in tiny_vlv().parts()}
    assert set(PASSES[1]) & set(PASSES[2]) == {"encoder", "bottleneck", "condition"}


@pytest.mark.parametrize(
    ("entries", "count"),
    [(["bottleneck.queries"], 1), (["encoder.patch"], 2), (["encoder.block.0", "head"], 7)],
)
def test_entries_name_modules_or_single_parameters(entries: list[str], count: int) -> None:
    named = select(tiny_vlv(), entries)
    assert len(named) == count
    assert all(any(name.startswith(entry) for entry in entries) for name, _ in named)


def test_a_prefix_stops_at_a_dot() -> None:
    with pytest.raises(ConfigError, match=r"'encoder\.pat' names no parameter"):
        select(tiny_vlv(), ["encoder.pat"])


def test_a_single_trained_parameter_leaves_modules_in_eval() -> None:
    modules = StageModules(tiny_vlv(), ["bottleneck.queries"], stage=1)
    modules.train()
    assert not any(module.training for module in modules.modules())
    assert [name for name, _ in modules.trainable] == ["bottleneck.queries"]
    assert not is_frozen(modules.parts["bottleneck"]) and is_frozen(modules.parts["encoder"])


def test_stages_may_follow_each_other_on_one_model() -> None:
    model = tiny_vlv()
    StageModules(model, ["encoder", "bottleneck"], stage=1)
    StageModules(model, ["connector", "head"], stage=2)
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"connector", "head"}


def test_the_table_counts_every_parameter_once() -> None:
    model = tiny_vlv()
    rows = freeze_table(model, ["connector", "head"], stage=2)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())
    assert {row.part for row in rows if not row.used} == {"diffusion"}
    assert sum(row.trainable for row in rows) == sum(
        p.numel() for part in (model.connector, model.head) for p in part.parameters()
    )


def test_a_part_may_mean_less_than_all_of_itself() -> None:
    """Such as the adapters of a language model: its name means what `learnable` answers."""
    model = tiny_vlv()
    model.head.learnable = lambda: {"lm_head.bias"}
    assert [name for name, _ in select(model, ["head"])] == ["head.lm_head.bias"]
    assert len(select(model, ["head.lm_head"])) == 2
    assert len(select(model, ["connector", "head"])) == 1 + len(list(model.connector.parameters()))
