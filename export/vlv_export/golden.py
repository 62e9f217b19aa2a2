"""`golden.safetensors`: what the eager model says, so that an artefact is proved without torch.

    cases      inputs and outputs of every part, at batches of 1, 2, 3 and 7
    raw        pictures of odd sizes, their views and pixels, and the z that they become
    captions   the model's own captions of pictures (`pixels`), greedy and of beams, with the best
               `TOP` next tokens at every position of the greedy ones
    words      tokens and what they read; prompts and their ids
    scored     captions of an evaluator's pictures, and the figure that they scored

Tensors are named as `Golden` names them; the rest is JSON in the file's metadata.

Shape legend: N pictures, s pixels of the encoder's edge, S of the view's, T tokens, P positions of
all captions together, V vocabulary.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vlv_core.config import convert
from vlv_core.errors import ConfigError, ModelError
from vlv_core.files import write_atomically
from vlv_core.specs import PixelSpec, View

SCHEMA = "vlv-golden/1"
GOLDEN = "golden.safetensors"
TOP = 64
"""next tokens of each position that are kept"""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """One call of a part. The head's is its prefill and then a step for each of `tokens` (B, T);
    its output `log_probs` (B, T + 1, V) is of all positions."""

    part: str
    title: str
    """such as "batch 3, queries 16" """
    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True, kw_only=True)
class Said:
    """One caption as the eager model said it."""

    tokens: tuple[int, ...]
    """without the end of text"""
    finish_reason: str
    logprob: float


@dataclass(frozen=True, kw_only=True)
class Words:
    """Tokens of the head, and what they read."""

    tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A caption as the diffusion's text encoders read it: ids of each."""

    text: str
    ids: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Captions of an evaluator's pictures."""

    evaluator: str
    options: dict[str, Any]
    group: str
    entry: str
    figure: str
    """the figure that is compared is report[group][entry][figure]"""
    value: float
    """the eager model's, in 0..1"""
    captions: dict[str, Any]
    """digest of a picture (see `parity.meaning`) -> text, finish reason"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is no tensor."""

    schema: str = SCHEMA
    model: str
    random_weights: bool
    seed: int
    view: View
    pixels: PixelSpec
    eos: tuple[int, ...]
    max_new_tokens: int
    beams: int
    """of the beam captions; 0 if there are none"""
    titles: tuple[tuple[str, str], ...]
    """part and title of each case"""
    greedy: tuple[Said, ...]
    beam: tuple[Said, ...]
    """of the first pictures"""
    words: tuple[Words, ...]
    prompts: tuple[Prompt, ...] = ()
    scored: Scored | None = None


@dataclass(frozen=True)
class Golden:
    """The file's content."""

    facts: Facts
    cases: tuple[Case, ...]
    raw: tuple[NDArray[np.uint8], ...]
    """pictures (H, W, 3) of odd sizes"""
    raw_views: NDArray[np.uint8]
    """(R, S, S, 3)"""
    raw_pixels: NDArray[np.uint8]
    """(R, s, s, 3)"""
    raw_z: NDArray[np.float32]
    """(R, K, Dz)"""
    pixels: NDArray[np.uint8]
    """of the captioned pictures (N, s, s, 3)"""
    top_ids: NDArray[np.int64]
    """(P, `TOP` or V), best first"""
    top_log_probs: NDArray[np.float32]
    """(P, `TOP` or V)"""

    def positions(self, row: int) -> int:
        """Positions of a greedy caption: one a token, and one for its end if there was room."""
        return positions(self.facts.greedy[row], self.facts.max_new_tokens)

    def teacher(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and log-probabilities (positions, k) of one greedy caption."""
        start = sum(map(self.positions, range(row)))
        part = slice(start, start + self.positions(row))
        return self.top_ids[part], self.top_log_probs[part]

    def shortened(self, longest: int) -> "Golden":
        """With captions of at most `longest` tokens, as the model says them when it is let say no
        more: greedy ones are cut; a search may choose another, so those that are as long, and all
        after the first of them, are left out."""
        if longest >= self.facts.max_new_tokens:
            return self
        cut = [replace(said, tokens=said.tokens[:longest]) for said in self.facts.greedy]
        whole = takewhile(lambda said: len(said.tokens) < longest, self.facts.beam)
        kept = [self.teacher(row) for row in range(len(cut))]
        asked = [positions(said, longest) for said in cut]
        return replace(
            self,
            facts=replace(self.facts, max_new_tokens=longest, greedy=tuple(cut), beam=tuple(whole)),
            top_ids=np.concatenate([ids[:n] for (ids, _), n in zip(kept, asked, strict=True)]),
            top_log_probs=np.concatenate([p[:n] for (_, p), n in zip(kept, asked, strict=True)]),
        )

    def of(self, part: str) -> list[Case]:
        """The cases of a part."""
        return [case for case in self.cases if case.part == part]


def positions(said: Said, max_new_tokens: int) -> int:
    """How many next tokens the loop asked for while it said this."""
    return min(len(said.tokens) + 1, max_new_tokens)


def write(golden: Golden, path: Path) -> None:
    """Write the file, whole or not at all."""
    metadata = {"golden": json.dumps(asdict(golden.facts), ensure_ascii=False, allow_nan=False)}
    tensors = {name: np.ascontiguousarray(array) for name, array in _tensors(golden)}
    write_atomically(path, save(tensors, metadata=metadata))


def read_golden(path: Path) -> Golden:
    """Read it, strictly. Raises ModelError or ConfigError with the file's name."""
    try:
        with safe_open(str(path), framework="np") as file:
            metadata, names = file.metadata() or {}, set(file.keys())
            facts = _facts(metadata.get("golden"), path)
            tensors = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise ModelError(
            f"{path} is missing, so nothing can be compared with the trained model",
            hint="export the model again",
        ) from None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} is damaged: {reason}", hint="export the model again") from error
    return _assembled(facts, _Store(tensors, path))


