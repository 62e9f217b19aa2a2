"""Optimisers whose whole state is a flat table of named tensors, so that nothing is pickled."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vlv_core.errors import ModelError
from vlv_core.training.options import TrainOptions

Named = Sequence[tuple[str, nn.Parameter]]
READOUTS = frozenset({"lm_head", "logits", "readout", "unembed"})
"""last module names of output layers, whose rows are classes: AdamW, as Muon's authors advise"""


class Optimizer:
    """AdamW, or Muon for hidden matrices with AdamW for the rest, under one learning rate.

    Muon's update is scaled to the size of AdamW's (0.2 RMS, arXiv 2502.16982), so that a recipe
    can change the optimiser and keep its learning rate and weight decay.
    """

    def __init__(self, named: Named, *, modules: nn.Module, options: TrainOptions) -> None:
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in named}
        hidden = hidden_matrices(named, modules=modules) if options.optimizer == "muon" else set()
        muon = [p for name, p in named if name in hidden]
        rest = [(name, p) for name, p in named if name not in hidden]
        self.parts: list[torch.optim.Optimizer] = []
        if muon:
            self.parts.append(
                torch.optim.Muon(
                    muon,
                    lr=options.lr,
                    weight_decay=options.weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if rest:
            self.parts.append(_adamw(rest, options=options))

    def step(self, lr: float) -> None:
        """Update every parameter by its gradient, at this learning rate."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()

    def state(self) -> dict[str, Tensor]:
        """All moments, as `parameter name/entry`."""
        return {
            f"{self.names[parameter]}/{entry}": tensor
            for part in self.parts
            for parameter, entries in part.state.items()
            for entry, tensor in entries.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave. Raises ModelError if it belongs to other parameters."""
        unknown = {key.rpartition("/")[0] for key in state} - set(self.names.values())
        if unknown:
            raise ModelError(f"the optimiser state holds unknown parameters: {sorted(unknown)}")
        owners = {self.names[p]: (part, p) for part in self.parts for p in _parameters(part)}
        for key, tensor in state.items():
            name, _, entry = key.rpartition("/")
            part, parameter = owners[name]
            # AdamW's step counters live on the CPU, moments beside their parameter
            target = tensor.clone() if tensor.ndim == 0 else tensor.to(parameter.device, copy=True)
            part.state[parameter][entry] = target


def hidden_matrices(named: Named, *, modules: nn.Module) -> set[str]:
    """Names of weights that Muon updates: of linear layers, but not embeddings or output layers."""
    linear = {id(m.weight) for m in modules.modules() if isinstance(m, nn.Linear)}
    tied = {id(m.weight) for m in modules.modules() if isinstance(m, nn.Embedding)}
    return {
        name
        for name, parameter in named
        if id(parameter) in linear - tied and not READOUTS & set(name.split(".")[-2:-1])
    }


def _adamw(named: Named, *, options: TrainOptions) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=options.lr, betas=options.betas
    )


def _parameters(part: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in part.param_groups for parameter in group["params"]]
