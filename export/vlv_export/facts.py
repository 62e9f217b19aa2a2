"""An artefact's small files: how pictures come in, and how words come out."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from vlv_core.captioner import Limits
from vlv_core.config import convert
from vlv_core.errors import ConfigError, ModelError
from vlv_core.files import contained
from vlv_core.sampling import Schedule, Spacing
from vlv_core.specs import PixelSpec, Prediction, View

PREPROCESS = "preprocess.json"
GENERATION = "generation.json"
TOKENIZER = "tokenizer.json"
UNCONDITIONAL = "unconditional.safetensors"

_LARGEST = 2**14
"""edge of pictures, pixels"""

T = TypeVar("T")


@dataclass(frozen=True)
class Preprocess:
    """`preprocess.json`."""

    view: View
    pixels: PixelSpec
    """of the encoder"""

    def __post_init__(self) -> None:
        for size in (self.view.size, self.pixels.size, self.pixels.edge or self.pixels.size):
            if not 1 <= size <= _LARGEST:
                raise ConfigError(f"a picture's edge is {size}; use 1..{_LARGEST}")


@dataclass(frozen=True, kw_only=True)
class ScheduleFacts:
    """The fields of `sampling.Schedule`, as plain data."""

    prediction: Prediction
    alphas_cumprod: tuple[float, ...] = ()
    train_steps: int = 1000
    shift: float = 1.0
    spacing: Spacing = "trailing"
    steps_offset: int = 0
    set_alpha_to_one: bool = True

    def schedule(self) -> Schedule:
        """Raises UsageError if the fields do not go together."""
        return Schedule(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class PromptFacts:
    """How one text encoder reads captions; see `prompts.PromptTokenizer`."""

    file: str
    """its tokenizer, relative to the artefact"""
    start: int
    end: int
    pad: int
    length: int
    """ids of a row"""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """`generation.json`."""

    eos: tuple[int, ...]
    max_length: int
    """longest prefix + caption, tokens"""
    max_queries: int
    """longest z"""
    prefix_length: int
    dim: int
    """width Dl of the prefix"""
    vocab_size: int
    causal: bool
    """whether truncating and mixing z is exact"""
    latent_shape: tuple[int, int, int] | None = None
    """None if the artefact cannot draw"""
    schedule: ScheduleFacts | None = None
    prompts: tuple[PromptFacts, ...] = ()
    """one for each text encoder; empty if there is none to read captions"""
    skip_special_tokens: bool = True
    """whether special tokens are left out of a caption's text"""

    def __post_init__(self) -> None:
        sizes = (self.max_length, self.max_queries, self.prefix_length, self.dim, self.vocab_size)
        if min(*sizes, *(self.latent_shape or ())) < 1:
            raise ConfigError("a size is below 1")
        if not self.eos or not all(0 <= token < self.vocab_size for token in self.eos):
            raise ConfigError(f"eos {list(self.eos)} are not tokens below {self.vocab_size}")
        if self.prefix_length >= self.max_length:
            raise ConfigError(
                f"a prefix of {self.prefix_length} leaves no room in {self.max_length} tokens"
            )

    @property
    def limits(self) -> Limits:
        return Limits(max_length=self.max_length, max_queries=self.max_queries, causal=self.causal)


def read_preprocess(folder: Path) -> Preprocess:
    """Raises ModelError or ConfigError with the file's name."""
    return _read(Preprocess, folder, PREPROCESS)


def read_generation(folder: Path) -> Generation:
    """Raises ModelError or ConfigError with the file's name."""
    return _read(Generation, folder, GENERATION)


def _read(cls: type[T], folder: Path, name: str) -> T:
    path = contained(folder, name)
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    return convert(cls, data, str(path))
