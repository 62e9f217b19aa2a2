"""An exponential moving average of the trained weights, used for the saved model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """average <- d * average + (1 - d) * weight, where d rises to `decay` as (1 + n) / (10 + n).

    The rise lets a short training forget its random start.
    """

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]], *, decay: float) -> None:
        self.decay = decay
        self.names = [name for name, _ in named]
        self.weights = [parameter.data for _, parameter in named]
        self.average = [weight.clone() for weight in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights that step (from 0) made."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self.weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averaged weights stand in the model for the duration."""
        kept = [weight.clone() for weight in self.weights]
        self.apply()
        try:
            yield
        finally:
            torch._foreach_copy_(self.weights, kept)

    def apply(self) -> None:
        """Put the averaged weights into the model for good."""
        torch._foreach_copy_(self.weights, self.average)

    def state(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.average, strict=True))

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, average in zip(self.names, self.average, strict=True):
            average.copy_(state[name])
