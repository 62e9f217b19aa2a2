"""Roles that are one function of one tensor: encoder, bottleneck, connector."""

from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from vlv_core.conformance.base import Conformance, Tensors
from vlv_core.conformance.tracing import check_traced
from vlv_core.specs import Near, PixelSpec


class _Forward(Conformance):
    """A part that is one function of one tensor."""

    def outputs(self, part: Any, *inputs: Tensor) -> Tensors:
        return (part(*inputs),)

    def check_shape(self, part: Any, *expected: int) -> None:
        with torch.no_grad():
            (made,) = self.outputs(part, *self.inputs(part))
        assert made.is_floating_point(), f"the output is {made.dtype}"
        assert tuple(made.shape) == expected, f"made {tuple(made.shape)}, due is {expected}"

    def test_it_is_traced_for_any_batch(self, part: Any) -> None:
        run = partial(self.outputs, part)
        check_traced(part, run, self.inputs(part), close=self.close)

    def test_gradient_reaches_every_parameter(self, part: Any) -> None:
        (made,) = self.outputs(part, *self.inputs(part))
        # not the plain sum, whose gradient a final layer norm cancels
        (made * self.random(*made.shape, seed=6)).sum().backward()
        unreached = [name for name, p in part.named_parameters() if p.grad is None]
        assert not unreached, f"parameters that no gradient reaches: {unreached}"


class EncoderConformance(_Forward):
    """view uint8 (B, S, S, 3) at the encoder's own size -> tokens (B, N, De)."""

    sizes = ("num_tokens", "dim")

    def inputs(self, part: Any) -> Tensors:
        size = part.pixels.size
        generator = torch.Generator().manual_seed(5)
        shape = (self.batch, size, size, 3)
        return (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),)

    def test_pixels_say_how_to_resize(self, part: Any) -> None:
        assert isinstance(part.pixels, PixelSpec), f"pixels is {part.pixels!r}, not a PixelSpec"

    def test_tokens_have_the_declared_shape(self, part: Any) -> None:
        self.check_shape(part, self.batch, part.num_tokens, part.dim)

    def test_tokens_depend_on_every_channel(self, part: Any) -> None:
        (view,) = self.inputs(part)
        with torch.no_grad():
            tokens = part(view)
            for channel in range(3):
                changed = view.clone()
                changed[..., channel] = 255 - changed[..., channel]
                assert not torch.equal(part(changed), tokens), f"channel {channel} is not read"


class BottleneckConformance(_Forward):
    """tokens (B, N, De) -> z (B, K, Dz)."""

    near = Near(view_size=64, num_tokens=12, token_dim=24, embedding_dim=16, max_queries=8)
    sizes = ("num_queries", "dim")
    queries: ClassVar[str] = "queries"
    """name of the parameter that holds the learned queries, K next to last"""

    def inputs(self, part: Any) -> Tensors:
        return (self.random(self.batch, self.near.num_tokens, self.near.token_dim),)

    def test_z_has_the_declared_shape(self, part: Any) -> None:
        assert part.dim == self.near.embedding_dim, "dim is not the condition's embedding width"
        self.check_shape(part, self.batch, part.num_queries, part.dim)

    def test_declared_causal_is_causal(self, part: Any) -> None:
        if not part.causal:
            pytest.skip("declared not causal")
        queries = dict(part.named_parameters()).get(self.queries)
        assert queries is not None, f"no parameter {self.queries!r}: set `queries` to its name"
        (tokens,) = self.inputs(part)
        for kept in range(1, part.num_queries):
            with torch.no_grad():
                before = part(tokens)
                queries[..., kept:, :] += self.random(*queries[..., kept:, :].shape, seed=kept)
                after = part(tokens)
            message = f"declared causal, but z[:, :{kept}] depends on later queries"
            self.close(before[:, :kept], after[:, :kept], message)


class ConnectorConformance(_Forward):
    """context (B, L, Dc) -> prefix (B, M, Dl)."""

    near = Near(
        view_size=64, num_queries=6, embedding_dim=16, max_queries=8, context_dim=16, head_dim=24
    )
    sizes = ("dim",)

    def inputs(self, part: Any) -> Tensors:
        return (self.random(self.batch, self.near.num_queries, self.near.context_dim),)

    def test_prefix_has_the_heads_width(self, part: Any) -> None:
        assert part.dim == self.near.head_dim, "dim is not the head's"
        with torch.no_grad():
            prefix = part(*self.inputs(part))
        right = prefix.ndim == 3 and (len(prefix), prefix.shape[2]) == (self.batch, part.dim)
        assert right, f"prefix is {tuple(prefix.shape)}, due is ({self.batch}, M, {part.dim})"
