"""The cache of frozen parts: exact, verified, bounded, shared, and refused where it would lie."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.core.training_parts import SIZE, Pictures, stage, tiny_vlv
from vlv_core.data.quarantine import Quarantine
from vlv_core.errors import ConfigError, DataError
from vlv_core.model import VLV
from vlv_core.training import log
from vlv_core.training.cache import Layout, Store, component_digest, content_digests
from vlv_core.training.loop import train
from vlv_core.training.shares import Shares
from vlv_core.training.stages import Stage1Task, Stage2Task, StageTask

LAYOUT = Layout((2, 3), torch.float32)
KEYS = [bytes([i]) * 16 for i in range(8)]
ROWS = torch.arange(48.0).view(8, 2, 3)


def store(folder: Path, *, layout: Layout = LAYOUT, most_rows: int = 100) -> Store:
    return Store(folder, layout=layout, most_rows=most_rows)


def filled(folder: Path) -> Store:
    made = store(folder)
    made.put(KEYS[:5], ROWS[:5])
    return made


def run(
    kind: type[StageTask], out: Path, *, cache_at: Path | None, train_parts: list[str]
) -> tuple[VLV, StageTask, list[str]]:
    """Three epochs of 24 pictures."""
    model = tiny_vlv()
    settings = stage(train_parts, cache="require" if cache_at else "off")
    task = kind(model, Pictures(), settings, quarantine=Quarantine(out / "quarantine.jsonl"))
    lines = task.open_caches(cache_at, config="") if cache_at else []
    model.encoder.pictures = model.diffusion.pictures = 0
    train(task, settings, out=out)
    return model, task, lines


CASES = [(Stage1Task, ["bottleneck"]), (Stage2Task, ["connector", "head"])]
CASES += [(Stage2Task, ["bottleneck", "connector", "head"])]
IDS = ["stage1: tokens and moments", "stage2: context", "stage2: tokens"]


@pytest.mark.parametrize(("kind", "parts"), CASES, ids=IDS)
def test_with_the_cache_is_bit_for_bit_without(
    tmp_path: Path, kind: type[StageTask], parts: list[str]
) -> None:
    plain, _, _ = run(kind, tmp_path / "plain", cache_at=None, train_parts=parts)
    cold, _, _ = run(kind, tmp_path / "cold", cache_at=tmp_path / "cache", train_parts=parts)
    warm, _, _ = run(kind, tmp_path / "warm", cache_at=tmp_path / "cache", train_parts=parts)
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, dict(cold.named_parameters())[name]), name
        assert torch.equal(weight, dict(warm.named_parameters())[name]), name
    losses = [
        [row.loss for row in log.read(tmp_path / name / "metrics.jsonl")]
        for name in ("plain", "cold", "warm")
    ]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(("kind", "parts"), CASES, ids=IDS)
def test_later_epochs_and_runs_skip_the_frozen_parts(
    tmp_path: Path, kind: type[StageTask], parts: list[str]
) -> None:
    plain, _, _ = run(kind, tmp_path / "plain", cache_at=None, train_parts=parts)
    assert plain.encoder.pictures == 72
    cold, _, _ = run(kind, tmp_path / "cold", cache_at=tmp_path / "cache", train_parts=parts)
    # two batches of the second epoch are built before the first epoch's last are stored
    assert 24 <= cold.encoder.pictures <= 24 + 16
    warm, task, lines = run(kind, tmp_path / "w", cache_at=tmp_path / "cache", train_parts=parts)
    assert warm.encoder.pictures == warm.diffusion.pictures == 0
    assert all("24 of them there already" in line for line in lines)
    assert not task.shares.cold and len(task.shares.warm) == 8


def test_the_size_is_told_and_capped(tmp_path: Path) -> None:
    task = Stage1Task(
        tiny_vlv(),
        Pictures(),
        stage(["bottleneck"], cache="auto", cache_gib=24 * 256 / 2**30),
        quarantine=Quarantine(tmp_path / "quarantine.jsonl"),
    )
    lines = task.open_caches(tmp_path / "cache", config="")
    assert lines[0].startswith("cache of tokens: 24 samples x 256 bytes = 0.00 GiB, 0 of them")
    assert lines[1].startswith("cache of moments: 24 samples x 384 bytes = 0.00 GiB: not kept,")
    assert [frozen.store is not None for frozen in task.passes] == [True, False]


def test_over_the_cap_a_required_cache_is_refused(tmp_path: Path) -> None:
    task = Stage1Task(
        tiny_vlv(),
        Pictures(),
        stage(["bottleneck"], cache="require", cache_gib=1e-6),
        quarantine=Quarantine(tmp_path / "quarantine.jsonl"),
    )
    with pytest.raises(ConfigError, match=r"tokens: 24 samples x 256 bytes .* left of cache_gib"):
        task.open_caches(tmp_path / "cache", config="")


def test_a_cache_of_what_trains_is_refused(tmp_path: Path) -> None:
    task = Stage2Task(
        tiny_vlv(),
        Pictures(),
        stage(["encoder.block", "connector"], cache="require"),
        quarantine=Quarantine(tmp_path / "quarantine.jsonl"),
    )
    with pytest.raises(ConfigError, match="tokens cannot be cached: encoder trains in this stage"):
        task.open_caches(tmp_path / "cache", config="")
    frozen = Stage1Task(
        tiny_vlv(), Pictures(), stage(["bottleneck"]), quarantine=task.quarantine
    ).passes[0]
    frozen.modules["encoder"].requires_grad_(True)
    with pytest.raises(ConfigError, match="tokens cannot be cached: encoder trains"):
        frozen.open(tmp_path, layout=LAYOUT, most_rows=1, config="")


def test_auto_leaves_a_single_epoch_alone(tmp_path: Path) -> None:
    task = Stage1Task(
        tiny_vlv(),
        Pictures(),
        stage(["bottleneck"], cache="auto", steps=3),
        quarantine=Quarantine(tmp_path / "quarantine.jsonl"),
    )
    lines = task.open_caches(tmp_path / "cache", config="")
    assert lines == ["cache: off, no sample is seen twice in 3 steps"]
    assert not any(frozen.store for frozen in task.passes)


def test_a_changed_encoder_or_configuration_has_its_own_cache() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    digests = {
        component_digest([one], config="a"),
        component_digest([one], config="b"),
        component_digest([other], config="a"),
        component_digest([one, other], config="a"),
    }
    assert len(digests) == 4
    assert component_digest([one], config="a") == component_digest([one], config="a")


def test_content_is_key_and_pixels() -> None:
    views = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    same = content_digests(["a", "b"], views)
    assert len(set(same)) == 2 and same == content_digests(["a", "b"], views)
    views[0, 0, 0, 0] = 1
    changed = content_digests(["a", "b"], views)
    assert changed[0] != same[0] and changed[1] == same[1]


def test_rows_round_trip_and_missing_ones_are_named(tmp_path: Path) -> None:
    found, missing = filled(tmp_path).get([KEYS[6], KEYS[1], KEYS[4], KEYS[7]])
    assert missing == [0, 3]
    assert torch.equal(found[1:3], ROWS[[1, 4]]) and not found[[0, 3]].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_bit_of_every_type_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    rows = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    made = store(tmp_path, layout=Layout((2, 3), dtype))
    made.put(KEYS, rows)
    found, missing = store(tmp_path, layout=Layout((2, 3), dtype)).get(KEYS)
    assert missing == [] and found.dtype == dtype
    assert torch.equal(found.view(torch.uint8), rows.view(torch.uint8))


def test_two_stores_write_their_own_shards_and_read_each_other_s(tmp_path: Path) -> None:
    one, two = store(tmp_path), store(tmp_path)
    one.put(KEYS[:3], ROWS[:3])
    two.put(KEYS[3:6], ROWS[3:6])
    for reader in (one, two):
        found, missing = reader.get(KEYS[:6])
        assert missing == [] and torch.equal(found, ROWS[:6])
    one.put(KEYS[6:], ROWS[6:])
    found, missing = two.get(KEYS)
    assert missing == [] and torch.equal(found, ROWS)
    assert len(list(tmp_path.glob("*.rows"))) == 2


def test_threads_share_a_store(tmp_path: Path) -> None:
    made = store(tmp_path, most_rows=10_000)
    digests = [i.to_bytes(16, "little") for i in range(400)]
    rows = torch.arange(2400.0).view(400, 2, 3)

    def write(start: int) -> None:
        for at in range(start, 400, 4):
            made.put([digests[at]], rows[at : at + 1])
            made.get(digests[:at:7])

    threads = [threading.Thread(target=write, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, missing = store(tmp_path).get(digests)
    assert missing == [] and torch.equal(found, rows)


def test_a_cut_index_or_rows_file_loses_only_its_tail(tmp_path: Path) -> None:
    filled(tmp_path / "index")
    path = next((tmp_path / "index").glob("*.index"))
    path.write_bytes(path.read_bytes()[:-7])
    found, missing = store(tmp_path / "index").get(KEYS[:5])
    assert missing == [4] and torch.equal(found[:4], ROWS[:4])
    filled(tmp_path / "rows")
    path = next((tmp_path / "rows").glob("*.rows"))
    path.write_bytes(path.read_bytes()[:-7])
    assert store(tmp_path / "rows").get(KEYS[:5])[1] == [4]


def test_a_damaged_row_is_computed_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    path = next(tmp_path.glob("*.rows"))
    data = bytearray(path.read_bytes())
    data[2 * LAYOUT.row_bytes + 3] ^= 4
    path.write_bytes(bytes(data))
    made = store(tmp_path)
    assert made.get(KEYS[:5])[1] == [2]
    made.put([KEYS[2]], ROWS[2:3])
    found, missing = made.get(KEYS[:5])
    assert missing == [] and torch.equal(found, ROWS[:5])


def test_no_more_rows_than_agreed(tmp_path: Path) -> None:
    made = store(tmp_path, most_rows=6)
    made.put(KEYS[:4], ROWS[:4])
    made.put(KEYS[2:], ROWS[2:])
    assert len(made) == 6
    assert made.get(KEYS)[1] == [6, 7]
    assert next(tmp_path.glob("*.rows")).stat().st_size == 6 * LAYOUT.row_bytes


def test_another_layout_or_type_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(DataError, match=r"holds .*\[2, 3\].* but .*\[4\].* is due"):
        store(tmp_path, layout=Layout((4,), torch.float32))
    with pytest.raises(DataError, match=r"cannot cache torch\.int64; known types: float16, bfl"):
        store(tmp_path / "new", layout=Layout((4,), torch.int64))


def test_shares_tell_what_the_cache_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing steps take 10 s, 4 of them in the encoder and 2 in the VAE; cached ones 4.6 s."""
    now = iter([0.0, 10.0, 20.0, 24.6, 29.2])
    monkeypatch.setattr("vlv_core.training.shares.time.perf_counter", lambda: next(now))
    shares = Shares()
    for step in range(5):
        shares.begin(step)
        shares.begin(step)
        if step < 2:
            shares.spent("tokens", 3.0)
            shares.spent("tokens", 1.0)
            shares.spent("moments", 2.0)
    assert shares.lines() == [
        "cache of tokens: 40% of a step that computes",
        "cache of moments: 20% of a step that computes",
        "cache: a step takes 10.000 s computing and 4.600 s from the cache; "
        "90% of the passes' 6.000 s is gained",
    ]
    assert shares.report()["tokens"] == 4.0 and Shares().lines() == []


def test_the_second_epoch_gains_most_of_a_slow_encoder(tmp_path: Path) -> None:
    """With an encoder that takes 0.1 s a batch, cached steps win at least 0.8 of them."""
    import time

    model = tiny_vlv()
    forward = model.encoder.forward

    def slow(view: Tensor) -> Tensor:
        time.sleep(0.1)
        return forward(view)

    model.encoder.forward = slow
    settings = stage(["connector", "head"], cache="require", steps=12, log_every=12)
    task = Stage2Task(model, Pictures(), settings, quarantine=Quarantine(tmp_path / "q.jsonl"))
    task.open_caches(tmp_path / "cache", config="")
    train(task, settings, out=tmp_path / "out")
    seconds = task.shares.report()
    assert seconds["context"] >= 0.1
    assert seconds["cold"] - seconds["warm"] >= 0.8 * seconds["context"]
    assert "of a step that computes" in task.shares.lines()[0]
