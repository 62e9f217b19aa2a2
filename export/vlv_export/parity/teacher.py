"""L2: the next tokens along the eager model's own captions, position by position.

Shape legend: P positions of all captions together, k eager's best tokens, K the artefact's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlv_core.generation.options import MAX_CANDIDATES
from vlv_export.parity.figures import distribution, divergence, overlap
from vlv_export.parity.report import Check, Level, judged
from vlv_export.parity.target import BATCH, Target
from vlv_export.parity.teaching import teach

BEST = 10
"""tokens whose overlap is measured"""


@dataclass(frozen=True)
class Positions:
    """Both answers at every position, and where each is."""

    ids: NDArray[np.int64]
    """eager's (P, k)"""
    log_probs: NDArray[np.float64]
    """eager's (P, k)"""
    found_ids: NDArray[np.int64]
    """(P, K)"""
    found: NDArray[np.float64]
    """the artefact's log-probabilities of `ids` (P, k); of a token that is not among its own K
    best that of the last of these, which can only lower the divergence"""
    places: list[str]


def check_teacher(target: Target) -> Level:
    """The level's outcome; of random weights the divergence alone is judged."""
    at, limits = taught(target), target.limits
    random = target.golden.facts.random_weights
    margin = at.log_probs[:, 0] - at.log_probs[:, 1]
    near = margin <= limits.near_tie
    same = at.found_ids[:, 0] == at.ids[:, 0]
    checks = [
        _divergence(at, most=limits.kl),
        _agreement(at, same, near, least=None if random else limits.agreement),
        _overlap(at, least=None if random else limits.overlap),
    ]
    notes = (
        f"{len(same)} positions of {len(target.golden.facts.greedy)} captions; {int(near.sum())} "
        f"near-ties (best two within {limits.near_tie:g} nats) counted apart: "
        f"{int((near & ~same).sum())} of them fell the other way",
        "KL over eager's best tokens, all others as one",
    )
    return judged("L2", checks, notes=notes)


def taught(target: Target) -> Positions:
    """The artefact's answers at all golden positions."""
    golden, prefix = target.said, target.encoded.prefix
    facts = golden.facts
    found = []
    for start in range(0, len(facts.greedy), BATCH):
        rows = range(start, min(start + BATCH, len(facts.greedy)))
        found += teach(
            target.backend,
            prefix[rows.start : rows.stop],
            [facts.greedy[row].tokens for row in rows],
            positions=[golden.positions(row) for row in rows],
            k=MAX_CANDIDATES,
        )
    wanted = [golden.teacher(row) for row in range(len(facts.greedy))]
    return Positions(
        ids=np.concatenate([ids for ids, _ in wanted]),
        log_probs=np.concatenate([each for _, each in wanted]).astype(np.float64),
        found_ids=np.concatenate([each.ids for each in found]),
        found=np.concatenate(
            [
                lookup(each.ids, each.log_probs, ids)
                for each, (ids, _) in zip(found, wanted, strict=True)
            ]
        ),
        places=[
            f"caption {row}, token {position}"
            for row, (ids, _) in enumerate(wanted)
            for position in range(len(ids))
        ],
    )


def lookup(
    ids: NDArray[np.int64], log_probs: NDArray[np.float32], wanted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Log-probabilities of wanted (P, k) among ids, log_probs (P, K); the last where absent."""
    match = wanted[:, :, None] == ids[:, None, :]
    column = np.where(match.any(axis=2), match.argmax(axis=2), ids.shape[1] - 1)
    return np.take_along_axis(log_probs.astype(np.float64), column, axis=1)


def _divergence(at: Positions, *, most: float | None) -> Check:
    values = divergence(at.log_probs, at.found)
    return Check(
        part="head", output="log_probs", figure="mean KL (nats)", value=float(values.mean()),
        most=most, worst=at.places[int(values.argmax())], distribution=dict(distribution(values)),
    )  # fmt: skip


def _agreement(
    at: Positions, same: NDArray[np.bool_], near: NDArray[np.bool_], *, least: float | None
) -> Check:
    clear = ~near
    lost = np.flatnonzero(clear & ~same)
    # The clearest choice that was lost.
    gaps = (at.log_probs[:, 0] - at.log_probs[:, 1])[lost]
    worst = ""
    if lost.size:
        where = int(lost[gaps.argmax()])
        worst = (
            f"{at.places[where]}: {at.found_ids[where, 0]} instead of {at.ids[where, 0]}, whose "
            f"lead is {gaps.max():.3g} nats"
        )
    value = float(same[clear].mean()) if clear.any() else 1.0
    return Check(
        part="head", output="top_ids", figure="best token the same", value=value, least=least,
        worst=worst,
    )  # fmt: skip


def _overlap(at: Positions, *, least: float | None) -> Check:
    values = overlap(at.found_ids[:, :BEST], at.ids[:, :BEST])
    return Check(
        part="head", output="top_ids", figure=f"overlap of the best {BEST}",
        value=float(values.mean()), least=least, worst=at.places[int(values.argmin())],
        distribution=dict(distribution(values)),
    )  # fmt: skip