class _Store:
    """Tensors that are taken out one by one, so that what is left over is told."""

    def __init__(self, tensors: Arrays, path: Path) -> None:
        self.left, self.path = tensors, path

    def take(self, name: str, kind: Any, ndim: int | None = None) -> NDArray[Any]:
        """Raises ModelError unless it is there, of this kind and with so many axes."""
        if name not in self.left:
            raise ModelError(f"{self.path} lacks the tensor {name!r}", hint="export again")
        array = self.left.pop(name)
        if not np.issubdtype(array.dtype, kind) or ndim not in (None, array.ndim):
            raise ModelError(
                f"{self.path}: {name!r} is {array.dtype} of shape {array.shape}",
                hint="export again",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(f"{self.path}: {name!r} holds values that are no numbers")
        return array

    def under(self, prefix: str) -> Arrays:
        """All whose names start so, by the rest of their names."""
        names = [name for name in self.left if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.take(name, np.number) for name in sorted(names)}

    def finish(self) -> None:
        """Raise ModelError if anything is left."""
        if self.left:
            raise ModelError(f"{self.path} holds {sorted(self.left)[0]!r}, which nothing names")


def _facts(text: str | None, path: Path) -> Facts:
    try:
        data = json.loads(text or "")
    except (ValueError, RecursionError):
        raise ModelError(f"{path} holds no golden values", hint="export the model again") from None
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, Mapping) else None
        raise ConfigError(
            f"{path} has schema {found!r}; this version of vlv reads {SCHEMA!r}",
            hint="use the version of vlv that wrote it, or export the model again",
        )
    return convert(Facts, data, str(path))


def _assembled(facts: Facts, store: _Store) -> Golden:
    golden = Golden(
        facts=facts,
        cases=tuple(_cases(facts, store)),
        raw=tuple(_raw(store)),
        raw_views=store.take("raw_views", np.uint8, 4),
        raw_pixels=store.take("raw_pixels", np.uint8, 4),
        raw_z=store.take("raw_z", np.float32, 3),
        pixels=store.take("pixels", np.uint8, 4),
        top_ids=store.take("top_ids", np.int64, 2),
        top_log_probs=store.take("top_log_probs", np.float32, 2),
    )
    store.finish()
    _check(golden, store.path)
    return golden


def _cases(facts: Facts, store: _Store) -> Iterator[Case]:
    for index, (part, title) in enumerate(facts.titles):
        inputs, outputs = (store.under(f"cases/{index}/{way}/") for way in ("in", "out"))
        if not inputs or not outputs:
            raise ModelError(f"{store.path}: case {index} of {part!r} is empty")
        yield Case(part, title, inputs, outputs)


def _raw(store: _Store) -> Iterator[NDArray[np.uint8]]:
    index = 0
    while f"raw/{index}" in store.left:
        yield store.take(f"raw/{index}", np.uint8, 3)
        index += 1


def _check(golden: Golden, path: Path) -> None:
    """Counts that must agree with each other. Raises ModelError."""
    facts, raw = golden.facts, len(golden.raw)
    wanted = sum(positions(said, facts.max_new_tokens) for said in facts.greedy)
    pairs: Sequence[tuple[str, int, int]] = (
        ("raw_views", len(golden.raw_views), raw),
        ("raw_pixels", len(golden.raw_pixels), raw),
        ("raw_z", len(golden.raw_z), raw),
        ("pixels", len(golden.pixels), len(facts.greedy)),
        ("top_ids", len(golden.top_ids), wanted),
        ("top_log_probs", golden.top_log_probs.size, golden.top_ids.size),
    )
    for name, found, expected in pairs:
        if found != expected:
            raise ModelError(f"{path}: {name!r} has {found} rows, expected {expected}")


def _tensors(golden: Golden) -> Iterator[tuple[str, NDArray[Any]]]:
    for index, case in enumerate(golden.cases):
        for way, arrays in (("in", case.inputs), ("out", case.outputs)):
            yield from ((f"cases/{index}/{way}/{name}", array) for name, array in arrays.items())
    yield from ((f"raw/{index}", picture) for index, picture in enumerate(golden.raw))
    for name in ("raw_views", "raw_pixels", "raw_z", "pixels", "top_ids", "top_log_probs"):
        yield name, getattr(golden, name)
