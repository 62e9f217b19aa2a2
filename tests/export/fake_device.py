"""A GPU made of host memory, and engines that are graphs run by onnxruntime.

They keep to `runtime.engine.device` as hardware may: addresses are numbers, memory that was never
written holds garbage, an address outside any allocation is an error, and nothing is done before
`synchronise`, so that a host array that was changed too early gives wrong numbers.
"""

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vlv_export.manifest import GraphEntry, Manifest
from vlv_export.runtime.engine.device import Box, Shape
from vlv_export.runtime.engine.elements import RAW, TENSORRT
from vlv_export.runtime.engine.sessions import EngineSessions

ALIGNED = 256
"""bytes: `setTensorAddress` of TensorRT asks for "at least 256-byte alignment" of each address"""
GARBAGE = 0x7B
"""of fresh memory: as float16, 61,279"""
NAMES = {ours: theirs for theirs, ours in TENSORRT.items()}


class FakeDevice:
    """Counts what is asked of it."""

    def __init__(self, room: int = 2**30) -> None:
        self.room = room
        self.memory: dict[int, NDArray[np.uint8]] = {}
        self.next = 4096
        self.work: list[Callable[[], None]] = []
        self.uploads: list[int] = []
        self.downloads: list[int] = []
        self.copies: list[int] = []
        self.freed = 0

    def allocate(self, size: int) -> int:
        if size > self.room:
            raise MemoryError(f"the GPU has no {size} bytes left")
        self.room -= size
        address, self.next = self.next, -(-(self.next + size + 4096) // ALIGNED) * ALIGNED
        self.memory[address] = np.full(size, GARBAGE, np.uint8)
        return address

    def free(self, address: int) -> None:
        # As cudaFree does.
        self.synchronise()
        self.room += self.memory.pop(address).nbytes
        self.freed += 1

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        """The bytes there, which must be of one allocation."""
        for start, block in self.memory.items():
            if start <= address and address + size <= start + block.nbytes:
                return block[address - start : address - start + size]
        raise AssertionError(f"{size} bytes at {address} were never allocated")

    def clear(self, address: int, size: int) -> None:
        self.later(lambda: self.at(address, size).fill(0))

    def upload(self, address: int, array: NDArray[Any]) -> None:
        assert array.flags.c_contiguous
        self.later(lambda: self.write(address, array))
        self.uploads.append(array.nbytes)

    def write(self, address: int, array: NDArray[Any]) -> None:
        self.at(address, array.nbytes)[:] = array.reshape(-1).view(np.uint8)

    def download(self, array: NDArray[Any], address: int) -> None:
        assert array.flags.c_contiguous

        def work() -> None:
            array.reshape(-1).view(np.uint8)[:] = self.at(address, array.nbytes)

        self.later(work)
        self.downloads.append(array.nbytes)

    def copy(self, target: Box, source: Box, *, width: int, rows: int, slices: int) -> None:
        # As the manual of cudaMemcpy3D has it: a slice lies pitch x ysize bytes after the last.
        assert width <= min(target.pitch, source.pitch)

        def work() -> None:
            for index in range(slices):
                for row in range(rows):
                    offsets = [box.pitch * (box.rows * index + row) for box in (target, source)]
                    taken = self.at(source.address + offsets[1], width).copy()
                    self.at(target.address + offsets[0], width)[:] = taken

        self.later(work)
        self.copies.append(width * rows * slices)

    def later(self, work: Callable[[], None]) -> None:
        """Put work on the one stream."""
        self.work.append(work)

    def synchronise(self) -> None:
        work, self.work = self.work, []
        for each in work:
            each()


class FakeEngine:
    """A graph of opset 24 in the place of the engine that is compiled from it."""

    def __init__(self, device: FakeDevice, graph: Path, entry: GraphEntry) -> None:
        self.device, self.entry = device, entry
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        self.session = ort.InferenceSession(str(graph), options, ["CPUExecutionProvider"])
        self.forms = {
            each.name: (
                NAMES[each.dtype],
                tuple(size if isinstance(size, int) else -1 for size in each.shape),
            )
            for each in (*entry.inputs, *entry.outputs)
        }
        self.host_inputs = frozenset({"k"} & {each.name for each in entry.inputs})
        self.runs: list[tuple[int, int]] = []
        """profile and rows of each run"""

    def enqueue(
        self, profile: int, inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, int]
    ) -> None:
        assert set(outputs) == {each.name for each in self.entry.outputs}, "all need an address"
        on_device = [
            address for name, (address, _) in inputs.items() if name not in self.host_inputs
        ]
        odd = [address for address in (*on_device, *outputs.values()) if address % ALIGNED]
        assert not odd, f"not aligned: {odd}"
        for past, present in self.entry.aliases.items():
            assert inputs[past][0] == outputs[present], "a cache is updated where it lies"
        self.device.later(lambda: self.run(inputs, outputs))
        self.runs.append((profile, inputs[self.entry.inputs[0].name][1][0]))

    def run(self, inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, int]) -> None:
        given = {}
        for each in self.entry.inputs:
            address, shape = inputs[each.name]
            kind = RAW[each.dtype]
            size = int(np.prod(shape)) * kind.itemsize
            raw = _host(address, size) if each.name in self.host_inputs else self.at(address, size)
            given[each.name] = raw.view(kind).reshape(shape).copy()
        found = self.session.run(list(outputs), given)
        for name, array in zip(outputs, found, strict=True):
            self.device.write(outputs[name], array)

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        return self.device.at(address, size)


def _host(address: int, size: int) -> NDArray[np.uint8]:
    return np.frombuffer(ctypes.string_at(address, size), np.uint8)


def fake_sessions(
    folder: Path, manifest: Manifest, variant: str, *, room: int = 2**30
) -> EngineSessions:
    """Sessions of an engine variant whose engines are the graphs that its `compat` names."""
    device = FakeDevice(room)
    graphs = manifest.variant(manifest.variant(variant).compat["graphs"])

    def opened(part: str, sessions: EngineSessions) -> FakeEngine:
        return FakeEngine(device, folder / graphs.graph(part).file, sessions.graph(part))

    opener: Callable[[str, EngineSessions], Any] = opened
    return EngineSessions(folder, manifest, variant, device=device, opener=opener)
