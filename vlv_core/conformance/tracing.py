"""Whether a part can become one graph for batches of any size, as exporters need."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Tensors = tuple[Tensor, ...]


class Call(nn.Module):
    """A function of tensors, with the weights that it uses."""

    def __init__(self, part: nn.Module, function: Callable[..., Tensors]) -> None:
        super().__init__()
        self.part, self.function = part, function

    def forward(self, *inputs: Tensor) -> Tensors:
        return tuple(self.function(*inputs))


@torch.no_grad()
def check_traced(
    part: nn.Module,
    function: Callable[..., Tensors],
    inputs: Tensors,
    *,
    close: Callable[[Tensor, Tensor, str], None],
) -> None:
    """Trace `function` on three rows or more, then compare it on one, and on many.

    Fails where the batch size is computed in Python (`len(x)`, `int(x.shape[0])`, a branch on it).
    """
    rows = torch.export.Dim.DYNAMIC
    call = Call(part, function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            shapes = (tuple({0: rows} for _ in inputs),)
            program = torch.export.export(call, inputs, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise AssertionError(
                "it cannot be traced for batches of any size; take sizes from x.shape, and do not "
                f"branch on tensors: {error}"
            ) from error
    traced: Any = program.module()
    for count in (1, 2 * len(inputs[0]) + 1):
        others = tuple(_rows(each, count) for each in inputs)
        for mine, due in zip(traced(*others), call(*others), strict=True):
            close(mine, due, f"traced on {len(inputs[0])} rows, it differs on {count}")


def _rows(tensor: Tensor, count: int) -> Tensor:
    index = torch.arange(count, device=tensor.device) % len(tensor)
    return tensor[index]
