"""A part of an engine variant, bound to its inputs and outputs, ready to run again and again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from vlv_core.errors import ModelError
from vlv_export.runtime.engine.elements import RAW
from vlv_export.runtime.engine.memory import ALIGNED, Buffer, DeviceTensor, Pool, aligned_rows
from vlv_export.runtime.engine.profiles import ROWS, Profile, pick

if TYPE_CHECKING:
    from vlv_export.manifest import GraphEntry, TensorEntry
    from vlv_export.runtime.engine.device import Engine

Given = DeviceTensor | NDArray[Any]


class EngineBound:
    """Inputs and outputs are tensors of the device, or host arrays that have a copy there.

    Outputs that nobody names get memory of their own, because an engine writes all of them.
    Outputs that are an input updated in place share its memory. A batch longer than the profiles
    is run in pieces, each in memory of its own. Raises ModelError for inputs that the graph does
    not take, or that no profile holds.
    """

    def __init__(
        self,
        part: str,
        entry: GraphEntry,
        engine: Engine,
        pool: Pool,
        profiles: Sequence[Profile],
        inputs: Mapping[str, Given],
        outputs: Mapping[str, Given],
        *,
        varying: Sequence[str],
    ) -> None:
        self._device, self._varying = pool.device, varying
        self.outputs = {
            name: each for name, each in outputs.items() if not isinstance(each, DeviceTensor)
        }
        """the host arrays, which `run` fills"""
        _check_raw(part, entry, {**inputs, **outputs})
        sizes = axis_sizes(part, entry, inputs)
        profile, most = pick(part, profiles, sizes)
        total = sizes.get(ROWS, 1)
        if total > most:
            most = _whole(part, most, [*inputs.values(), *outputs.values()])
        self._pieces = []
        for start in range(0, total, most):
            rows = slice(start, min(start + most, total))
            cut = [
                {
                    each.name: _cut(each, given[each.name], rows)
                    for each in tensors
                    if each.name in given
                }
                for tensors, given in ((entry.inputs, inputs), (entry.outputs, outputs))
            ]
            piece = _Piece(entry, engine, pool, profile, *cut)
            self._pieces.append(piece)
            piece.upload(name for name in inputs if name not in varying)
        # The caller may change the arrays from now on.
        self._device.synchronise()

    def run(self) -> None:
        """Read what varies, run, and fill the host's outputs. Raises VlvError if it fails."""
        for piece in self._pieces:
            piece.upload(self._varying)
            piece.run()
        # After all runs: a copy to the host may wait for the device.
        for piece in self._pieces:
            piece.download()
        self._device.synchronise()


class _Piece:
    """Rows that one run of the engine takes. Every tensor begins where the engine allows it."""

    def __init__(
        self,
        entry: GraphEntry,
        engine: Engine,
        pool: Pool,
        profile: int,
        inputs: Mapping[str, Given],
        outputs: Mapping[str, Given],
    ) -> None:
        self._entry, self._engine, self._pool = entry, engine, pool
        # They must live as long as the addresses of what they hold.
        self._profile, self._given, self._outputs = profile, inputs, outputs
        kinds = {each.name: each.dtype for each in entry.inputs}
        self._tensors = {
            name: self._placed(name, given, kinds[name]) for name, given in inputs.items()
        }
        sizes = axis_sizes("", entry, inputs)
        self._answers = {
            each.name: self._target(each, outputs.get(each.name), sizes) for each in entry.outputs
        }

    def upload(self, names: Iterable[str]) -> None:
        """Copy host arrays to their places; they must not change until `synchronise`."""
        for name in names:
            given = self._given[name]
            if not isinstance(given, DeviceTensor) and name not in self._engine.host_inputs:
                self._pool.device.upload(self._tensors[name].address, given)

    def run(self) -> None:
        self._engine.enqueue(
            self._profile,
            {name: (each.address, each.shape) for name, each in self._tensors.items()},
            {name: each.address for name, each in self._answers.items()},
        )

    def download(self) -> None:
        """Copy to host arrays; they are whole after `synchronise`."""
        for name, given in self._outputs.items():
            if not isinstance(given, DeviceTensor):
                self._pool.device.download(given, self._answers[name].address)

    def _placed(self, name: str, given: Given, dtype: str) -> DeviceTensor:
        if isinstance(given, DeviceTensor):
            return given
        if name in self._engine.host_inputs:
            address = int(given.ctypes.data)
            return DeviceTensor(Buffer(address, given.nbytes), address, given.shape, dtype)
        return self._fresh(given.shape, dtype)

    def _target(
        self, entry: TensorEntry, given: Given | None, sizes: Mapping[str, int]
    ) -> DeviceTensor:
        """Where the engine writes an output."""
        if isinstance(given, DeviceTensor):
            return given
        for past, present in self._entry.aliases.items():
            if present == entry.name:
                return self._tensors[past]
        shape = tuple(each if isinstance(each, int) else sizes[each] for each in entry.shape)
        return self._fresh(shape, entry.dtype)

    def _fresh(self, shape: tuple[int, ...], dtype: str) -> DeviceTensor:
        buffer = self._pool.take(prod(shape) * RAW[dtype].itemsize)
        return DeviceTensor(buffer, buffer.address, shape, dtype)


