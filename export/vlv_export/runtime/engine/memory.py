"""Memory of a device: asked for once, used again, and freed when it is short.

Shape legend as in `runtime.cache`.
"""

import weakref
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_export.runtime.engine.device import Box, Device
from vlv_export.runtime.engine.elements import RAW, decoded

ALIGNED = 256
"""bytes: TensorRT takes no tensor that begins at another address than a multiple of them, and
sizes are rounded up to it, so that like sizes share memory"""


def aligned_rows(width: int) -> int:
    """After how many rows of `width` bytes another tensor may begin."""
    return ALIGNED // gcd(ALIGNED, width)


class Buffer:
    """Bytes of a device, given back to their pool when nobody refers to them any more."""

    def __init__(self, address: int, size: int, pool: "Pool | None" = None) -> None:
        self.address, self.size = address, size
        # All memory of a pool goes with it, so it must not go before this.
        self._pool = pool


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
    """Buffers of one device. One stream runs all work, so memory is used again without a wait.

    What it has asked for is freed when neither it nor any of its buffers is referred to.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._free: dict[int, list[int]] = {}
        self._held: set[int] = set()
        weakref.finalize(self, _free_all, device, self._held).atexit = False

    def take(self, size: int) -> Buffer:
        """At least `size` bytes. Raises MemoryError if the device has no more."""
        size = -(-max(size, 1) // ALIGNED) * ALIGNED
        free = self._free.setdefault(size, [])
        buffer = Buffer(free.pop() if free else self._allocate(size), size, self)
        weakref.finalize(buffer, free.append, buffer.address).atexit = False
        return buffer

    def _allocate(self, size: int) -> int:
        try:
            address = self.device.allocate(size)
        except MemoryError:
            self._release()
            address = self.device.allocate(size)
        self._held.add(address)
        return address

    def _release(self) -> None:
        """Free what is kept for later."""
        self.device.synchronise()
        for addresses in self._free.values():
            self._held.difference_update(addresses)
            _free_all(self.device, addresses)


def _free_all(device: Device, addresses: list[int] | set[int]) -> None:
    while addresses:
        device.free(addresses.pop())


class DeviceMemory:
    """A `runtime.memory.Memory` whose blocks lie on a device."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def zeros(self, shape: tuple[int, ...], dtype: str) -> DeviceBlock:
        tensors, rows, *others = shape
        # Rows that nobody asked for, so that each tensor of the block begins aligned.
        step = aligned_rows(prod(others) * RAW[dtype].itemsize)
        shape = (tensors, -(-rows // step) * step, *others)
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
