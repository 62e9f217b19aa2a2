"""torch.compile of a captioner's own parts, in place."""

from typing import Any

import torch

from vlv_core.captioner import Captioner


def compile_parts(captioner: Captioner) -> None:
    """Compile all but the head's stepper, whose cache grows in place with each token."""
    backend: Any = captioner.backend
    model = backend.model
    for part in ("encoder", "bottleneck", "condition", "connector"):
        setattr(model, part, _compiled(getattr(model, part)))
    if model.diffusion is not None:
        model.diffusion.predict = torch.compile(model.diffusion.predict, dynamic=True)


def _compiled(module: Any) -> Any:
    module.compile(dynamic=True)
    return module
