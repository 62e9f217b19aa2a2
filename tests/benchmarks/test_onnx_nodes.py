"""Nodes are counted as the package onnx counts them, and what is no model is refused."""

from itertools import pairwise

import onnx
import pytest
from onnx import TensorProto, helper

from vlv_benchmarks.onnx_nodes import node_count


def model(nodes: int, *, weights: int = 4) -> onnx.ModelProto:
    """So many additions; with a branch, whose nodes are its own."""
    kind = TensorProto.FLOAT
    names = [f"v{index}" for index in range(nodes + 1)]
    chain = [helper.make_node("Add", [a, "w"], [b]) for a, b in pairwise(names)]
    value = helper.make_tensor_value_info
    then = helper.make_graph([helper.make_node("Neg", ["v0"], ["t"])], "then", [],
                             [value("t", kind, [weights])])  # fmt: skip
    chain.append(helper.make_node("If", ["c"], ["d"], then_branch=then, else_branch=then))
    graph = helper.make_graph(
        chain, "main", [value("v0", kind, [weights]), value("c", TensorProto.BOOL, [])],
        [value(names[-1], kind, [weights])],
        initializer=[helper.make_tensor("w", kind, [weights], [1.0] * weights)],
    )  # fmt: skip
    return helper.make_model(graph, producer_name="x" * 300)


@pytest.mark.parametrize(("nodes", "weights"), [(0, 1), (1, 1), (130, 4), (7, 70_000)])
def test_nodes_are_counted_as_onnx_does(nodes: int, weights: int) -> None:
    made = model(nodes, weights=weights)
    assert node_count(made.SerializeToString()) == len(made.graph.node) == nodes + 1


def test_a_model_without_a_graph_has_none() -> None:
    assert node_count(onnx.ModelProto(ir_version=8).SerializeToString()) == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (model(3).SerializeToString()[:-5], "ends within the field at byte"),
        (b"\x08\xff", "ends within a number"),
        (b"\x0b", "a field of kind 3 at byte 1"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        node_count(data)


def test_fields_of_a_fixed_width_are_passed_over() -> None:
    # fields 20 and 21 in 8 and in 4 bytes, which no field of a model uses today
    more = b"\xa1\x01" + bytes(8) + b"\xad\x01" + bytes(4)
    assert node_count(more + model(2).SerializeToString()) == 3
