"""What a built component and a captioner must offer. Shapes are part of the contract.

B batch, S view edge, N visual tokens, K queries, L context length, M prefix length, R decode rows,
De/Dz/Dc/Dl widths of token, caption embedding, context, head. Torch and numpy are named for type
checkers only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from vlv_core.generation import GenerationOptions
    from vlv_core.specs import PixelSpec, Prediction, View

    Array = NDArray[Any]
    Picture = str | Path | Image | NDArray[np.uint8]


class Conditioning(NamedTuple):
    """What the diffusion is conditioned on: `context` (B, L, Dc) and, for some, `pooled` (B, P)."""

    context: Any
    pooled: Any = None


class TopK(NamedTuple):
    """Best next tokens of each row, descending; the log-softmax ran over the whole vocabulary."""

    log_probs: NDArray[np.float32]
    """(R, k)"""
    ids: NDArray[np.int64]
    """(R, k)"""


class Pretrained(Protocol):
    """What a part offers beside its role if its spec names pretrained weights."""

    def load_pretrained(self, folder: Path) -> set[str]:
        """Read weights, and assets such as a tokenizer, from the source's folder, strictly.

        Answers the names in `state_dict()` that were filled; others keep their first values.
        """
        ...


class Learner(Protocol):
    """What a part offers if a recipe that trains it whole does not mean all of its parameters."""

    def learnable(self) -> set[str]:
        """Names of the parameters that learn, such as those of adapters."""
        ...


class Encoder(Protocol):
    """view uint8 (B, S, S, 3) -> tokens (B, N, De); rescale and mean/std come first."""

    pixels: PixelSpec
    num_tokens: int
    dim: int

    def __call__(self, view: Tensor) -> Tensor: ...


class Bottleneck(Protocol):
    """tokens (B, N, De) -> z (B, K, Dz), by K learnable queries."""

    num_queries: int
    dim: int
    causal: bool
    """whether z[:, :k] is independent of later queries, so that truncation is exact"""

    def __call__(self, tokens: Tensor) -> Tensor: ...


class Condition(Protocol):
    """The decoder's frozen text encoder(s), fed by embeddings: z (B, K, Dz) -> Conditioning."""

    embedding_dim: int
    context_dim: int
    max_queries: int
    causal: bool

    def __call__(self, z: Tensor) -> Conditioning: ...

    def from_text(self, captions: Sequence[str]) -> tuple[Conditioning, list[int]]:
        """Conditioning of captions, and for each how many of its tokens were cut."""
        ...

    def unconditional(self, length: int) -> Conditioning:
        """The model's own padded empty prompt, first `length` positions: (1, length, Dc)."""
        ...


class Diffusion(Protocol):
    """The frozen denoiser, VAE and schedule; used by stage 1 and by reconstruction only."""

    latent_shape: tuple[int, int, int]
    """channels, height, width"""
    prediction: Prediction
    train_steps: int
    """the schedule's length T; `timesteps` answers in 0..T"""

    def moments(self, view: Tensor) -> Tensor:
        """view uint8 (B, S, S, 3) -> the VAE posterior's parameters, cacheable."""
        ...

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """moments, noise (B, *latent_shape) -> scaled and shifted latents."""
        ...

    def timesteps(self, u: Tensor) -> Tensor:
        """u in [0, 1) (B,) -> times as training draws them (B,)."""
        ...

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """noisy (B, *latent_shape), t (B,) -> epsilon, v or velocity, as `prediction` says."""
        ...

    def loss(
        self, latents: Tensor, conditioning: Conditioning, *, noise: Tensor, t: Tensor
    ) -> Tensor:
        """The model's own denoising loss, one number a sample (B,)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, *latent_shape) -> pictures float (B, S, S, 3) in 0..1."""
        ...

    def schedule(self) -> Any:
        """The `sampling.Schedule` to reconstruct with."""
        ...


class Connector(Protocol):
    """context (B, L, Dc) -> prefix (B, M, Dl)."""

    dim: int

    def __call__(self, context: Tensor) -> Tensor: ...


class Stepper(Protocol):
    """One decode in flight; owns its cache. Each runtime has one."""

    capacity: int
    """longest prefix + tokens it can hold"""

    def prefill(self, k: int) -> TopK: ...

    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        """tokens (R,) -> the best k next tokens of each row."""
        ...

    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep rows (R',) of the cache: repeats, reorders or drops."""
        ...


class Head(Protocol):
    """The language model: prefix (B, M, Dl) -> words."""

    dim: int
    vocab_size: int
    eos: tuple[int, ...]
    max_length: int
    """longest prefix + caption, tokens"""

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids (B, L) with end of text appended, mask (B, L) of what is supervised."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def loss(self, prefix: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood (B,) summed over supervised tokens, end of text among them."""
        ...

    def start(self, prefix: Tensor, capacity: int) -> Stepper: ...


@dataclass(frozen=True)
class Caption:
    """One caption. `finish_reason`: eos, length or repetition; `logprob` sums its tokens'."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    logprob: float


@dataclass(frozen=True)
class Encoded:
    """What pictures became: z (B, K, Dz), context (B, L, Dc), pooled (B, P), prefix (B, M, Dl)."""

    z: Array
    context: Array
    pooled: Array | None
    prefix: Array

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: slice) -> Encoded:
        pooled = None if self.pooled is None else self.pooled[rows]
        return Encoded(self.z[rows], self.context[rows], pooled, self.prefix[rows])


@runtime_checkable
class Captioner(Protocol):
    """A trained model and an artefact's runtime are both one."""

    name: str
    domain: str
    view: View

    def encode(self, pictures: Sequence[Picture] | Picture) -> Encoded: ...

    def caption(
        self,
        pictures: Sequence[Picture] | Encoded | Picture,
        *,
        options: GenerationOptions | None = None,
        keys: Sequence[int] | None = None,
    ) -> list[Caption]:
        """`keys`, one a picture, decide the draws when sampling."""
        ...

    def stream(
        self, picture: Picture, *, options: GenerationOptions | None = None
    ) -> Iterator[str]: ...

    def reconstruct(
        self,
        pictures: Sequence[Picture] | Encoded | Picture,
        *,
        seed: int,
        steps: int = 25,
        guidance: float = 3.0,
        keys: Sequence[int] | None = None,
    ) -> NDArray[np.uint8]: ...

    def mix(self, embeddings: Sequence[Array], *, keep: Sequence[int]) -> Encoded: ...


class Sample(NamedTuple):
    """One training sample. `load()` gives the picture; it may fail, and is then quarantined."""

    key: str
    """unique in the dataset; noise is keyed by it"""
    load: Any
    """() -> PIL image or uint8 (H, W, 3)"""
    caption: str | None = None


class Dataset(Protocol):
    """A finite, indexable set of samples; captions are None for stage 1.

    One that is faster at many samples than one by one has `samples(indices) -> list[Sample]` too.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def describe(self) -> Mapping[str, Any]:
        """What was found, for a dry run: counts, folder, missing files."""
        ...
