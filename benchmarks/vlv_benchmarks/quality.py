"""Does a row say what torch says? Asked of every turn, on what was just timed."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_benchmarks.job import Job
from vlv_benchmarks.turn import Quality
from vlv_core.captioner import Captioner

EXACT = 0.95
"""share of captions that float32 must give word for word: the rest may part at a near-tie"""
ROUNDED = 0.5
"""share of tokens before captions part, of rounded weights: one near-tie ends a caption's share, so
that few captions say little; their meaning is what the artefact's own proof judges"""
COMMON = 0.85
"""share of tokens that rounded captions have in common with torch's, whatever their order; captions
of other pictures of the bundled world have 0.63"""
JUDGED = 16
"""captions that rounded weights are judged by, where the run has so many pictures"""
COSINE = {"exact": 0.9999, "rounded": 0.97}
PSNR_DB = {"exact": 40.0, "rounded": 15.0}
Tokens = Sequence[Sequence[int]]


def digest(outputs: Any) -> str:
    """Of captions, or of an array."""
    data = outputs.tobytes() if isinstance(outputs, np.ndarray) else json.dumps(outputs).encode()
    return sha256(data).hexdigest()


@cache
def reference(folder: Path) -> dict[str, Any]:
    """What torch said of the pictures: captions, tokens, and counts of work; empty if nothing."""
    path = folder / "reference.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def of_captions(job: Job, tokens: Tokens) -> Quality:
    """Captions of the run's first pictures, against torch's."""
    said = reference(job.reference).get("tokens")
    if not said:
        return _unproved(job)
    wanted = said[: len(tokens)]
    same = float(np.mean([list(a) == list(b) for a, b in zip(tokens, wanted, strict=True)]))
    kept = float(np.mean([_agreed(a, b) for a, b in zip(tokens, wanted, strict=True)]))
    common = float(np.mean([_common(a, b) for a, b in zip(tokens, wanted, strict=True)]))
    figures = {
        "captions": float(len(wanted)),
        "captions the same": same,
        "tokens before they part": kept,
        "tokens in common": common,
    }
    if not _rounded(job):
        return _judged(
            job, figures, same >= EXACT, f"captions the same {same:.0%}, due {EXACT:.0%}"
        )
    reason = (
        f"{kept:.0%} of tokens before captions part, due {ROUNDED:.0%}; {common:.0%} in common, "
        f"due {COMMON:.0%}"
    )
    return _judged(job, figures, kept >= ROUNDED and common >= COMMON, reason)


def with_more(job: Job, captioner: Captioner, tokens: Tokens) -> Tokens:
    """Captions of the run's first pictures, and of as many more as rounded weights are judged by,
    captioned now: for after the clock was stopped and the memory read."""
    more = job.pictures(JUDGED)[len(tokens) :]
    if not more or not _rounded(job):
        return tokens
    return [*tokens, *(list(each.tokens) for each in captioner.caption(more))]


def of_embeddings(job: Job, z: NDArray[Any]) -> Quality:
    """Embeddings (B, K, Dz) of the run's first pictures, against torch's."""
    path = job.reference / "z.npy"
    if not path.is_file():
        return _unproved(job)
    wanted = np.load(path)[: len(z)].reshape(len(z), -1)
    found = z.reshape(len(z), -1)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    worst = float(np.min((found * wanted).sum(1) / norms))
    due = COSINE["rounded" if _rounded(job) else "exact"]
    return _judged(job, {"worst cosine": worst}, worst >= due, f"cosine {worst:.5f}, due {due}")


def of_pictures(job: Job, drawn: NDArray[np.uint8], name: str) -> Quality:
    """Pictures uint8 (B, S, S, 3) drawn from the run's first pictures, against torch's."""
    path = job.reference / name
    if not path.is_file():
        return _unproved(job)
    wanted = np.load(path)
    error = float(np.mean((drawn[: len(wanted)].astype(float) - wanted) ** 2))
    # equal pictures: the error of one step in one byte, so that the figure stays finite
    psnr = float(10 * np.log10(255**2 / max(error, 1 / wanted.size)))
    due = PSNR_DB["rounded" if _rounded(job) else "exact"]
    return _judged(job, {"PSNR dB": psnr}, psnr >= due, f"PSNR {psnr:.1f} dB, due {due:.0f}")


def _rounded(job: Job) -> bool:
    return job.row.dtype not in ("fp32", "float32")


def _unproved(job: Job) -> Quality:
    """Without torch, an artefact's own proof has to do."""
    if job.settings.get("proof") == "passed":
        return Quality(parity="passed", figures={})
    return Quality(parity="failed", reason="torch said nothing here to compare with")


def _judged(job: Job, figures: dict[str, float], passed: bool, reason: str) -> Quality:
    proof = job.settings.get("proof", "passed")
    if proof != "passed":
        return Quality(
            parity="failed", reason=f"the artefact's own proof: {proof}", figures=figures
        )
    return Quality(
        parity="passed" if passed else "failed", reason="" if passed else reason, figures=figures
    )


def _agreed(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Share of the wanted tokens before the two part."""
    count = 0
    for a, b in zip(found, wanted, strict=False):
        if a != b:
            break
        count += 1
    return count / max(1, len(wanted))


def _common(found: Sequence[int], wanted: Sequence[int]) -> float:
    """Tokens that both have, as often as both have them, of the mean of their lengths."""
    both = sum((Counter(found) & Counter(wanted)).values())
    return 2 * both / max(1, len(found) + len(wanted))
