"""A device's memory, element types and profiles, each against what numpy or arithmetic says."""

import gc
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.export.fake_device import GARBAGE, FakeDevice
from vlv_core.errors import ModelError, VlvError
from vlv_export.manifest import GraphEntry, TensorEntry
from vlv_export.runtime.cache import KvCache, Layer, Move
from vlv_export.runtime.engine.bound import EngineBound, axis_sizes
from vlv_export.runtime.engine.device import Box
from vlv_export.runtime.engine.elements import RAW, decoded, encoded
from vlv_export.runtime.engine.memory import ALIGNED, DeviceMemory, Pool
from vlv_export.runtime.engine.profiles import pick
from vlv_export.runtime.memory import HostMemory, Memory
from vlv_export.tensorrt.gpus import Gpu, gpus

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
            memory.pool.device.synchronise()
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
    assert (device.at(device.allocate(8), 8) == GARBAGE).all(), "what memory is by itself"


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


def test_all_memory_is_freed_with_the_last_that_needs_it() -> None:
    device = FakeDevice()
    pool = Pool(device)
    kept = [pool.take(1000), pool.take(2000)]
    del pool, kept[0]
    gc.collect()
    assert len(device.memory) == 2, "one buffer is still in use"
    del kept
    gc.collect()
    assert not device.memory and device.freed == 2


@pytest.mark.parametrize("shape", [(3, 3, 1, 5, 7), (2, 1, 2, 3, 4), (2, 5, 2, 64, 16)])
def test_each_tensor_of_a_block_begins_where_engines_take_it(shape: tuple[int, ...]) -> None:
    memory = DeviceMemory(Pool(FakeDevice()))
    block = memory.zeros(shape, "float16")
    found = [memory.tensor(block, index, shape[1]) for index in range(shape[0])]
    size = 2 * int(np.prod(shape[1:]))
    for tensor, after in pairwise(found):
        assert tensor.shape == shape[1:]
        assert tensor.address % ALIGNED == 0 and after.address >= tensor.address + size


def bound(rows: int, most: int, width: int) -> EngineBound:
    """A part that updates `rows` rows of a cache, at most `most` at once."""
    past, present, k = ("past.a", "batch", 1, width), ("present.a", "batch", 1, width), ("k", 1)
    entry = GraphEntry(
        file="a.engine",
        inputs=(entry_of(*past), entry_of(*k)),
        outputs=(entry_of(*present), entry_of("top", "batch", "k")),
        aliases={"past.a": "present.a"},
    )
    memory = DeviceMemory(Pool(FakeDevice()))
    cache = memory.tensor(memory.zeros((1, rows, 1, width), "float32"), 0, rows)
    engine: Any = Recorder()
    inputs: dict[str, Any] = {"past.a": cache, "k": np.ones(1, np.float32)}
    found = EngineBound(
        "a", entry, engine, memory.pool, [{"batch": (1, 1, most)}], inputs,
        {"present.a": cache, "top": np.empty((rows, 1), np.float32)}, varying=(),
    )  # fmt: skip
    found.run()
    assert engine.rows and sum(engine.rows) == rows
    return found


class Recorder:
    """An engine that only looks at where its tensors begin."""

    host_inputs = frozenset({"k"})

    def __init__(self) -> None:
        self.rows: list[int] = []

    def enqueue(self, profile: int, inputs: Any, outputs: Any) -> None:
        address, shape = inputs["past.a"]
        assert address == outputs["present.a"]
        assert not [each for each in (address, outputs["top"]) if each % ALIGNED]
        self.rows.append(shape[0])


@pytest.mark.parametrize(
    ("rows", "most", "width"), [(7, 3, 64), (7, 3, 32), (40, 5, 16), (2, 3, 1)]
)
def test_pieces_begin_where_engines_take_them(rows: int, most: int, width: int) -> None:
    assert bound(rows, most, width).outputs["top"].shape == (rows, 1)


def test_pieces_that_cannot_begin_there_are_refused() -> None:
    said = "part 'a' takes 3 rows at once, and only every 4 rows .* begin at a multiple of 256"
    with pytest.raises(ModelError, match=said):
        bound(7, 3, 16)


class Copier:
    """An engine that copies x to y when the device comes to it."""

    host_inputs: frozenset[str] = frozenset()

    def __init__(self, device: FakeDevice) -> None:
        self.device = device

    def enqueue(self, profile: int, inputs: Any, outputs: Any) -> None:
        box = Box(inputs["x"][0], 12, 1), Box(outputs["y"], 12, 1)
        self.device.copy(box[1], box[0], width=12, rows=1, slices=inputs["x"][1][0])


@pytest.mark.parametrize("varying", [(), ("x",)])
def test_what_varies_is_read_by_each_run_and_all_else_once(varying: tuple[str, ...]) -> None:
    entry = GraphEntry(
        file="a.engine", inputs=(entry_of("x", "batch", 3),), outputs=(entry_of("y", "batch", 3),)
    )
    x, y = np.ones((5, 3), np.float32), np.empty((5, 3), np.float32)
    pool = Pool(device := FakeDevice())
    engine: Any = Copier(device)
    profile = {"batch": (1, 2, 2)}
    found = EngineBound("a", entry, engine, pool, [profile], {"x": x}, {"y": y}, varying=varying)
    before = x.copy()
    x[:] = np.arange(15).reshape(5, 3)
    found.run()
    np.testing.assert_array_equal(y, x if varying else before)


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


def test_a_driver_that_is_too_old_is_no_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    from vlv_export.runtime.engine import _device

    if gpus():
        pytest.skip("this machine's driver works")
    assert _device.find_device() is None
    monkeypatch.setattr(_device, "gpus", lambda: [Gpu("a GPU", 89)])
    with pytest.raises(VlvError, match="the driver of a GPU is older than"):
        _device.find_device()
