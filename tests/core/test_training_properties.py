"""What must hold for any sizes: shares, schedules, checkpoints, the cache against a dict."""

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vlv_core.prefetch import prefetch
from vlv_core.training import checkpoint
from vlv_core.training.cache import Layout, Store
from vlv_core.training.checkpoint import Checkpoint
from vlv_core.training.schedule import learning_rate
from vlv_core.training.task import positions

small = st.integers(1, 9)


@given(step=st.integers(0, 1000), batch=st.integers(1, 300), accumulate=small, world=small)
def test_shares_partition_the_global_batch(
    step: int, batch: int, accumulate: int, world: int
) -> None:
    shares = [
        positions(step, batch=batch, micro=m, accumulate=accumulate, rank=r, world=world)
        for m in range(accumulate)
        for r in range(world)
    ]
    assert [p for share in shares for p in share] == list(range(step * batch, (step + 1) * batch))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(
    steps=st.integers(1, 400),
    warmup=st.integers(0, 399),
    schedule=st.sampled_from(["cosine", "linear"]),
)
def test_a_schedule_rises_falls_and_ends_at_zero(steps: int, warmup: int, schedule: str) -> None:
    warmup = min(warmup, steps - 1)
    rates = [
        learning_rate(s, peak=1.0, steps=steps, schedule=schedule, warmup_steps=warmup)  # type: ignore[arg-type]
        for s in range(steps + 1)
    ]
    assert all(0 < rate <= 1 for rate in rates[:-1]) and abs(rates[-1]) < 1e-15
    peak = max(warmup - 1, 0)
    assert all(before < after for before, after in pairwise(rates[: peak + 1]))
    assert all(before >= after for before, after in pairwise(rates[peak:]))


types = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64])
shapes = st.lists(st.integers(0, 4), max_size=3)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(
    table=st.dictionaries(names.filter(lambda n: n != "__metadata__"), st.tuples(shapes, types)),
    step=st.integers(0, 10**9),
)
def test_any_tensors_come_back_bit_for_bit(
    table: dict[str, tuple[list[int], torch.dtype]], step: int
) -> None:
    weights = {name: torch.ones(shape).cumsum(0).to(kind) if shape else torch.tensor(3).to(kind)
               for name, (shape, kind) in table.items()}  # fmt: skip
    with TemporaryDirectory() as folder:
        checkpoint.save(Checkpoint(step=step, identity={}, weights=weights), Path(folder), keep=1)
        found = checkpoint.newest(Path(folder))
    assert found is not None and found.step == step
    assert found.weights.keys() == weights.keys()
    for name, tensor in weights.items():
        assert found.weights[name].dtype == tensor.dtype
        assert torch.equal(found.weights[name], tensor)


@given(count=st.integers(0, 40), workers=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_prefetch_is_map(count: int, workers: int) -> None:
    jobs = [(n, range(n, n + 1)) for n in range(count)]
    built = prefetch(lambda step, at: step * 10 + at.start, jobs, workers=workers)
    assert list(built) == [n * 11 for n in range(count)]


class CacheMachine(RuleBasedStateMachine):
    """Two processes write to one cache, are killed, come back; a dict says what must be found."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.truth: dict[bytes, torch.Tensor] = {}
        self.stores = [self._open(), self._open()]

    def _open(self) -> Store:
        layout = Layout((2,), torch.float32)
        return Store(Path(self.folder.name), layout=layout, most_rows=1000)

    @rule(who=st.integers(0, 1), keys=st.lists(st.integers(0, 30), min_size=1, unique=True))
    def put(self, who: int, keys: list[int]) -> None:
        digests = [key.to_bytes(16, "big") for key in keys]
        rows = torch.tensor([[float(key), key / 7] for key in keys])
        self.stores[who].put(digests, rows)
        self.truth.update(zip(digests, rows, strict=True))

    @rule(who=st.integers(0, 1))
    def come_back(self, who: int) -> None:
        self.stores[who] = self._open()

    @rule(who=st.integers(0, 1), cut=st.integers(1, 19))
    def die_while_writing(self, who: int, cut: int) -> None:
        """Half a record and some of a row, as a kill would leave them; a new shard goes on."""
        own = self.stores[who]._own
        for suffix in ("rows", "index"):
            with (Path(self.folder.name) / f"{own}.{suffix}").open("ab") as file:
                file.write(b"\xff" * (cut % 7 + 1))
        self.stores[who] = self._open()

    @invariant()
    def both_find_all_and_only_that(self) -> None:
        digests = [key.to_bytes(16, "big") for key in range(31)]
        for store in self.stores:
            rows, missing = store.get(digests)
            assert missing == [n for n, digest in enumerate(digests) if digest not in self.truth]
            for n, digest in enumerate(digests):
                if digest in self.truth:
                    assert torch.equal(rows[n], self.truth[digest])

    def teardown(self) -> None:
        self.folder.cleanup()


CacheMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestCacheAgainstADict = CacheMachine.TestCase
