"""The measurements that are kept in benchmarks/results, and what the docs show of them.

python docs/benchmarks.py keep FOLDER NAME     (of `vlv-bench run -o FOLDER`; see `make bench`)
python docs/benchmarks.py newest NAME          (the folder that is kept of it)
python docs/benchmarks.py headline             (README's table)
python docs/benchmarks.py rows NAME CASE       (a case's table of rows)
python docs/benchmarks.py figures NAME CASE    (a case's other figures)
"""

import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vlv_benchmarks.folder import RECORD, SAMPLES, read_record, read_turns
from vlv_benchmarks.record import Record, Result, Value
from vlv_benchmarks.report import MARKDOWN
from vlv_benchmarks.report.chapter import chapters, headline, measures
from vlv_benchmarks.report.markdown import table
from vlv_benchmarks.statistics import Interval, interval, paired
from vlv_benchmarks.text import figure
from vlv_benchmarks.turn import TOTAL, Turn
from vlv_benchmarks.verify import mismatches

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
KEPT = (RECORD, SAMPLES, MARKDOWN)
"""the page is made of them: vlv-bench report FOLDER"""


@dataclass(frozen=True)
class Line:
    """A line of README's table: a row of ours beside what would do instead."""

    says: str
    run: str
    """name in benchmarks/results"""
    case: str
    ours: str
    """a label"""
    other: str
    batch: int = 1
    options: tuple[tuple[str, Value], ...] = ()


LINES = (
    Line("a fresh process to its first caption", "mini", "coldstart", "vlv onnx-fp32",
         "torch eager"),
    Line("one picture to its caption", "mini", "single", "vlv onnx-int8", "torch eager"),
    Line("PNG files to captions, 64 at a time", "mini", "offline", "vlv onnx-int8",
         "torch eager", 64),
    Line("pictures redrawn, 25 steps, guidance 3", "mini", "reconstruct", "vlv onnx-fp32",
         "torch eager", 4, (("guidance", 3.0), ("steps", 25))),
    Line("encoder of Florence-2-base's size, 768 pixels", "encoder", "encoder", "vlv onnx-int8",
         "torch eager"),
    Line("SmolLM2-135M, one text", "decode", "decode", "vlv onnx-int4", "llama.cpp Q4_1"),
    Line("SmolLM2-135M, one text", "decode", "decode", "vlv onnx-int8", "ONNX Runtime GenAI int8"),
    Line("SmolLM2-135M, one text", "decode", "decode", "vlv onnx-int8", "OpenVINO GenAI int8"),
    Line("SmolLM2-135M, 8 texts at once", "decode", "decode", "vlv onnx-int8",
         "ONNX Runtime GenAI int8", 8),
    Line("SmolLM2-135M, 8 texts at once", "decode", "decode", "vlv onnx-int8",
         "OpenVINO GenAI int8", 8),
    Line("training `mini`, stage 2", "train", "train", "vlv train, cache full",
         "the method's loop, plain", 32, (("stage", 2),)),
)  # fmt: skip


def keep(folder: Path, name: str) -> Path:
    """Copy a whole run in the place of the one that is kept of this name.

    Raises ValueError for a run that its samples do not bear out, that is quick or not whole.
    """
    record = read_record(folder)
    wrong = mismatches(folder)
    waiting = [each.row.key for each in record.result if "no turn has ended" in each.reason]
    if wrong or waiting or record.run.quick:
        raise ValueError(f"{folder} is not to be kept: {[*wrong, *waiting] or 'a quick run'}")
    devices = {each.row.device for each in record.result}
    day = record.run.started[:10].replace("-", "")
    target = RESULTS / f"{name}_{'-'.join(sorted(devices))}_{day}"
    for old in RESULTS.glob(f"{name}_*"):
        shutil.rmtree(old)
    target.mkdir(parents=True)
    for each in KEPT:
        shutil.copyfile(folder / each, target / each)
    return target


def newest(name: str) -> Path:
    """The kept folder of a name. Raises FileNotFoundError if there is none."""
    found = sorted(RESULTS.glob(f"{name}_*"), key=lambda each: each.name.rpartition("_")[2])
    if not found:
        raise FileNotFoundError(f"{RESULTS.name} holds no {name}_*")
    return found[-1]


def headlines() -> Iterator[str]:
    """README's table, of what is kept."""
    yield "| | vlv | | instead of | times as fast (95 %) |"
    yield "|---|---|---|---|---|"
    for line in LINES:
        if not any(RESULTS.glob(f"{line.run}_*")):
            continue
        folder = newest(line.run)
        record, turns = read_record(folder), read_turns(folder)
        ours, other = _row(record, line, line.ours), _row(record, line, line.other)
        if ours is None or other is None:
            continue
        rate = figure(ours.throughput.tokens_per_s), figure(ours.throughput.images_per_s)
        said = f"{rate[0]} tokens/s" if line.run == "decode" else f"{rate[1]} images/s"
        if ours.throughput.images_per_s is None and line.run != "decode":
            said = f"{figure(ours.latency_ms[TOTAL].median)} ms"
        faster = _times_as_fast(turns, other, ours, record.run.seed)
        yield (
            f"| {line.says} | {line.ours.removeprefix('vlv ')} | {said} | {line.other} | "
            f"{faster.median:.2f} ({faster.low:.2f}, {faster.high:.2f}) |"
        )


def _row(record: Record, line: Line, label: str) -> Result | None:
    """The row of a line that is called so; None if it has no times."""
    wanted = (line.case, label, line.batch, dict(line.options))
    found = [
        each for each in record.result
        if (each.row.case, each.row.label, each.row.batch, each.row.options) == wanted
    ]  # fmt: skip
    if not found:
        raise LookupError(f"{record.run.id} has no row {wanted}")
    return found[0] if found[0].timed else None


def _times_as_fast(turns: Iterable[Turn], other: Result, ours: Result, seed: int) -> Interval:
    by_row: dict[str, dict[int, float]] = {other.row.key: {}, ours.row.key: {}}
    for turn in turns:
        if turn.row in by_row and turn.stages:
            by_row[turn.row][turn.turn] = median(turn.stages[TOTAL])
    return interval(paired(by_row[other.row.key], by_row[ours.row.key]), seed=seed)


def rows(name: str, case: str, *, figures: bool = False) -> Iterator[str]:
    """A case's table, or its table of other figures, as its report has it, and where that is."""
    if not any(RESULTS.glob(f"{name}_*")):
        yield "No run of it is kept yet."
        return
    folder = newest(name)
    record = read_record(folder)
    for chapter in chapters(record):
        if chapter.case == case:
            section = measures(chapter) if figures else headline(chapter, record)
            assert section is not None
            assert section.table is not None
            yield from table(section.table)
            yield ""
    yield f"All of it: [{folder.name}](../benchmarks/results/{folder.name}/{MARKDOWN})."


def main(what: str, *arguments: str) -> None:
    if what == "keep":
        lines = [str(keep(Path(arguments[0]), arguments[1]))]
    elif what == "newest":
        lines = [str(newest(*arguments))]
    else:
        lines = list(
            headlines() if what == "headline" else rows(*arguments, figures=what == "figures")
        )
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
