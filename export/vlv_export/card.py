"""The model card, OUT/README.md: made from manifest and reports, so that it cannot say more."""

import math
from collections.abc import Iterator, Mapping

from vlv_export.engine_facts import compiled_from, compiler, memory, profiles, ran, targets
from vlv_export.manifest import ENGINES, Manifest, VariantEntry
from vlv_export.parity.report import Check, Level, Report
from vlv_export.workspace import gigabytes


def card(manifest: Manifest, reports: Mapping[str, Report]) -> str:
    """Markdown."""
    return "\n".join(_lines(manifest, reports)) + "\n"


def size_of(manifest: Manifest, entry: VariantEntry) -> int:
    """Bytes of a variant's graphs and weights, each file once."""
    graphs = entry.graphs.values()
    files = {name for graph in graphs for name in (graph.file, *graph.data)}
    return sum(manifest.file(name).bytes for name in files)


def tightest(level: Level) -> Check | None:
    """The judged figure that is nearest to its bound, or furthest beyond it."""
    judged = [check for check in level.checks if check.judged]
    return max(judged, key=_used, default=None)


def parity_cells(entry: VariantEntry) -> str:
    """`L0 passed, L1 passed, L4 not applicable`; what is known of the variant in a line."""
    levels = entry.parity.get("levels", {})
    return ", ".join(f"{name} {state.partition(':')[0]}" for name, state in levels.items())


def _lines(manifest: Manifest, reports: Mapping[str, Report]) -> Iterator[str]:
    model = manifest.model
    drawn = any("denoiser" in entry.graphs for entry in manifest.variants.values())
    yield f"# {model['name']}"
    yield ""
    yield f"Captions{' and redraws' if drawn else ''} pictures {_by_what(manifest)}."
    yield f"What the model has seen: {model['domain'] or 'not stated'}"
    yield f"Licence: {model['licence'] or 'not stated'}"
    if model.get("random_weights"):
        yield ""
        yield "**The weights are random**: this measures an architecture, and says nothing of use."
    yield from _use(manifest)
    yield ""
    yield "## Variants"
    yield "| variant | size | weights are | state | parity |"
    yield "|---|---|---|---|---|"
    for name, entry in manifest.variants.items():
        yield _row(manifest, name, entry)
    yield ""
    if manifest.default is not None:
        yield f"`{manifest.default}` runs if none is named."
    yield "proved: says what the trained model says, level by level; built: nobody has run it yet; "
    yield "pending: waits for its target."
    yield from _engines(manifest)
    yield from _parity(reports)
    yield ""
    yield "## Made by"
    tool, host = manifest.tool, manifest.host
    yield f"{tool['name']} {tool['version']} on {manifest.created}, "
    yield f"{host.get('os', '')} {host.get('machine', '')}; " + ", ".join(
        f"{name} {version}" for name, version in manifest.packages.items()
    )
    yield from _weights(manifest)


def _by_what(manifest: Manifest) -> str:
    if manifest.default is None:
        return "with other programs"
    engine = manifest.variant(None).exporter in ENGINES
    return f"with {'TensorRT on a GPU' if engine else 'onnxruntime'}, without torch"


def _use(manifest: Manifest) -> Iterator[str]:
    """What to type; variants that vlv does not run say it in their own folders."""
    yield ""
    if manifest.default is None:
        yield "vlv itself runs none of its variants: `variants/NAME/README.md` says what does."
        return
    yield "```"
    exporter = manifest.variant(None).exporter
    yield f"pip install 'vlv[{exporter if exporter in ENGINES else 'runtime'}]'"
    yield "vlv caption --model THIS_FOLDER picture.png"
    yield "```"


def _used(check: Check) -> float:
    """How much of what is allowed a figure uses up: above 1 it has failed."""
    if math.isnan(check.value):
        return math.inf
    if check.most is not None:
        return _ratio(check.value, check.most)
    # Shares and cosines end at 1, so what counts is how far below it they are.
    return _ratio(1.0 - check.value, 1.0 - (check.least or 0.0))


def _ratio(used: float, allowed: float) -> float:
    if allowed > 0:
        return used / allowed
    return 0.0 if used <= 0 else math.inf


def _row(manifest: Manifest, name: str, entry: VariantEntry) -> str:
    proved = entry.precision.get("proved", {})
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in proved.items())
    size = gigabytes(size_of(manifest, entry))
    return f"| {name} | {size} | {shares} | {entry.state} | {parity_cells(entry)} |"


def _engines(manifest: Manifest) -> Iterator[str]:
    """What each engine is for, and how to make one for another GPU."""
    engines = {n: each for n, each in manifest.variants.items() if each.exporter in ENGINES}
    if not engines:
        return
    yield ""
    yield "## Engines"
    yield "| variant | for | by | from | profiles | GPU memory |"
    yield "|---|---|---|---|---|---|"
    for name, entry in engines.items():
        facts = (fact(entry) for fact in (targets, compiler, compiled_from, profiles, memory))
        yield f"| {name} | {' | '.join(facts)} |"
    for name, entry in engines.items():
        yield ""
        said = ran(entry)
        # What it waits for is a sentence with the name already.
        yield said if said.startswith(name) else f"{name}: {said}"
    yield ""
    yield "On the machine with the GPU, without torch or the model (NAME is a variant above):"
    yield "```"
    yield from (
        f"pip install 'vlv[{each}]'"
        for each in dict.fromkeys(entry.exporter for entry in engines.values())
    )
    yield "vlv-export build THIS_FOLDER                  # what waits for it"
    yield "vlv-export build THIS_FOLDER --variant NAME   # again, for the GPU that is there"
    yield "```"


def _parity(reports: Mapping[str, Report]) -> Iterator[str]:
    """A line for each level."""
    if not reports:
        return
    yield ""
    yield "## Parity with the trained model"
    yield "| variant | level | state | nearest to its bound |"
    yield "|---|---|---|---|"
    for name, report in reports.items():
        for level in report.levels:
            check = tightest(level)
            said = check.sentence() if check else level.reason
            yield f"| {name} | {level.level} | {level.state} | {said} |"
    yield ""
    yield "All figures: `reports/parity.md`."


def _weights(manifest: Manifest) -> Iterator[str]:
    parts = manifest.model.get("parts", {})
    if parts:
        yield ""
        yield "Weights it was made from, by sha256:"
        yield ""
        yield from (f"- {part}: `{digest}`" for part, digest in parts.items())
