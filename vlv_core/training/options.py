"""How a task is trained: plain data that says nothing of what is trained."""

from dataclasses import dataclass
from typing import Literal

from vlv_core.errors import ConfigError

Schedule = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Everything the loop reads. Steps and batch are global: of all processes together."""

    steps: int
    batch: int
    """samples a step, over all processes and accumulated micro-batches"""
    lr: float
    """peak learning rate"""
    schedule: Schedule = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.01
    """decoupled; for matrices only, never for norms, biases and other vectors"""
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    """largest global gradient norm; 0 for none"""
    accumulate: int = 1
    """micro-batches a step"""
    ema: float = 0.0
    """decay of the averaged weights, 0 for none"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of autocast; master weights are float32 always"""
    optimizer: Literal["adamw", "muon"] = "adamw"
    seed: int = 0
    """of dropout inside trained parts; tasks draw their own noise"""
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 20
    strip_every: int = 0
    """steps between picture strips, 0 for none"""
    workers: int = 1
    """background threads that build batches"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "checkpoint_every", "log_every", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least 1")
        if self.warmup_steps >= self.steps and self.warmup_steps > 0:
            raise ConfigError(
                f"warmup_steps is {self.warmup_steps}, but the whole training has {self.steps}",
                hint="lower warmup_steps or raise steps",
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema is {self.ema}, but must lie in [0, 1)")
