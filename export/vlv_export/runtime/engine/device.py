"""What the runtime asks of a GPU and of an engine on it. Addresses are plain integers.

All work goes to one stream, in order: a copy or a run that was asked for later starts later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """What must be known of a GPU before an engine is opened."""

    name: str
    sm: int
    """compute capability: 89 for 8.9"""
    free_bytes: int


@dataclass(frozen=True)
class Box:
    """Where bytes lie that are equally spaced in two ways."""

    address: int
    """of the first byte"""
    pitch: int
    """bytes from one row to the next"""
    rows: int
    """rows from one slice to the next"""


class Device(Protocol):
    """Memory of one GPU."""

    def allocate(self, size: int) -> int:
        """The address of `size` bytes, a multiple of 256. Raises MemoryError if there are not so
        many."""
        ...

    def free(self, address: int) -> None: ...

    def clear(self, address: int, size: int) -> None:
        """Make all bytes 0."""
        ...

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a contiguous array to the device; it must live, and not change, until
        `synchronise`."""
        ...

    def download(self, array: NDArray[Any], address: int) -> None:
        """Fill a contiguous array from the device; it is whole after `synchronise`."""
        ...

    def copy(self, target: Box, source: Box, *, width: int, rows: int, slices: int) -> None:
        """Copy `slices` times `rows` rows of `width` bytes, which must not overlap."""
        ...

    def synchronise(self) -> None:
        """Wait until all work is done. Raises VlvError if any of it failed."""
        ...


class Engine(Protocol):
    """A compiled part, opened on a device."""

    @property
    def forms(self) -> Mapping[str, tuple[str, Shape]]:
        """Input or output -> element type as TensorRT names it, and shape, -1 where it is free."""
        ...

    @property
    def host_inputs(self) -> frozenset[str]:
        """Inputs that it reads from the host's memory, such as sizes."""
        ...

    def enqueue(
        self, profile: int, inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, int]
    ) -> None:
        """Run with one of its profiles on inputs (address, shape), writing to addresses.

        Raises VlvError if it cannot.
        """
        ...
