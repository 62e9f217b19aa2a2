"""Memory of a device: asked for once, used again, and freed when it is short.

Shape legend as in `runtime.cache`.
"""

import weakref
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_export.runtime.engine.device import Box, Device
from vlv_export.runtime.engine.elements import RAW, decoded

ALIGNED = 256
"""bytes that sizes are rounded up to, so that like sizes share memory"""


class Buffer:
    """Bytes of a device, given back to their pool when nobody refers to them any more."""

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size


@dataclass(frozen=True)
class DeviceTensor:
    """A part of a buffer, as a graph's input or output."""

    buffer: Buffer
    address: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class DeviceBlock:
    """(N, R, H, C, D), row-major."""

    buffer: Buffer
    shape: tuple[int, ...]
    dtype: str

    def stride(self, axis: int) -> int:
        """Bytes from one index of an axis to the next."""
        return prod(self.shape[axis + 1 :]) * RAW[self.dtype].itemsize


class Pool:
    """Buffers of one device. One stream runs all work, so memory is used again without a wait."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._free: dict[int, list[int]] = {}

    def take(self, size: int) -> Buffer:
        """At least `size` bytes. Raises MemoryError if the device has no more."""
        size = -(-max(size, 1) // ALIGNED) * ALIGNED
        free = self._free.setdefault(size, [])
        buffer = Buffer(free.pop() if free else self._allocate(size), size)
        weakref.finalize(buffer, free.append, buffer.address).atexit = False
        return buffer

    def _allocate(self, size: int) -> int:
        try:
            return self.device.allocate(size)
        except MemoryError:
            self._release()
            return self.device.allocate(size)

    def _release(self) -> None:
        """Free what is kept for later."""
        self.device.synchronise()
        for addresses in self._free.values():
            while addresses:
                self.device.free(addresses.pop())


class DeviceMemory:
    """A `runtime.memory.Memory` whose blocks lie on a device."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def zeros(self, shape: tuple[int, ...], dtype: str) -> DeviceBlock:
        size = prod(shape) * RAW[dtype].itemsize
        block = DeviceBlock(self.pool.take(size), shape, dtype)
        self.pool.device.clear(block.buffer.address, size)
        return block

    def tensor(self, block: DeviceBlock, index: int, rows: int) -> DeviceTensor:
        address = block.buffer.address + index * block.stride(0)
        return DeviceTensor(block.buffer, address, (rows, *block.shape[2:]), block.dtype)

    def copy(
        self,
        target: DeviceBlock,
        row: int,
        source: DeviceBlock,
        other: int,
        *,
        start: int,
        stop: int,
    ) -> None:
        tensors, _, heads, _, _ = source.shape
        self.pool.device.copy(
            _box(target, row, start),
            _box(source, other, start),
            width=(stop - start) * source.stride(3),
            rows=heads,
            slices=tensors,
        )

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        raw = np.empty(tensor.shape, RAW[tensor.dtype])
        self.pool.device.download(raw, tensor.address)
        self.pool.device.synchronise()
        return decoded(raw, tensor.dtype)


def _box(block: DeviceBlock, row: int, position: int) -> Box:
    """One row of all tensors from a position on: a head is a row of the box, a tensor a slice."""
    _, rows, heads, _, _ = block.shape
    address = block.buffer.address + row * block.stride(1) + position * block.stride(3)
    return Box(address, block.stride(2), rows * heads)
