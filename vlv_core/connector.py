"""The built-in connector: the paper's psi, an MLP from context to the head's embedding space."""

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from vlv_core.builtin import MlpConfig
    from vlv_core.specs import Near


class Mlp(nn.Module):
    """context (B, L, Dc) -> prefix (B, L, Dl): `depth` linear layers with GELU between them."""

    def __init__(self, *, context_dim: int, hidden: int, depth: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        widths = [context_dim, *[hidden] * (depth - 1), dim]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, context: Tensor) -> Tensor:
        return self.layers(context)


def build(config: "MlpConfig", near: "Near") -> Mlp:
    """Architecture only; `near` gives the context's and the head's widths."""
    return Mlp(
        context_dim=near.context_dim,
        hidden=config.hidden or near.head_dim,
        depth=config.depth,
        dim=near.head_dim,
    )
