"""A part of an engine variant, bound to its inputs and outputs, ready to run again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import ModelError
from vlv_export.runtime.engine.elements import RAW
from vlv_export.runtime.engine.memory import Buffer, DeviceTensor, Pool
from vlv_export.runtime.engine.profiles import ROWS, Profile, pick

if TYPE_CHECKING:
    from vlv_export.manifest import GraphEntry, TensorEntry
    from vlv_export.runtime.engine.device import Engine

Given = DeviceTensor | NDArray[Any]


class EngineBound:
    """Inputs and outputs are tensors of the device, or host arrays that have a copy there.

    Outputs that nobody names get memory of their own, because an engine writes all of them.
    Outputs that are an input updated in place share its memory. Raises ModelError for inputs that
    the graph does not take, or that no profile holds.
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
        self._part, self._entry, self._engine, self._pool = part, entry, engine, pool
        self._inputs, self._varying = dict(inputs), varying
        self.outputs = {
            name: each for name, each in outputs.items() if not isinstance(each, DeviceTensor)
        }
        """the host arrays, which `run` fills"""
        sizes = axis_sizes(part, entry, inputs)
        self._rows = sizes.get(ROWS, 1)
        self._profile, self._most = pick(part, profiles, sizes)
        self._tensors = {name: self._placed(name, given) for name, given in inputs.items()}
        self._answers = {
            each.name: self._target(each, outputs.get(each.name), sizes) for each in entry.outputs
        }
        for name in inputs:
            self._upload(name)

    def run(self) -> None:
        """Read what varies, run, and fill the host's outputs. Raises VlvError if it fails."""
        for name in self._varying:
            self._upload(name)
        for start in range(0, self._rows, self._most):
            self._enqueue(start, min(self._most, self._rows - start))
        for name, array in self.outputs.items():
            self._pool.device.download(array, self._answers[name].address)
        self._pool.device.synchronise()

    def _upload(self, name: str) -> None:
        given = self._inputs[name]
        if not isinstance(given, DeviceTensor) and name not in self._engine.host_inputs:
            self._pool.device.upload(self._tensors[name].address, given)

    def _enqueue(self, start: int, rows: int) -> None:
        """Run rows start to start + rows: each tensor's rows lie one after another."""
        inputs = {}
        for each in self._entry.inputs:
            tensor = self._tensors[each.name]
            shape = (rows, *tensor.shape[1:]) if _has_rows(each) else tensor.shape
            inputs[each.name] = (_address(each, tensor, start), shape)
        outputs = {
            each.name: _address(each, self._answers[each.name], start)
            for each in self._entry.outputs
        }
        self._engine.enqueue(self._profile, inputs, outputs)

    def _placed(self, name: str, given: Given) -> DeviceTensor:
        if isinstance(given, DeviceTensor):
            return given
        dtype = next(each.dtype for each in self._entry.inputs if each.name == name)
        _check_raw(self._part, name, given, dtype)
        if name in self._engine.host_inputs:
            return _on_host(given, dtype)
        return self._fresh(given.shape, dtype)

    def _target(
        self, entry: TensorEntry, given: Given | None, sizes: Mapping[str, int]
    ) -> DeviceTensor:
        """Where the engine writes an output."""
        if isinstance(given, DeviceTensor):
            return given
        if given is not None:
            _check_raw(self._part, entry.name, given, entry.dtype)
        for past, present in self._entry.aliases.items():
            if present == entry.name:
                return self._tensors[past]
        shape = tuple(each if isinstance(each, int) else sizes[each] for each in entry.shape)
        return self._fresh(shape, entry.dtype)

    def _fresh(self, shape: tuple[int, ...], dtype: str) -> DeviceTensor:
        size = int(np.prod(shape, dtype=np.int64)) * RAW[dtype].itemsize
        buffer = self._pool.take(size)
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


def _has_rows(entry: TensorEntry) -> bool:
    return bool(entry.shape) and entry.shape[0] == ROWS


def _address(entry: TensorEntry, tensor: DeviceTensor, row: int) -> int:
    """Of a row; of the whole tensor if it has none."""
    if not row or not _has_rows(entry):
        return tensor.address
    width = int(np.prod(tensor.shape[1:], dtype=np.int64)) * RAW[tensor.dtype].itemsize
    return tensor.address + row * width


def _check_raw(part: str, name: str, array: NDArray[Any], dtype: str) -> None:
    """Bytes are copied as they lie. Raises ModelError if they would be misread."""
    if array.dtype != RAW[dtype] or not array.flags.c_contiguous:
        raise ModelError(f"part {part!r}: {name!r} is {array.dtype}, and {dtype} is read")


def _on_host(array: NDArray[Any], dtype: str) -> DeviceTensor:
    address = int(array.ctypes.data)
    return DeviceTensor(Buffer(address, array.nbytes), address, array.shape, dtype)
