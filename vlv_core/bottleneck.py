"""The built-in bottleneck: K learned queries read the visual tokens through cross-attention."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vlv_core.layers import CrossBlock

if TYPE_CHECKING:
    from vlv_core.builtin import QueryConfig
    from vlv_core.specs import Near


class QueryBottleneck(nn.Module):
    """tokens (B, N, De) -> z (B, K, Dz).

    A causal transformer decoder over the queries: query i sees queries <= i and all tokens, so
    that the first k of z do not depend on the rest. The last MLP is the paper's phi.
    """

    causal = True

    def __init__(
        self, *, num_queries: int, width: int, depth: int, heads: int, token_dim: int, dim: int
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.dim = dim
        self.queries = nn.Parameter(torch.randn(num_queries, width) * 0.5)
        self.tokens = nn.Sequential(nn.LayerNorm(token_dim), nn.Linear(token_dim, width))
        self.blocks = nn.ModuleList(
            CrossBlock(width, heads, context_dim=width, causal=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.phi = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        context = self.tokens(tokens)
        x = self.queries.expand(tokens.shape[0], -1, -1)
        for block in self.blocks:
            x = block(x, context)
        return self.phi(self.norm(x))


def build(config: "QueryConfig", near: "Near") -> QueryBottleneck:
    """Architecture only; `near` gives the token width and the condition's embedding width."""
    return QueryBottleneck(
        num_queries=config.num_queries,
        width=config.width or near.token_dim,
        depth=config.depth,
        heads=config.heads,
        token_dim=near.token_dim,
        dim=near.embedding_dim,
    )
