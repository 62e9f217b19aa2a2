"""Writing golden values: the eager, unpatched float32 model answers through its own backend.

Nothing here runs an export part's module: what is compared must not come from what is exported.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vlv_core.captioner import Captioner
from vlv_core.errors import UsageError
from vlv_core.generation import GenerationOptions
from vlv_core.model import VLV
from vlv_core.parts import ExportPart
from vlv_core.preprocess import to_pixels, to_view, views
from vlv_core.protocols import Caption, Encoded
from vlv_core.registry import Plugins
from vlv_export._golden_cases import make_cases
from vlv_export.golden import TOP, Facts, Golden, Prompt, Said, Scored, Words, positions, write
from vlv_export.parity.meaning import record
from vlv_export.parity.teaching import teach
from vlv_export.pictures import odd, synthetic

ROWS = 64
"""captions of a trained model, if their pixels fit; of random weights `RANDOM_ROWS` are enough"""
RANDOM_ROWS = 8
PIXEL_BYTES = 120e6
"""of the captioned pictures, as the encoder reads them"""
LONGEST, RANDOM_LONGEST = 160, 24
"""tokens of a golden caption"""
BEAMS, BEAM_ROWS = 4, 32
BATCH = 8
SENTENCES = ("", "a small red circle in the top left.", "Two blue squares, and a star: 3 in all")
"""captions that every model's text encoder reads, beside the model's own"""


def make_golden(
    model: VLV,
    parts: Sequence[ExportPart],
    captioner: Captioner,
    path: Path,
    *,
    plugins: Plugins,
    seed: int,
    random_weights: bool = False,
) -> Golden:
    """Choose pictures (an evaluator's, if the model knows its world), and write the golden file."""
    recording = None if random_weights else record(captioner, plugins=plugins)
    count, edge = RANDOM_ROWS if random_weights else ROWS, captioner.view.size
    if recording:
        pictures: Sequence[NDArray[np.uint8]] = recording.pictures[:count]
    else:
        pictures = list(synthetic(count, height=edge, width=edge, seed=seed))
    return write_golden(
        model, parts, captioner, path,
        pictures=pictures, seed=seed, random_weights=random_weights,
        scored=recording.scored if recording else None,
    )  # fmt: skip


def write_golden(
    model: VLV,
    parts: Sequence[ExportPart],
    captioner: Captioner,
    path: Path,
    *,
    pictures: Sequence[NDArray[np.uint8]],
    seed: int,
    random_weights: bool = False,
    scored: Scored | None = None,
) -> Golden:
    """Caption `pictures` (uint8 (H, W, 3) each) and call every part; write and return the values.

    `captioner` runs `model` in torch. Raises UsageError for another dtype than float32, and for a
    model whose values would be too large to keep: the file stays below about 200 MB.
    """
    _check_float32(model)
    backend, spec = captioner.backend, model.encoder.pixels
    seen = views(list(pictures[: _rows(spec.size)]), captioner.view)
    encoded = _encode(backend, seen)
    spoken = _speak(captioner, encoded, model.head.max_length, random_weights=random_weights)
    texts = [*SENTENCES, *(said.text for said in spoken.greedy)]
    said = [caption.tokens for caption in spoken.greedy]
    cases = make_cases(
        model, parts, backend, views=seen, z=encoded.z, captions=said, texts=texts, seed=seed
    )
    ids, log_probs = _teacher(backend, encoded, spoken)
    raw = odd(seed)
    raw_views = np.stack([to_view(picture, captioner.view) for picture in raw])
    golden = Golden(
        facts=Facts(
            model=captioner.name,
            random_weights=random_weights,
            seed=seed,
            view=captioner.view,
            pixels=spec,
            eos=tuple(backend.eos),
            max_new_tokens=spoken.longest,
            beams=spoken.beams,
            titles=tuple((case.part, case.title) for case in cases),
            greedy=tuple(map(_said, spoken.greedy)),
            beam=tuple(map(_said, spoken.searched)),
            words=tuple(_words(backend, model, spoken.greedy, seed)),
            prompts=tuple(_prompts(model, texts[:BATCH])),
            scored=scored,
        ),
        cases=tuple(cases),
        raw=tuple(raw),
        raw_views=raw_views,
        raw_pixels=to_pixels(raw_views, spec),
        raw_z=backend.encode(raw_views).z,
        pixels=to_pixels(seen, spec),
        top_ids=ids,
        top_log_probs=log_probs,
    )
    write(golden, path)
    return golden


class _Spoken(NamedTuple):
    """The model's own captions."""

    greedy: list[Caption]
    searched: list[Caption]
    """of the first pictures"""
    longest: int
    """tokens"""
    beams: int
    """0 where nothing was searched"""


def _speak(
    captioner: Captioner, encoded: Encoded, max_length: int, *, random_weights: bool
) -> _Spoken:
    longest = RANDOM_LONGEST if random_weights else LONGEST
    longest = min(longest, max_length - encoded.prefix.shape[1])
    greedy = _captions(captioner, encoded, GenerationOptions(max_new_tokens=longest))
    if random_weights:
        return _Spoken(greedy, [], longest, 0)
    options = GenerationOptions(max_new_tokens=longest, beams=BEAMS)
    searched = _captions(captioner, encoded[slice(0, BEAM_ROWS)], options)
    return _Spoken(greedy, searched, longest, BEAMS)


def _check_float32(model: VLV) -> None:
    kinds = {p.dtype for p in model.parameters() if p.dtype.is_floating_point}
    if kinds != {torch.float32}:
        named = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        raise UsageError(
            f"golden values come from a float32 model; this one is {named}",
            hint="load it with --dtype float32",
        )


def _rows(size: int) -> int:
    """How many pictures' pixels are kept. Raises UsageError for an encoder of absurd size."""
    rows = int(PIXEL_BYTES / (3 * size * size))
    if rows < BATCH:
        raise UsageError(
            f"an encoder of {size} x {size} pixels is too large: {BATCH} pictures of it take more "
            f"than {PIXEL_BYTES / 1e6:.0f} MB"
        )
    return rows


def _encode(backend: Any, seen: NDArray[np.uint8]) -> Encoded:
    found = [backend.encode(seen[start : start + BATCH]) for start in range(0, len(seen), BATCH)]
    pooled = None if found[0].pooled is None else np.concatenate([each.pooled for each in found])
    z, context, prefix = (
        np.concatenate([getattr(each, name) for each in found])
        for name in ("z", "context", "prefix")
    )
    return Encoded(z, context, pooled, prefix)


def _captions(captioner: Captioner, encoded: Encoded, options: GenerationOptions) -> list[Caption]:
    batches = [encoded[slice(start, start + BATCH)] for start in range(0, len(encoded), BATCH)]
    return [said for batch in batches for said in captioner.caption(batch, options=options)]


def _teacher(
    backend: Any, encoded: Encoded, spoken: _Spoken
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and log-probabilities (P, k) of all positions of all greedy captions."""
    found = []
    for start in range(0, len(spoken.greedy), BATCH):
        batch = spoken.greedy[start : start + BATCH]
        found += teach(
            backend,
            encoded.prefix[start : start + BATCH],
            [said.tokens for said in batch],
            positions=[positions(_said(said), spoken.longest) for said in batch],
            k=TOP,
        )
    ids = np.concatenate([each.ids for each in found]).astype(np.int64)
    return ids, np.concatenate([each.log_probs for each in found]).astype(np.float32)


def _said(caption: Caption) -> Said:
    return Said(
        tokens=tuple(map(int, caption.tokens)),
        finish_reason=caption.finish_reason,
        logprob=float(caption.logprob),
    )


def _words(backend: Any, model: VLV, greedy: Sequence[Caption], seed: int) -> list[Words]:
    """Tokens of captions, and of no caption: another model's tokenizer reads them differently."""
    drawn = np.random.default_rng(seed).integers(0, model.head.vocab_size, (4, 24))
    chosen = [said.tokens for said in greedy[:4]] + [tuple(row) for row in drawn.tolist()]
    words: Callable[[Sequence[int]], str] = backend.words
    return [Words(tokens=tuple(map(int, tokens)), text=words(tokens)) for tokens in chosen]


def _prompts(model: VLV, texts: Sequence[str]) -> list[Prompt]:
    if not hasattr(model.condition, "prompts"):
        return []
    length = model.condition.max_queries
    columns = [prompt(texts, length=length)[0].tolist() for prompt in model.condition.prompts]
    return [
        Prompt(text=text, ids=tuple(tuple(column[row]) for column in columns))
        for row, text in enumerate(texts)
    ]