def axis_sizes(part: str, entry: GraphEntry, inputs: Mapping[str, Given]) -> dict[str, int]:
    """Named axis -> its size, by the inputs' shapes, or by the value of the input of its name.

    Raises ModelError for shapes that the graph does not take or that contradict each other.
    """
    sizes: dict[str, int] = {}
    for each in entry.inputs:
        shape = inputs[each.name].shape
        wrong = len(shape) != len(each.shape)
        for axis, size in zip(each.shape, shape, strict=False):
            known = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
            wrong = wrong or size != known
        if wrong:
            raise ModelError(
                f"part {part!r} takes {each.name!r} as {each.shape}; {shape} was given"
            )
    for axis in {axis for each in entry.outputs for axis in each.shape} - {*sizes}:
        given = inputs.get(str(axis))
        if given is not None and not isinstance(given, DeviceTensor):
            sizes[str(axis)] = int(given[0])
    return sizes


def _cut(entry: TensorEntry, given: Given, rows: slice) -> Given:
    """Some rows of a tensor, where they lie; all of one that has none."""
    if not entry.shape or entry.shape[0] != ROWS:
        return given
    if not isinstance(given, DeviceTensor):
        return given[rows]
    address = given.address + rows.start * _row_bytes(given)
    return replace(given, address=address, shape=(rows.stop - rows.start, *given.shape[1:]))


def _whole(part: str, most: int, given: Sequence[Given]) -> int:
    """The most rows of a piece after which the next piece of each tensor is aligned.

    Raises ModelError if there are none.
    """
    widths = [_row_bytes(each) for each in given if isinstance(each, DeviceTensor)]
    step = max(map(aligned_rows, widths), default=1)
    if step > most:
        raise ModelError(
            f"the engine of part {part!r} takes {most} rows at once, and only every {step} rows of "
            f"its cache begin at a multiple of {ALIGNED} bytes",
            hint="export with a --capacity that is a multiple of 64, or a larger --batch",
        )
    return most - most % step


def _row_bytes(tensor: DeviceTensor) -> int:
    return prod(tensor.shape[1:]) * RAW[tensor.dtype].itemsize


def _check_raw(part: str, entry: GraphEntry, given: Mapping[str, Given]) -> None:
    """Bytes are copied as they lie. Raises ModelError if they would be misread."""
    for each in (*entry.inputs, *entry.outputs):
        array = given.get(each.name)
        if array is None or isinstance(array, DeviceTensor):
            continue
        if array.dtype != RAW[each.dtype] or not array.flags.c_contiguous:
            raise ModelError(
                f"part {part!r}: {each.name!r} is {array.dtype}, and {each.dtype} is read"
            )
