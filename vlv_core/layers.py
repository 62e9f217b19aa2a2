"""Transformer layers that the core's and the bundled plugins' small networks share.

Shape legend: B batch, L length, S context length, W width.
"""

from torch import Tensor, nn

from vlv_core.ops import attention


class Attention(nn.Module):
    """x (B, L, W) attends to itself, or to context (B, S, Wc) if `context_dim` is given."""

    def __init__(
        self, width: int, heads: int, *, context_dim: int | None = None, causal: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_dim or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        source = x if context is None else context
        key, value = self.key_value(source).chunk(2, dim=-1)
        mixed = attention(
            self._split(self.query(x)), self._split(key), self._split(value), causal=self.causal
        )
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Linear, GELU, Linear; the hidden layer is `ratio` times as wide."""

    def __init__(self, width: int, *, ratio: int = 4) -> None:
        super().__init__(
            nn.Linear(width, ratio * width), nn.GELU("tanh"), nn.Linear(ratio * width, width)
        )


class Block(nn.Module):
    """Pre-norm transformer block, x (B, L, W) -> (B, L, W)."""

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CrossBlock(Block):
    """A block that also reads context (B, S, Wc), between its attention and its MLP."""

    def __init__(self, width: int, heads: int, *, context_dim: int, causal: bool = False) -> None:
        super().__init__(width, heads, causal=causal)
        self.norm_cross = nn.LayerNorm(width)
        self.cross = Attention(width, heads, context_dim=context_dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x))
        x = x + self.cross(self.norm_cross(x), context)
        return x + self.mlp(self.norm2(x))
