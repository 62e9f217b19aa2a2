"""Where the caches of decodes lie.

A block holds N tensors of one shape, (N, R, H, C, D). Shape legend as in `runtime.cache`.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Memory(Protocol):
    """Blocks are made, copied within, and read here alone; their type is the memory's own."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A block of zeros. Raises MemoryError if there is no room."""
        ...

    def tensor(self, block: Any, index: int, rows: int) -> Any:
        """The block's tensor `index`, its first rows (rows, H, C, D), as graphs are bound to it."""
        ...

    def copy(
        self, target: Any, row: int, source: Any, other: int, *, start: int, stop: int
    ) -> None:
        """Of all N tensors: positions start to stop of the source's row `other` to `row`.

        The two blocks may be one, and may differ in R and C.
        """
        ...

    def read(self, tensor: Any) -> NDArray[Any]:
        """What a tensor holds, to look at; bfloat16 as float32."""
        ...


class HostMemory:
    """Blocks are numpy arrays."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        return np.zeros(shape, np.dtype(dtype))

    def tensor(self, block: NDArray[Any], index: int, rows: int) -> NDArray[Any]:
        return block[index, :rows]

    def copy(
        self,
        target: NDArray[Any],
        row: int,
        source: NDArray[Any],
        other: int,
        *,
        start: int,
        stop: int,
    ) -> None:
        target[:, row, :, start:stop] = source[:, other, :, start:stop]

    def read(self, tensor: NDArray[Any]) -> NDArray[Any]:
        return tensor
