"""L3: captions, free-running: greedy and beams against eager's, and a row alone as in a batch.

One near-tie that falls the other way changes the rest of a caption. So a caption that differs is
explained if it parts from eager's where eager itself was undecided: greedy, if its token there was
within the near-tie of the best; a search, if both captions score the same within it.
"""

from collections.abc import Sequence

import numpy as np

from vlv_core.generation import GenerationOptions
from vlv_core.generation.options import MAX_CANDIDATES
from vlv_core.protocols import Caption
from vlv_export.golden import Said
from vlv_export.parity.figures import agreed, distribution, edit_distance
from vlv_export.parity.report import Check, Level, judged
from vlv_export.parity.target import BATCH, Target
from vlv_export.parity.teacher import lookup
from vlv_export.parity.teaching import teach

ALONE = 8
"""captions that are said again, each in a batch of its own"""
SCORE_NOISE = 1e-3
"""nats a token, of any dtype: an artefact is compared with itself. Seen: 7e-8"""


def check_captions(target: Target) -> Level:
    """The level's outcome; a model of random weights has no captions worth comparing."""
    if target.golden.facts.random_weights:
        return Level(level="L3", state="not applicable", reason="random weights")
    facts = target.said.facts
    greedy = _say(target, range(len(facts.greedy)), beams=1)
    checks = _compared(target, "greedy", greedy, facts.greedy)
    checks.append(_alone(target, greedy))
    if facts.beam:
        searched = _say(target, range(len(facts.beam)), beams=facts.beams)
        checks += _compared(target, f"beam-{facts.beams}", searched, facts.beam)
        checks.append(_scores(target, f"beam-{facts.beams}", searched))
    apart = sum(int(check.value) for check in checks if check.figure == "parted at a near-tie")
    notes = [f"{apart} captions parted at a near-tie, counted apart"]
    if facts.max_new_tokens < target.golden.facts.max_new_tokens:
        notes.append(f"captions of at most {facts.max_new_tokens} tokens, which the cache holds")
    return judged("L3", checks, notes=tuple(notes))


def _say(target: Target, rows: range, *, beams: int) -> list[Caption]:
    options = GenerationOptions(max_new_tokens=target.said.facts.max_new_tokens, beams=beams)
    return [
        said
        for start in range(rows.start, rows.stop, BATCH)
        for said in target.runtime.caption(
            target.encoded[start : min(start + BATCH, rows.stop)], options=options
        )
    ]


def _compared(
    target: Target, way: str, found: Sequence[Caption], expected: Sequence[Said]
) -> list[Check]:
    """How many captions differ, how far they agree, and whether near-ties explain it."""
    tie = target.limits.near_tie
    other = [row for row, said in enumerate(found) if said.tokens != expected[row].tokens]
    if way == "greedy":
        told = [row for row in other if _undecided(target, row, found[row])]
    else:
        told = [row for row in other if _scores_alike(found[row], expected[row], tie)]
    lost = [row for row in other if row not in told]
    heads = [agreed(said.tokens, expected[row].tokens) / max(1, len(expected[row].tokens))
             for row, said in enumerate(found)]  # fmt: skip
    edits = [edit_distance(said.tokens, expected[row].tokens)
             / max(1, len(expected[row].tokens), len(said.tokens))
             for row, said in enumerate(found)]  # fmt: skip
    worst = _shown(lost[0], found[lost[0]], expected[lost[0]]) if lost else ""
    count = len(found)
    return [
        _check(way, "parted without a near-tie, share", len(lost) / count, worst=worst,
               most=target.limits.unexplained),
        _check(way, "parted at a near-tie", len(told)),
        _check(way, "captions the same, share", 1 - len(other) / count),
        _check(way, "tokens before they part, share", float(np.mean(heads)), values=heads),
        _check(way, "edit distance, share of tokens", float(np.mean(edits)), values=edits),
    ]  # fmt: skip


def _undecided(target: Target, row: int, said: Caption) -> bool:
    """Whether eager's best token and this caption's were a near-tie where they part."""
    golden = target.said
    ids, log_probs = golden.teacher(row)
    at = agreed(said.tokens, golden.facts.greedy[row].tokens)
    if at >= len(ids):
        return False
    # A caption that ended there chose an end of text.
    chosen = said.tokens[at : at + 1] or golden.facts.eos
    gaps = [float(log_probs[at, 0] - log_probs[at, column])
            for column in np.flatnonzero(np.isin(ids[at], chosen))]  # fmt: skip
    return bool(gaps) and min(gaps) <= target.limits.near_tie


def _scores_alike(found: Caption, expected: Caption | Said, tie: float) -> bool:
    """Whether two captions' log-probabilities a token, by which searches rank, are a near-tie."""
    left, right = (each.logprob / (len(each.tokens) + 1) for each in (found, expected))
    return abs(left - right) <= tie


def _alone(target: Target, batch: Sequence[Caption]) -> Check:
    """Each caption said in a batch of one."""
    wrong = []
    options = GenerationOptions(max_new_tokens=target.said.facts.max_new_tokens)
    for row in range(min(ALONE, len(batch))):
        said = target.runtime.caption(target.encoded[row : row + 1], options=options)[0]
        if said.tokens != batch[row].tokens and not _scores_alike(said, batch[row], SCORE_NOISE):
            wrong.append(_shown(row, said, batch[row]))
    return _check("greedy", "rows that differ alone and in a batch", len(wrong), most=0,
                  worst=wrong[0] if wrong else "")  # fmt: skip


def _scores(target: Target, way: str, searched: Sequence[Caption]) -> Check:
    """The score that a search gives must be that of its words, read one by one.

    A search whose cache rows are not those of its beams gives captions other scores than they have.
    """
    eos, longest = target.said.facts.eos, target.said.facts.max_new_tokens
    differences = []
    for start in range(0, len(searched), BATCH):
        batch = searched[start : start + BATCH]
        ends = [[*said.tokens, *eos[: said.finish_reason == "eos"]][:longest] for said in batch]
        tops = teach(
            target.backend,
            target.encoded.prefix[start : start + BATCH],
            ends,
            positions=[len(each) for each in ends],
            k=MAX_CANDIDATES,
        )
        for said, tokens, top in zip(batch, ends, tops, strict=True):
            own = lookup(top.ids, top.log_probs, np.array(tokens, np.int64)[:, None]).sum()
            differences.append(abs(own - said.logprob) / len(tokens))
    worst = int(np.argmax(differences))
    return _check(way, "score against its words' (nats a token)", max(differences),
                  most=SCORE_NOISE, worst=f"caption {worst}",
                  values=differences)  # fmt: skip


def _shown(row: int, found: Caption, expected: Caption | Said) -> str:
    at = agreed(found.tokens, expected.tokens)
    return (
        f"caption {row} parts at token {at}: {list(found.tokens[at : at + 4])}, expected "
        f"{list(expected.tokens[at : at + 4])}"
    )


def _check(
    way: str,
    figure: str,
    value: float,
    *,
    most: float | None = None,
    worst: str = "",
    values: Sequence[float] = (),
) -> Check:
    spread = dict(distribution(np.array(values))) if len(values) else {}
    return Check(
        part="captions", output=way, figure=figure, value=value, most=most, worst=worst,
        distribution=spread,
    )  # fmt: skip
