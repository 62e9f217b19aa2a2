"""Is every figure of a run what its raw samples say? All of it is computed again and compared."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vlv_benchmarks.folder import RECORD, SAMPLES, read_record, read_turns, samples_of
from vlv_benchmarks.record import Record
from vlv_benchmarks.report import MARKDOWN, PAGE, markdown, page
from vlv_benchmarks.results import summarise
from vlv_benchmarks.turn import Turn
from vlv_core.config import to_dict
from vlv_core.errors import DataError

CLOSE = 1e-9
"""relative: what sums in another order may differ by"""


def recomputed(record: Record, turns: Sequence[Turn]) -> tuple[dict[str, Any], ...]:
    """The record's results as plain data, computed again from raw samples."""
    results = summarise(
        [each.row for each in record.result],
        turns,
        refused={each.row.key: each.reason for each in record.result if each.status == "not run"},
        ceiling=record.ceiling,
        seed=record.run.seed,
    )
    return tuple(map(to_dict, results))


def mismatches(folder: Path) -> list[str]:
    """What does not follow from the raw samples, a sentence each; empty if all does.

    Raises DataError if there is no record, or it is not what it should be.
    """
    record = read_record(folder)
    try:
        turns = read_turns(folder)
        return [*_samples(folder, record, turns), *_figures(record, turns),
                *_texts(folder, record, turns)]  # fmt: skip
    except DataError as error:
        # samples that are gone or broken prove nothing
        return [error.message]


def _samples(folder: Path, record: Record, turns: Sequence[Turn]) -> Iterator[str]:
    now, then = samples_of(folder, turns), record.samples
    if now.turns != then.turns:
        yield f"{SAMPLES} holds {now.turns} turns, and {RECORD} was made from {then.turns}"
    elif now.sha256 != then.sha256:
        yield f"{SAMPLES} is not the file that {RECORD} was made from: its sha256 differs"
    known = {each.row.key for each in record.result}
    for key in dict.fromkeys(turn.row for turn in turns if turn.row not in known):
        yield f"{SAMPLES} holds turns of {key}, which is no row of {RECORD}"


def _figures(record: Record, turns: Sequence[Turn]) -> Iterator[str]:
    again = recomputed(record, turns)
    for written, computed in zip(record.result, again, strict=True):
        for path, was, now in differences(to_dict(written), computed):
            yield f"{written.row.key}: {path} is {was!r}, and the samples say {now!r}"


def _texts(folder: Path, record: Record, turns: Sequence[Turn]) -> Iterator[str]:
    """Reports must be what the record says, letter by letter; a record may stand without."""
    for name, text in ((MARKDOWN, markdown(record)), (PAGE, page(record, turns))):
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            yield f"{name} is not what {RECORD} says: {_first_difference(path, text)}"


def differences(written: Any, computed: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two plain values differ: the path of keys, and both values (None for an absent one)."""
    if isinstance(written, dict) and isinstance(computed, dict):
        for key in dict.fromkeys([*written, *computed]):
            below = f"{path}.{key}" if path else key
            yield from differences(written.get(key), computed.get(key), below)
    elif isinstance(written, float) and isinstance(computed, float):
        if not math.isclose(written, computed, rel_tol=CLOSE):
            yield path, written, computed
    elif written != computed:
        yield path, written, computed


def _first_difference(path: Path, text: str) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, (found, right) in enumerate(zip(lines, text.splitlines(), strict=False), start=1):
        if found != right:
            return f"line {number} differs"
    return "its length differs"
