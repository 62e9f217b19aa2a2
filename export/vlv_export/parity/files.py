"""L0: the files are those of the manifest, graphs are sound, and weights have the dtype promised.

What is read of graphs needs the library onnx, which the runtime does without: where it is absent
the hashes alone are checked, and that is said.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal

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
QUANTISED = ("int8", "int4")


def check_files(target: Target) -> Level:
    """The level's outcome."""
    parts: Literal["caption", "all"] = "all" if target.draws else "caption"
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

    return [
        precision_check(
            part, target.entry.dtype, proved_precision(target.folder, {part: graph}, words=False)
        )
        for part, graph in target.entry.graphs.items()
    ]


def precision_check(part: str, dtype: str, proved: Mapping[str, float]) -> Check:
    """The share of a part's weights, in bytes, that has the dtype's own element type.

    Quantisers shrink matrices alone: of them the head, which is nothing else, is judged, but for
    its words, which keep 8 bits beside layers of 4.
    """
    share = sum(proved.get(name, 0.0) for name in ELEMENTS[dtype])
    told = ", ".join(f"{name} {share:.0%}" for name, share in proved.items())
    return Check(
        part=part,
        output="weights",
        figure=f"share of bytes in {dtype}",
        value=share,
        least=0.5 if part == "head" or dtype not in QUANTISED else None,
        worst=told,
    )


def _counted(part: str, output: str, figure: str, wrong: list[str]) -> Check:
    return Check(
        part=part, output=output, figure=figure, value=len(wrong), most=0,
        worst=wrong[0] if wrong else "",
    )  # fmt: skip
