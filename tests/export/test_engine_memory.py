"""A device's memory, element types and profiles, each against what numpy or arithmetic says."""

import gc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.export.fake_device import GARBAGE, FakeDevice
from vlv_core.errors import ModelError
from vlv_export.manifest import GraphEntry, TensorEntry
from vlv_export.runtime.cache import KvCache, Layer, Move
from vlv_export.runtime.engine.bound import axis_sizes
from vlv_export.runtime.engine.elements import RAW, decoded, encoded
from vlv_export.runtime.engine.memory import ALIGNED, DeviceMemory, Pool
from vlv_export.runtime.engine.profiles import pick
from vlv_export.runtime.memory import HostMemory, Memory

LAYERS = [
    Layer("0.key", 2, 3, "float32"),
    Layer("0.value", 2, 3, "float32"),
    Layer("1.key", 1, 4, "float16"),
]


@given(arrays(np.float32, 8, elements=st.floats(width=32)))
def test_bfloat16_is_rounded_as_hardware_does(numbers: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        wanted = numbers.astype(ml_dtypes.bfloat16)
    raw = encoded(numbers, "bfloat16")
    assert raw.dtype == np.uint16
    back = decoded(raw, "bfloat16")
    np.testing.assert_array_equal(back, wanted.astype(np.float32))
    assert back.dtype == np.float32


@pytest.mark.parametrize("dtype", [each for each in RAW if each != "bfloat16"])
def test_other_elements_travel_as_they_are(dtype: str) -> None:
    given_ = np.arange(6).reshape(2, 3).T
    raw = encoded(given_, dtype)
    assert raw.flags.c_contiguous and raw.dtype.name == dtype
    np.testing.assert_array_equal(decoded(raw, dtype), given_)


def memories() -> tuple[HostMemory, DeviceMemory]:
    return HostMemory(), DeviceMemory(Pool(FakeDevice()))


def cache(memory: Memory, rows: int, capacity: int) -> KvCache:
    return KvCache(LAYERS, rows=rows, capacity=capacity, sides=1, memory=memory)


def fill(made: KvCache, seed: int) -> KvCache:
    """Every position of every row."""
    draw = np.random.default_rng(seed)
    memory: Any = made.memory
    for tensor in made.tensors(made.rows, side=0).values():
        numbers = draw.standard_normal(tensor.shape).astype(np.dtype(tensor.dtype))
        if isinstance(tensor, np.ndarray):
            tensor[:] = numbers
        else:
            memory.pool.device.upload(tensor.address, numbers)
    return made


def same(host: KvCache, device: KvCache) -> None:
    found = device.tensors(device.rows, side=0)
    for name, tensor in host.tensors(host.rows, side=0).items():
        np.testing.assert_array_equal(device.memory.read(found[name]), tensor)


moves = st.builds(Move, st.integers(0, 4), st.integers(0, 4), st.integers(0, 6))


@settings(max_examples=60, deadline=None)
@given(st.lists(moves, max_size=5), st.integers(0, 7))
def test_rows_move_on_a_device_as_they_do_in_numpy(chosen: list[Move], filled: int) -> None:
    kept = [each for each in chosen if each.start < filled and each.target != each.source]
    host, device = (fill(cache(memory, 4, 7), 1) for memory in memories())
    for each in (host, device):
        each.move(kept, filled=filled)
    same(host, device)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(1, 7))
def test_a_larger_cache_takes_rows_on_a_device_as_in_numpy(rows: list[int], filled: int) -> None:
    found = []
    for memory in memories():
        found.append(fill(cache(memory, 5, 11), 3))
        found[-1].take(fill(cache(memory, 4, 7), 2), np.array(rows), filled=filled)
    same(*found)


def test_a_fresh_cache_is_zero_though_memory_is_not() -> None:
    device = FakeDevice()
    fresh = cache(DeviceMemory(Pool(device)), 2, 3)
    for tensor in fresh.tensors(2, side=0).values():
        assert not fresh.memory.read(tensor).any()
    assert any((block == GARBAGE).any() for block in device.memory.values()), "beyond the cache"


def test_memory_that_nobody_refers_to_is_used_again() -> None:
    device = FakeDevice()
    pool = Pool(device)
    first = pool.take(1000)
    address = first.address
    assert first.size % ALIGNED == 0 and first.size >= 1000
    assert pool.take(1000).address != address, "it is still in use"
    del first
    gc.collect()
    assert pool.take(1001).address in device.memory
    assert len(device.memory) == 2


def test_memory_is_freed_where_another_size_needs_it() -> None:
    device = FakeDevice(room=2 * ALIGNED)
    pool = Pool(device)
    del (kept := [pool.take(ALIGNED), pool.take(ALIGNED)])[:]
    gc.collect()
    assert not kept and device.room == 0
    large = pool.take(2 * ALIGNED)
    assert device.freed == 2 and large.size == 2 * ALIGNED
    with pytest.raises(MemoryError, match="the GPU has no"):
        pool.take(ALIGNED)


LONG = {"batch": (1, 8, 32), "length": (1, 77, 77)}
STEP = {"batch": (1, 8, 32), "length": (1, 1, 1)}
FEW = {"batch": (1, 1, 1), "length": (1, 1, 1)}


@pytest.mark.parametrize(
    "sizes, profiles, wanted",
    [
        ({"batch": 4, "length": 16}, [LONG, STEP], (0, 32)),
        ({"batch": 4, "length": 1}, [LONG, STEP], (1, 32)),
        ({"batch": 90, "length": 1}, [LONG, STEP], (1, 32)),
        ({"batch": 1, "length": 1}, [LONG, STEP, FEW], (2, 1)),
        ({"batch": 2, "length": 1}, [FEW, LONG, STEP], (2, 32)),
        ({"batch": 40, "length": 1}, [FEW, STEP], (1, 32)),
        ({"batch": 5}, [{}], (0, 5)),
    ],
)
def test_the_tightest_profile_that_fits_is_picked(
    sizes: dict[str, int], profiles: list[Any], wanted: tuple[int, int]
) -> None:
    assert pick("head", profiles, sizes) == wanted


@pytest.mark.parametrize("length", [0, 78])
def test_a_length_that_no_profile_holds_is_refused(length: int) -> None:
    said = f"part 'head' takes length 1 to 77, 1 to 1, and {length} were given"
    with pytest.raises(ModelError, match=said):
        pick("head", [LONG, STEP], {"batch": 1, "length": length})


def entry_of(name: str, *shape: int | str) -> TensorEntry:
    return TensorEntry(name=name, dtype="float32", shape=shape)


def test_axes_are_known_from_shapes_and_from_inputs_of_their_name() -> None:
    entry = GraphEntry(
        file="a.engine",
        inputs=(entry_of("x", "batch", 3), entry_of("y", "batch", "length"), entry_of("k", 1)),
        outputs=(entry_of("top", "batch", "k"),),
    )
    arrays_ = {"x": np.zeros((2, 3)), "y": np.zeros((2, 5)), "k": np.array([9])}
    assert axis_sizes("a", entry, arrays_) == {"batch": 2, "length": 5, "k": 9}
    for name, shape in (("x", (2, 4)), ("y", (3, 5)), ("y", (2, 5, 1))):
        wrong = {**arrays_, name: np.zeros(shape)}
        with pytest.raises(ModelError, match=f"part 'a' takes '{name}' as .* was given"):
            axis_sizes("a", entry, wrong)
