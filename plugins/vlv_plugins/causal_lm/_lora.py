"""Low-rank adapters (Hu et al., arXiv 2106.09685), by peft, inside the library's own layers."""

from typing import Any

import torch
from torch import nn

from vlv_core.errors import ConfigError, MissingExtra
from vlv_plugins.causal_lm.config import CausalLmConfig

BASE = ".base_layer."
"""what stands in the names of weights that an adapter wraps"""
ADAPTER = ".lora_"
"""what stands in the names of adapters"""


def add_adapters(lm: Any, config: CausalLmConfig) -> None:
    """Wrap the targets; adapters start as zero, so that the model's answers do not change.

    Raises ConfigError for targets that the model does not have, MissingExtra without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingExtra("peft", extra="models") from error
    targets = config.lora_targets
    _check_targets(lm, targets)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    inject_adapter_in_model(lora, lm)


def adapters(module: nn.Module) -> set[str]:
    """Names of the adapters' parameters."""
    return {name for name, _ in module.named_parameters() if ADAPTER in name}


@torch.no_grad()
def merge_adapters(lm: Any) -> Any:
    """`lm` with plain layers of weight W + scale B A where there were adapters.

    Weights below an adapter are new tensors, all others stay as they are.
    """
    wrapped = [name for name, module in lm.named_modules() if hasattr(module, "lora_A")]
    for name in wrapped:
        layer = lm.get_submodule(name)
        base: nn.Linear = layer.base_layer
        weight = base.weight.clone()
        for adapter in layer.active_adapters:
            up, down = layer.lora_B[adapter].weight, layer.lora_A[adapter].weight
            weight += layer.scaling[adapter] * (up @ down)
        with torch.device("meta"):
            merged = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None)
        merged.weight, merged.bias = nn.Parameter(weight, requires_grad=False), base.bias
        lm.set_submodule(name, merged)
    return lm


def _check_targets(lm: nn.Module, targets: str | tuple[str, ...]) -> None:
    if isinstance(targets, str):
        return
    layers = sorted(
        {name.rpartition(".")[2] for name, m in lm.named_modules() if isinstance(m, nn.Linear)}
    )
    if unknown := [target for target in targets if target.rpartition(".")[2] not in layers]:
        raise ConfigError(
            f"lora_targets: the model has no layer {unknown[0]!r}; it has {', '.join(layers)}"
        )
