"""L0: the files are those of the manifest, graphs are sound, and weights have the dtype promised.

What is read of graphs needs the library onnx, which the runtime does without: where it is absent
the hashes alone are checked, and that is said.
"""

from collections.abc import Mapping
from importlib.util import find_spec

from vlv_core.errors import ModelError
from vlv_export.parity.report import Check, Level, broken, judged
from vlv_export.parity.target import Target
from vlv_export.preflight import check_artefact

ELEMENTS = {
    "fp32": frozenset({"float32"}),
    "fp16": frozenset({"float16"}),
    "bf16": frozenset({"bfloat16"}),
    "int8": frozenset({"int8", "uint8"}),
    "int4": frozenset({"int4", "uint4"}),
}
"""element types of weights that make a dtype"""


def check_files(target: Target) -> Level:
    """The level's outcome."""
    parts = "all" if target.draws else "caption"
    try:
        check_artefact(target.folder, variant=target.variant, parts=parts, check="full")
    except ModelError as error:
        return broken("L0", error.message)
    files = len(target.manifest.files)
    checks = [_counted("artefact", "files", "files changed or missing", [])]
    if find_spec("onnx") is None:
        note = "graphs and precision were not read: the library onnx is not installed"
        return judged("L0", checks, notes=(f"{files} files hashed", note))
    checks += [*_graphs(target), *_precision(target)]
    return judged("L0", checks, notes=(f"{files} files hashed",))


def _graphs(target: Target) -> list[Check]:
    from vlv_export.lowering._lint import lint

    return [
        _counted(part, "graph", "faults of the graph", lint(target.folder / graph.file, part, graph,
                                                            target.entry.dtype))
        for part, graph in target.entry.graphs.items()
    ]  # fmt: skip


def _precision(target: Target) -> list[Check]:
    from vlv_export.lowering._variant import proved_precision

    proved = proved_precision(target.folder, target.entry.graphs)
    return [precision_check(target.entry.dtype, proved)]


def precision_check(dtype: str, proved: Mapping[str, float]) -> Check:
    """The share of the weights' bytes that has the dtype's own element type."""
    share = sum(proved.get(name, 0.0) for name in ELEMENTS[dtype])
    told = ", ".join(f"{name} {share:.0%}" for name, share in proved.items())
    return Check(
        part="weights",
        output="precision",
        figure=f"share of bytes in {dtype}",
        value=share,
        least=0.5,
        worst=told,
    )


def _counted(part: str, output: str, figure: str, wrong: list[str]) -> Check:
    return Check(
        part=part, output=output, figure=figure, value=len(wrong), most=0,
        worst=wrong[0] if wrong else "",
    )  # fmt: skip
