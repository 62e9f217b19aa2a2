"""A tiny regression task whose samples are functions of their position."""

import torch
from torch import Tensor, nn

from vlv_core.training.task import Batch


class Toy(nn.Module):
    """x (B, 6) -> (B, 3), with an embedding and a norm so that every kind of parameter is there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(5, 6)
        self.hidden = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 3)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        return self.lm_head(self.norm(torch.tanh(self.hidden(x + self.table(kind)))))


class ToyTask:
    """Learns y = tanh(x A). `poison` makes a sample's target NaN; `unreadable` drops samples."""

    name = "toy"

    def __init__(self, *, poison: int | None = None, unreadable: range = range(0)) -> None:
        self.modules = Toy()
        self.poison, self.unreadable = poison, unreadable

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.modules.named_parameters())

    def batch(self, step: int, positions: range) -> Batch:
        kept = [p for p in positions if p not in self.unreadable]
        if not kept:
            return Batch(())
        x = torch.stack([torch.randn(6, generator=_stream(p)) for p in kept])
        y = torch.tanh(x[:, :3] * 2)
        if self.poison in kept:
            y[kept.index(self.poison)] = float("nan")
        kind = torch.tensor(kept) % 5
        return Batch(tuple(f"sample-{p}" for p in kept), {"x": x, "y": y, "kind": kind})

    def loss(self, batch: Batch, *, step: int) -> tuple[Tensor, float]:
        t = batch.tensors
        error = self.modules(t["x"], t["kind"]).float() - t["y"]
        return error.square().mean(-1).sum(), float(len(batch.keys))


def _stream(position: int) -> torch.Generator:
    return torch.Generator().manual_seed(position)
