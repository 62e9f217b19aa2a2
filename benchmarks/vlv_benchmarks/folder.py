"""The files of a run: `bench.json`, and `samples.jsonl`, which grows turn by turn and never shrinks
but for a line that an interruption tore."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from vlv_benchmarks.record import Record, Samples
from vlv_benchmarks.turn import Turn
from vlv_core.config import convert, to_dict
from vlv_core.errors import ConfigError, DataError
from vlv_core.files import write_atomically

RECORD, SAMPLES = "bench.json", "samples.jsonl"
T = TypeVar("T")


def write_record(folder: Path, record: Record) -> Path:
    """Write `bench.json`, checked. Raises ConfigError if it could not be read back as it is."""
    text = json.dumps(to_dict(record), indent=1, allow_nan=False) + "\n"
    if _parsed(Record, json.loads(text), RECORD) != record:
        raise ConfigError(f"{RECORD}: what would be read is not what was written")
    path = folder / RECORD
    write_atomically(path, text.encode())
    return path


def read_record(folder: Path) -> Record:
    """Raises DataError if there is none, and if it is not of this schema (which names the key)."""
    path = folder / RECORD
    if not path.is_file():
        raise DataError(
            f"{folder} holds no {RECORD}", hint="'vlv-bench run ... -o OUT' writes one into OUT"
        )
    return _parsed(Record, _json(path.read_bytes(), str(path)), str(path))


def append_turn(folder: Path, turn: Turn) -> None:
    """Add a line to `samples.jsonl`, whole and on disk when this returns."""
    path = folder / SAMPLES
    kept = _whole_lines(path.read_bytes()) if path.is_file() else b""
    write_atomically(path, kept + line(turn))


def line(turn: Turn) -> bytes:
    """A turn as it stands in `samples.jsonl`. Raises ValueError for figures that are not finite."""
    return (json.dumps(to_dict(turn), allow_nan=False) + "\n").encode()


def read_turns(folder: Path) -> list[Turn]:
    """The turns so far; none where there is no file. A torn last line is left out.

    Raises DataError for a line that is no turn, and for a turn that stands there twice.
    """
    path = folder / SAMPLES
    if not path.is_file():
        return []
    lines = _whole_lines(path.read_bytes()).splitlines()
    turns = [parse_turn(each, f"{path}:{i}") for i, each in enumerate(lines, start=1)]
    seen: set[tuple[str, int]] = set()
    for turn in turns:
        if (turn.row, turn.turn) in seen:
            raise DataError(f"{path}: turn {turn.turn} of {turn.row} stands there twice")
        seen.add((turn.row, turn.turn))
    return turns


def parse_turn(text: bytes | str, where: str) -> Turn:
    """A turn from its line of JSON. Raises DataError, starting with `where`."""
    return _parsed(Turn, _json(text, where), where)


def samples_of(folder: Path, turns: Sequence[Turn]) -> Samples:
    """What the record says of the file of samples. Raises DataError if it is absent."""
    path = folder / SAMPLES
    if not path.is_file():
        raise DataError(f"{folder} holds no {SAMPLES}", hint="copy the whole folder of the run")
    return Samples(turns=len(turns), sha256=sha256(path.read_bytes()).hexdigest())


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _json(data: bytes | str, where: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise DataError(f"{where}: no JSON: {error}") from error


def _parsed(cls: type[T], data: Any, where: str) -> T:
    try:
        return convert(cls, data, where)
    except ConfigError as error:
        raise DataError(error.message, hint=error.hint) from error
