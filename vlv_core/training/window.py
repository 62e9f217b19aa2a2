"""The steps since the last log row, summed on the device: reading each step would stall it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """What a window holds, on the host."""

    loss: float
    """mean over the window's weight"""
    grad_norm: float
    """of its last step, before clipping"""
    samples: int
    """of this process"""
    bad_step: int | None
    """the first step whose loss or gradient was not finite"""
    bad_keys: tuple[str, ...]
    """this process' samples of that step"""


class Window:
    """Accumulates steps until it is read, then starts anew."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bad: Tensor
        self.norm: Tensor
        self._reset()

    def add(self, step: int, *, keys: tuple[str, ...], total: Tensor, norm: Tensor) -> None:
        """total: (summed loss, weight) of all processes; norm: of the whole gradient."""
        self.keys[step] = keys
        self.total += total
        self.norm = norm
        first_bad = (self.bad < 0) & ~(torch.isfinite(norm) & torch.isfinite(total[0]))
        self.bad = torch.where(first_bad, step, self.bad)

    def read(self) -> Reading:
        """Waits for the device."""
        loss, weight, norm = torch.stack([*self.total, self.norm]).tolist()
        bad = int(self.bad.item())
        reading = Reading(
            loss=loss / max(weight, 1e-12),
            grad_norm=norm,
            samples=sum(len(keys) for keys in self.keys.values()),
            bad_step=bad if bad >= 0 else None,
            bad_keys=self.keys.get(bad, ()),
        )
        self._reset()
        return reading

    def _reset(self) -> None:
        self.keys: dict[int, tuple[str, ...]] = {}
        self.total = torch.zeros(2, device=self.device)
        self.norm = torch.zeros((), device=self.device)
        self.bad = torch.full((), -1, device=self.device)
