"""How to decode, checked once; and what comes back."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from vlv_core.errors import UsageError

FinishReason = Literal["eos", "length", "repetition"]

MAX_CANDIDATES = 256
"""next tokens a row that a stepper may be asked for; compiled graphs are built for it"""

_RANGES: dict[str, tuple[float, float]] = {
    "max_new_tokens": (1, 2**20),
    "beams": (1, MAX_CANDIDATES // 2),
    "temperature": (0, 100),
    "top_k": (1, MAX_CANDIDATES),
    "top_p": (0, 1),
    "length_penalty": (-10, 10),
    "repetition_window": (1, 2**10),
    "repetition_count": (2, 2**10),
    "seed": (0, 2**64 - 1),
}


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Greedy unless `temperature` or `beams` says otherwise. Raises UsageError where unusable."""

    max_new_tokens: int = 300
    """longest caption, end of text included"""
    beams: int = 1
    temperature: float = 0.0
    """0 is greedy; above it, tokens are drawn"""
    top_k: int = MAX_CANDIDATES
    """sampling draws from this many best tokens"""
    top_p: float = 1.0
    """sampling draws from the smallest set of best tokens that holds this probability"""
    length_penalty: float = 1.0
    """beams are ranked by log-probability / tokens ** length_penalty"""
    early_stopping: bool | Literal["never"] = False
    """True: stop at `beams` finished; False: when a running beam, ended now, could not win;
    "never": when it could not win at any length"""
    repetition_window: int = 16
    """longest phrase, tokens, that is watched for repeating; see `stopping.looping`"""
    repetition_count: int = 4
    """times a phrase must stand in a row to be a loop"""
    stop_on_repetition: bool = True
    """end a looping caption; False follows the model to the end and still reports the loop"""
    seed: int = 0
    """of sampling; each row's draws also depend on its key"""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value!r}; use {low}..{high}")
        if self.top_p == 0:
            raise UsageError("top_p is 0, which leaves no token; use more than 0, at most 1")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise UsageError(
                f"early_stopping is {self.early_stopping!r}; use true, false or 'never'"
            )
        if self.beams > 1 and self.temperature > 0:
            raise UsageError(
                f"beams={self.beams} searches and temperature={self.temperature} draws; use one"
            )
        narrowed = self.top_p < 1 or self.top_k < MAX_CANDIDATES
        if narrowed and self.temperature == 0:
            raise UsageError("top_p and top_k act on sampling only; set temperature above 0 too")


class Generated(NamedTuple):
    """What one input row became."""

    row: int
    """the input row"""
    tokens: tuple[int, ...]
    """without the end of text"""
    finish_reason: FinishReason
    logprob: float
    """sum of the model's own log-probabilities of the tokens, end of text included"""
