"""Parity reports as Markdown: a summary, then a table a level, the worst case, the spread."""

from collections.abc import Iterator, Mapping

from vlv_export.parity.report import LEVELS, Check, Level, Report


def markdown(reports: Mapping[str, Report]) -> str:
    """All variants' reports."""
    return "\n".join([*_lines(reports)]) + "\n"


def summary(reports: Mapping[str, Report]) -> str:
    """The table of variants and levels alone."""
    return "\n".join(_summary(reports))


def _lines(reports: Mapping[str, Report]) -> Iterator[str]:
    yield "# Parity with the trained model"
    yield ""
    yield from _summary(reports)
    for name, report in reports.items():
        yield ""
        yield f"## {name}: {report.verdict}"
        yield ""
        yield f"Compared with the eager float32 model `{report.model}`."
        for failure in report.failures():
            yield f"- **failed** {failure}"
        for level in report.levels:
            yield from _level(level)


def _summary(reports: Mapping[str, Report]) -> Iterator[str]:
    present = [
        name for name in LEVELS
        if any(level.level == name for report in reports.values() for level in report.levels)
    ]  # fmt: skip
    yield f"| variant | {' | '.join(f'{name} {LEVELS[name]}' for name in present)} | verdict |"
    yield "|---" * (len(present) + 2) + "|"
    for name, report in reports.items():
        states = {level.level: level for level in report.levels}
        cells = [_state(states[each]) if each in states else "-" for each in present]
        yield f"| {name} | {' | '.join(cells)} | **{report.verdict}** |"


def _level(level: Level) -> Iterator[str]:
    yield ""
    yield f"### {level.level} {LEVELS[level.level]}: {_state(level)} ({level.seconds:g} s)"
    if level.checks:
        yield ""
        yield "| part | output | figure | value | allowed | verdict | worst case | spread |"
        yield "|---|---|---|---|---|---|---|---|"
        yield from map(_row, level.checks)
    for note in level.notes:
        yield ""
        yield f"{note}."


def _row(check: Check) -> str:
    verdict = ("passed" if check.passed else "**failed**") if check.judged else "reported"
    spread = " ".join(f"{name} {value:.3g}" for name, value in check.distribution.items())
    cells = [
        check.part, check.output, check.figure, f"{check.value:.4g}", check.allowed, verdict,
        _plain(check.worst), spread,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _state(level: Level) -> str:
    return f"{level.state}: {_plain(level.reason)}" if level.reason else level.state


def _plain(text: str) -> str:
    """Without what would end a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")
