"""Simplifications that every variant gets: sure ones only, and quick on graphs of many nodes."""

import onnx_ir as ir
from onnx_ir.passes import common

from vlv_export.lowering._emit import MICROSOFT

LARGE = 1 << 16
"""bytes: larger initializers are told apart when they are stored, by content"""


def clean(model: ir.Model) -> None:
    """Merge equal nodes and constants, then `finish`."""
    ir.passes.Sequential(
        common.IdentityEliminationPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(size_limit=LARGE),
        common.CommonSubexpressionEliminationPass(),
    )(model)
    finish(model)


def finish(model: ir.Model) -> None:
    """What changes no computation: drop what nothing uses, name what has no name."""
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.NameFixPass(),
        common.ClearMetadataAndDocStringPass(),
    )(model)
    for node in model.graph:
        if node.domain == MICROSOFT:
            _blank_unused(node)


def drop_unused(graph: ir.Graph) -> None:
    """Remove nodes whose outputs nobody wants."""
    for node in reversed(graph):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)


def _blank_unused(node: ir.Node) -> None:
    """An optional output without a name is not computed."""
    for value in node.outputs[1:]:
        if not value.uses() and not value.is_graph_output():
            value.name = ""
