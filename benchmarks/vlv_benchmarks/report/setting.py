"""What stands after the cases: failures, cost, workload, models, machine, ceiling, command."""

import shlex
from collections.abc import Iterator, Sequence

from vlv_benchmarks.record import Record, Result
from vlv_benchmarks.report.section import Section, Table
from vlv_benchmarks.statistics import MOST_DRIFT
from vlv_benchmarks.text import NONE, figure, percent, size, told


def closing(record: Record) -> list[Section]:
    """All of them, in order."""
    found = (left_out(record), cost(record), work(record), environment(record))
    return [section for section in found if section is not None]


def left_out(record: Record) -> Section:
    """How many rows came to what, and those without times."""
    counts = {status: 0 for status in ("ok", "unstable", "failed", "not run")}
    for result in record.result:
        counts[result.status] += 1
    whole = ", ".join(f"{count} {status}" for status, count in counts.items())
    said = [f"{len(record.result)} rows planned: {whole}."]
    if counts["unstable"]:
        said.append("† the probe says that the machine changed meanwhile: trust the ratios alone.")
    return Section(
        title="Failures and rows not run", said=tuple(said), points=tuple(_reasons(record.result))
    )


def _reasons(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    """Rows of one reason stand together, for one cause often takes many; of unstable ones, how
    far the probe moved."""
    moved = [each.drift for each in results if each.status == "unstable" and each.drift is not None]
    if moved:
        between = " to ".join(dict.fromkeys(map(percent, (min(moved), max(moved)))))
        yield (
            f"{_rows(len(moved))} unstable",
            f"the probe moved by {between}, allowed {MOST_DRIFT:.0%}",
        )
    causes: dict[tuple[str, str], list[Result]] = {}
    for each in results:
        if each.status in ("failed", "not run"):
            causes.setdefault((each.status, each.reason), []).append(each)
    for (status, reason), found in causes.items():
        if len(found) == 1:
            yield told(found[0].row), f"{status}: {reason}"
        else:
            all_of_them = "; ".join(told(each.row) for each in found)
            yield f"{_rows(len(found))} {status}", f"{reason}: {all_of_them}"


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def cost(record: Record) -> Section | None:
    """Of a million captions; in money if a price was given. Rows without tokens make none."""
    counted = [
        each for each in record.result
        if each.timed and each.throughput.images_per_s and each.throughput.tokens_per_s
    ]  # fmt: skip
    if not counted:
        return None
    price = record.run.price_per_hour_usd
    lines = [
        (told(each.row), *_cost(each.throughput.images_per_s or 0.0, price)) for each in counted
    ]
    said = f"At {price:.2f} USD an hour for this machine." if price else (
        "`vlv-bench report OUT --price-per-hour USD` adds what that costs on this machine."
    )  # fmt: skip
    head = ("", "machine hours", *(("USD",) if price else ()))
    return Section(
        title="A million captions", said=(said,), table=Table(head=head, lines=tuple(lines))
    )


def _cost(images_per_s: float, price: float | None) -> tuple[str, ...]:
    hours = 1e6 / images_per_s / 3600
    return (figure(hours), figure(hours * price)) if price else (figure(hours),)


def work(record: Record) -> Section:
    """Workloads and models."""
    points = [
        *((f"case {name}", f"{each.summary} {_pictures(each.images, each.images_sha256)}"
           f"{_asked(each.prompt, each.output_tokens)}") for name, each in record.workload.items()),
        *((f"model {name}", each) for name, each in _models(record)),
    ]  # fmt: skip
    return Section(title="Work", points=tuple(points))


def environment(record: Record) -> Section:
    """Machine, ceiling, libraries and the command."""
    env, run = record.env, record.run
    dirty = " with changes that are not committed" if run.git_dirty else ""
    points = [
        ("command", f"`{shlex.join(run.argv)}`"),
        ("run", f"{run.id}, started {run.started}, seed {run.seed}"),
        ("commit", f"{run.git_commit}{dirty}"),
        ("system", env.os),
        ("processor", f"{env.cpu_model}, {env.cpu_threads} threads, {' '.join(env.cpu_isa)}"),
        ("memory", f"{figure(env.memory_mb)} MB"),
        ("GPU", f"{env.gpu}, driver {env.driver or NONE}" if env.gpu else "none"),
        ("libraries", _listed(env.libraries)),
        ("variables", _listed(env.variables)),
        *_ceilings(record),
    ]
    return Section(title="Environment", points=tuple(points))


def _ceilings(record: Record) -> Iterator[tuple[str, str]]:
    for device, ceiling in record.ceiling.items():
        rates = ", ".join(f"{figure(rate)} GFLOP/s {name}" for name, rate in ceiling.gflops.items())
        yield f"ceiling of {device}", f"{rates}; {figure(ceiling.gbps)} GB/s; {ceiling.measured}"


def _models(record: Record) -> Iterator[tuple[str, str]]:
    for name, model in record.model.items():
        parts = ", ".join(
            f"{part} {size(count)} ({model.dtypes.get(part, 'dtype not stated')})"
            for part, count in model.parameters.items()
        )
        random = "; weights are random: this measures an architecture" * model.random_weights
        plugins = f"; plugins {', '.join(model.plugins)}" if model.plugins else ""
        yield (
            name,
            f"parameters: {parts or 'not stated'}{plugins}; sha256 {model.sha256[:12]}{random}",
        )


def _pictures(count: int, digest: str | None) -> str:
    return f"{count} images, sha256 {(digest or NONE)[:12]}." if count else ""


def _asked(prompt: str | None, tokens: int | None) -> str:
    asked = f" Prompt {prompt!r}." if prompt is not None else ""
    return asked + (f" {tokens} tokens each." if tokens is not None else "")


def _listed(table: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in table.items()) or "none"
