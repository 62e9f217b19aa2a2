"""VLV: the composition of the parts, in one sitting.

    view -> encoder -> tokens -> bottleneck -> z -> condition -> context -+-> diffusion
                                                                          +-> connector -> head

Method: Zhang et al., Vision-Language-Vision Auto-Encoder, arXiv 2507.07104.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vlv_core.errors import ConfigError
from vlv_core.protocols import Conditioning
from vlv_core.specs import View

PARTS = ("encoder", "bottleneck", "condition", "diffusion", "connector", "head")
"""every part's name, in the order of the forward pass; `diffusion` may be absent"""


class EncoderOutput(NamedTuple):
    """What the composed encoder gives: z (B, K, Dz), context (B, L, Dc), prefix (B, M, Dl)."""

    z: Tensor
    context: Tensor
    pooled: Tensor | None
    prefix: Tensor


class VLV(nn.Module):
    """The whole model. `diffusion` is None for captioning alone."""

    def __init__(
        self,
        *,
        view: View,
        encoder: Any,
        bottleneck: Any,
        condition: Any,
        connector: Any,
        head: Any,
        diffusion: Any = None,
    ) -> None:
        super().__init__()
        self.view = view
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.condition = condition
        self.diffusion = diffusion
        self.connector = connector
        self.head = head
        self._check_sizes()

    def forward(self, view: Tensor) -> EncoderOutput:
        """view uint8 (B, S, S, 3) -> all that captioning and reconstruction need."""
        return self.read(self.encoder(view))

    def read(self, tokens: Tensor) -> EncoderOutput:
        """tokens (B, N, De) -> the rest, for tokens that come from a cache."""
        return self.read_z(self.bottleneck(tokens))

    def read_z(self, z: Tensor) -> EncoderOutput:
        """z (B, K, Dz), of a picture or mixed -> the rest."""
        conditioning = self.condition(z)
        prefix = self.connector(conditioning.context)
        return EncoderOutput(z, conditioning.context, conditioning.pooled, prefix)

    def stage1_loss(self, tokens: Tensor, latents: Tensor, *, noise: Tensor, t: Tensor) -> Tensor:
        """The diffusion's own denoising loss under z's conditioning, (B * R,).

        noise (B * R, ...) and t (B * R,) hold R draws a picture; it is read once for all of them.
        """
        conditioning: Conditioning = self.condition(self.bottleneck(tokens))
        draws = len(noise) // len(tokens)
        context, pooled = (
            None if each is None else each.repeat_interleave(draws, dim=0) for each in conditioning
        )
        latents = latents.repeat_interleave(draws, dim=0)
        return self.diffusion.loss(latents, Conditioning(context, pooled), noise=noise, t=t)

    def stage2_loss(self, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The head's negative log-likelihood of captions ids (B, L), summed over mask, (B,)."""
        return self.head.loss(self.read(tokens).prefix, ids, mask)

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """Present parts by name, in the order of the forward pass."""
        for name in PARTS:
            if getattr(self, name) is not None:
                yield name, getattr(self, name)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def _check_sizes(self) -> None:
        _agree("bottleneck.dim", self.bottleneck.dim, "condition.embedding_dim",
               self.condition.embedding_dim)  # fmt: skip
        _agree("connector.dim", self.connector.dim, "head.dim", self.head.dim)
        queries, most = self.bottleneck.num_queries, self.condition.max_queries
        if queries > most:
            raise ConfigError(
                f"bottleneck.num_queries is {queries}, but condition.max_queries is {most}",
                hint=f"set bottleneck.num_queries to at most {most}",
            )


def _agree(left: str, left_size: int, right: str, right_size: int) -> None:
    if left_size != right_size:
        raise ConfigError(
            f"{left} is {left_size}, but {right} is {right_size}",
            hint="neighbours must agree: change one of the two parts or its options",
        )
