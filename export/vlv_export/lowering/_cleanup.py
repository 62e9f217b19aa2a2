"""Simplifications that every variant gets: sure ones only, and quick on graphs of many nodes."""

import onnx_ir as ir
from onnx_ir.passes import common

LARGE = 1 << 16
"""bytes: larger initializers are told apart when they are stored, by content"""


def clean(model: ir.Model) -> None:
    """Merge equal nodes and constants, drop what nothing uses, name what has no name."""
    ir.passes.Sequential(
        common.IdentityEliminationPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(size_limit=LARGE),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.NameFixPass(),
        common.ClearMetadataAndDocStringPass(),
    )(model)
