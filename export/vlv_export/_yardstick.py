"""Measuring the eager model in a lower precision, on the golden cases' own inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vlv_core.errors import VlvError
from vlv_core.model import VLV
from vlv_core.model_parts import export_parts
from vlv_core.parts import ExportPart, names
from vlv_core.torch_backend import TorchBackend
from vlv_export._golden_cases import whole
from vlv_export.golden import Arrays, Case, Golden
from vlv_export.parity.figures import per_position, relative_l2
from vlv_export.yardstick import write

DTYPE = "bf16"


def write_yardstick(model: VLV, golden: Golden, path: Path) -> None:
    """Run every part in bfloat16, and write how far its outputs are from the golden ones.

    Turns the model to bfloat16 where it lies, so that it needs no memory for a copy: it is of no
    other use afterwards. Raises VlvError for answers that are no numbers.
    """
    model.to(torch.bfloat16)
    parts = _parts(model)
    errors: dict[str, dict[str, float]] = {}
    for case in golden.cases:
        worst = errors.setdefault(case.part, {})
        for name, found in _answers(model, parts[case.part], case).items():
            error = float(relative_l2(*_rows(name, found, case.outputs[name])).max())
            if not np.isfinite(error):
                raise VlvError(f"the model in bfloat16 answers no numbers in {name!r}")
            worst[name] = max(worst.get(name, 0.0), error)
    write({DTYPE: errors}, path)


def _parts(model: VLV) -> dict[str, ExportPart]:
    drawing = model.diffusion is not None
    return {part.name: part for part in export_parts(model, reconstruct=drawing)}


@torch.inference_mode()
def _answers(model: VLV, part: ExportPart, case: Case) -> Arrays:
    if part.name == "head":
        return {"log_probs": _decode(model, case)}
    found = part.module(*(_given(name, case.inputs[name]) for name in names(part.inputs)))
    outputs = zip(names(part.outputs), found, strict=True)
    return {name: tensor.float().cpu().numpy() for name, tensor in outputs}


def _given(name: str, array: NDArray[Any]) -> torch.Tensor:
    """Floating numbers in bfloat16, but for times, which models embed in float32."""
    tensor = torch.from_numpy(array)
    return tensor.bfloat16() if tensor.is_floating_point() and name != "t" else tensor


def _decode(model: VLV, case: Case) -> NDArray[np.float32]:
    """Log-probabilities (B, T + 1, V) along the case's tokens, as its golden ones were made."""
    prefix, tokens = case.inputs["prefix"], case.inputs["tokens"]
    vocab = model.head.vocab_size
    stepper = TorchBackend(model).start(prefix, prefix.shape[1] + tokens.shape[1])
    found = [whole(stepper.prefill(vocab), vocab)]
    found += [whole(stepper.step(column, vocab), vocab) for column in tokens.T.copy()]
    return np.stack(found, axis=1)


def _rows(
    name: str, found: NDArray[Any], expected: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as L1 compares them."""
    if name != "log_probs":
        return found, expected
    return per_position(found), per_position(expected)
