"""A module's tensors to and from one safetensors file.

Tied weights are one tensor under several names: files hold it once, under its first name.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vlv_core.errors import ModelError

_FILLS = frozenset(
    ("normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "constant_", "zero_", "fill_")
)
"""what `nn.init` and modules' constructors fill parameters with, by name"""


class _Unfilled(TorchFunctionMode):
    """Filling a tensor that has no memory does nothing.

    Torch would trace such a fill by decompositions in Python, the first of which imports its
    compiler: longer than all the rest of opening a small model.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in _FILLS:
            target = args[0] if args else kwargs["tensor"]
            if target.is_meta:
                return target
        return function(*args, **kwargs)


@contextmanager
def skeleton() -> Iterator[None]:
    """Modules built in here have parameters without memory, but real buffers, and keep their ties.

    Buffers that no file holds, such as rotary tables, are then right; on the meta device they
    would have no values. Not for several threads at once.
    """
    register = nn.Module.register_parameter

    def bare(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            empty = nn.Parameter(parameter.data.to("meta"), requires_grad=parameter.requires_grad)
            module._parameters[name] = empty

    nn.Module.register_parameter = bare  # type: ignore[method-assign, assignment]
    try:
        with _Unfilled():
            yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def first_names(module: nn.Module) -> dict[str, str]:
    """Every name in the state dict -> the first name of the same tensor."""
    seen: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    return {name: seen.setdefault(id(tensor), name) for name, tensor in state.items()}


def distinct(module: nn.Module) -> dict[str, Tensor]:
    """The state dict with each tensor once."""
    state = module.state_dict()
    return {name: state[name] for name in dict.fromkeys(first_names(module).values())}


def write(tensors: Mapping[str, Tensor], file: Path, *, dtype: torch.dtype) -> str:
    """Write them whole or not at all, floating-point ones in `dtype`; the file's sha256.

    One tensor after the other is converted, and none is copied that need not be.
    """
    partial = file.with_name(f".{file.name}.partial")
    partial.touch()
    mode = partial.stat().st_mode
    save_file({name: _plain(tensor, dtype) for name, tensor in tensors.items()}, partial)
    # safetensors lets nobody but the owner read what it writes
    partial.chmod(mode)
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    digest = sha256_of(partial)
    partial.replace(file)
    return digest


def read(file: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of a file whose sha256 is known, floating-point ones in float32.

    Raises ModelError if it is missing, has changed, or is no safetensors file.
    """
    check_sha256(file, digest)
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ModelError(f"{file} is no safetensors file: {error}") from error
    return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}


def assign(
    module: nn.Module, tensors: Mapping[str, Tensor], *, part: str, partly: bool = False
) -> None:
    """Make tensors, by first names, the module's own; it may stand on the meta device.

    Strict: raises ModelError that lists missing names (unless `partly`), unexpected ones, and
    tensors of another shape.
    """
    expected = distinct(module)
    missing = set() if partly else set(expected) - set(tensors)
    unexpected = set(tensors) - set(expected)
    if missing or unexpected:
        raise ModelError(
            f"{part}: the weights do not fit the code; missing: {sorted(missing) or 'none'}; "
            f"unexpected: {sorted(unexpected) or 'none'}"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"{part}: {name!r} is {tuple(tensor.shape)} in the file, "
                f"but {tuple(expected[name].shape)} in the code"
            )
    _replace(module, tensors)


def materialise(module: nn.Module) -> None:
    """Give parameters on the meta device memory, uninitialised; ties stay ties."""
    empty = {
        name: torch.empty_like(tensor, device="cpu")
        for name, tensor in distinct(module).items()
        if tensor.is_meta
    }
    _replace(module, empty)


def check_sha256(file: Path, digest: str) -> None:
    """Raises ModelError unless the file is there and is the one that was described."""
    if not file.is_file():
        raise ModelError(f"{file} is missing", hint="copy the model folder again")
    if sha256_of(file) != digest:
        raise ModelError(
            f"{file} is not the file that model.toml describes (its sha256 differs)",
            hint="copy the model folder again",
        )


def sha256_of(file: Path) -> str:
    """Reads in pieces: the file may be larger than memory."""
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", wanted).contiguous()


def _replace(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make tensors, by first names, the module's own; what was tied to the old ones follows."""
    names = first_names(module)
    module.load_state_dict(dict(tensors), assign=True, strict=False)
    for alias, name in names.items():
        if alias != name and name in tensors:
            owner, _, leaf = alias.rpartition(".")
            setattr(module.get_submodule(owner), leaf, module.get_parameter(name))
