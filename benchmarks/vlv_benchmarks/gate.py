"""What a quick run is held to: everything of it that does not vary, against a file of what is due.

What follows from how numbers were rounded (words, and so the steps and bytes of decoding; hashes)
holds for one set of libraries and one kind of processor. Elsewhere it is told as not comparable.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlv_benchmarks.record import Record, Result
from vlv_benchmarks.turn import TOTAL, Fact
from vlv_core.config import convert, to_dict
from vlv_core.errors import ConfigError, DataError
from vlv_core.files import write_atomically

SIZE = 0.02
"""relative difference that sizes of files may have: another version's names are shorter"""
LEAST = 1 / 3
"""of the ratio that is due: what a shared machine's noise does not reach"""
SIZES = ("artefact_bytes",)
ROUNDED_FACTS = ("tokens_per_caption", "step_allocations", "step_kib")
ROUNDED_STAGES = ("decode",)
DECIDES = ("python", "numpy", "torch", "onnxruntime")
"""libraries whose versions may round otherwise, or allocate otherwise"""


@dataclass(frozen=True, kw_only=True)
class Due:
    """What a row is held to."""

    facts: dict[str, Fact] = field(default_factory=dict)
    operations: dict[str, float] = field(default_factory=dict)
    """of a call, by stage"""
    bytes: dict[str, float] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    """sha256"""
    ratio: float | None = None
    """speed against the row's reference"""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The file."""

    cpu: str
    """who makes the processor, for whom kernels are chosen apart"""
    cpu_isa: tuple[str, ...]
    libraries: dict[str, str]
    models: dict[str, str]
    """sha256"""
    rows: dict[str, Due]
    """by key"""


@dataclass(frozen=True)
class Found:
    """What a gate says, a sentence each."""

    wrong: tuple[str, ...]
    untold: tuple[str, ...]
    """what cannot be compared here"""
    rows: int


def expected_of(record: Record) -> Expected:
    """What later runs are held to. Raises DataError if a row failed."""
    failed = [each for each in record.result if each.status == "failed"]
    if failed:
        raise DataError(
            f"{len(failed)} rows failed, such as {failed[0].row.key}: {failed[0].reason}",
            hint="a file of what is due is made of a run whose rows all passed",
        )
    return Expected(
        cpu=_maker(record),
        cpu_isa=record.env.cpu_isa,
        libraries=_libraries(record),
        models={name: each.sha256 for name, each in record.model.items()},
        rows={each.row.key: _due(each) for each in record.result if each.timed},
    )


def write_expected(path: Path, expected: Expected) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{json.dumps(to_dict(expected), indent=1)}\n".encode())


def read_expected(path: Path) -> Expected:
    """Raises DataError for a file that is absent or none of these."""
    if not path.is_file():
        raise DataError(f"{path} is not there", hint="--write makes it of this run")
    try:
        return convert(Expected, json.loads(path.read_bytes()), str(path))
    except (ValueError, ConfigError) as error:
        raise DataError(
            f"{path} is no file of what is due: {error}", hint="--write makes it anew"
        ) from error


def gate(record: Record, expected: Expected) -> Found:
    """Hold every row that is due to what is due of it. Rows that are new are not judged."""
    elsewhere = _elsewhere(record, expected)
    results = {each.row.key: each for each in record.result}
    wrong = [
        f"model {name} has the sha256 {each.sha256[:12]}, due {expected.models[name][:12]}"
        for name, each in record.model.items()
        if each.sha256 != expected.models.get(name, each.sha256)
    ]
    for key, due in expected.rows.items():
        if key not in results:
            wrong.append(f"{key}: it is no row of this run")
        else:
            wrong += [f"{key}: {said}" for said in _row(results[key], due, elsewhere)]
    untold = (f"outputs and what follows from them are not compared: {elsewhere}",)
    return Found(tuple(wrong), untold if elsewhere else (), len(expected.rows))


def _row(result: Result, due: Due, elsewhere: str) -> Iterator[str]:
    if not result.timed:
        yield f"{result.status}: {result.reason}"
        return
    now = _due(result)
    yield from _exact("", due.facts, now.facts, () if not elsewhere else ROUNDED_FACTS)
    stages = ROUNDED_STAGES if elsewhere else ()
    yield from _exact("operations of ", due.operations, now.operations, stages)
    yield from _exact("bytes of ", due.bytes, now.bytes, stages)
    if not elsewhere and now.outputs != due.outputs:
        yield f"outputs have the sha256 {_short(now.outputs)}, due {_short(due.outputs)}"
    if due.ratio is not None and (now.ratio is None or now.ratio < LEAST * due.ratio):
        shown = "none" if now.ratio is None else f"{now.ratio:.2f}"
        yield f"speed against its reference is {shown}, due at least {LEAST * due.ratio:.2f}"


def _exact(
    what: str, due: Mapping[str, Fact], now: Mapping[str, Fact], without: tuple[str, ...]
) -> Iterator[str]:
    """Equal, but for sizes of files, which may differ a little."""
    for name in dict.fromkeys([*due, *now]):
        was, found = due.get(name, "absent"), now.get(name, "absent")
        if name not in without and was != found and not _near(name, was, found):
            yield f"{what}{name} is {found}, due {was}"


def _near(name: str, was: Fact, found: Fact) -> bool:
    if name not in SIZES or isinstance(was, str) or isinstance(found, str):
        return False
    return abs(found - was) <= SIZE * was


def _due(result: Result) -> Due:
    stages = {name: bound for name, bound in result.roofline.items() if name != TOTAL}
    return Due(
        facts=dict(result.facts),
        operations={name: bound.operations for name, bound in stages.items()},
        bytes={name: bound.bytes for name, bound in stages.items()},
        outputs=result.output_sha256,
        ratio=result.ratio.median if result.ratio else None,
    )


def _libraries(record: Record) -> dict[str, str]:
    return {name: record.env.libraries[name] for name in DECIDES if name in record.env.libraries}


def _maker(record: Record) -> str:
    return record.env.cpu_model.partition(" ")[0]


def _elsewhere(record: Record, expected: Expected) -> str:
    """Why outputs cannot be compared; empty if they can."""
    libraries = _libraries(record)
    for name in dict.fromkeys([*expected.libraries, *libraries]):
        was, now = expected.libraries.get(name, "absent"), libraries.get(name, "absent")
        if was != now:
            return f"{name} is {now}, and {was} made what is due"
    if _maker(record) != expected.cpu:
        return f"the processor is of {_maker(record)}, and one of {expected.cpu} made what is due"
    if set(record.env.cpu_isa) != set(expected.cpu_isa):
        odd = ", ".join(sorted(set(record.env.cpu_isa) ^ set(expected.cpu_isa)))
        return f"the processors differ in {odd}"
    return ""


def _short(digests: tuple[str, ...]) -> str:
    return ", ".join(each[:12] for each in digests) or "none"
