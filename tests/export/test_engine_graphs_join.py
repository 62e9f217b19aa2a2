"""One head for prefill and decode: prefix and tokens at equally many places."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from tests.export.graphs_for_engines import build, session
from tests.export.lowering_graphs import graph_of, run, value
from vlv_core.errors import UsageError
from vlv_core.parts import ExportPart
from vlv_export.lowering._engine_join import join_prefix

Tiny = tuple[dict[str, ExportPart], dict[str, Path]]
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def constant(name: str, array: NDArray[Any]) -> ir.Value:
    made = value(name, array.shape, str(array.dtype))
    made.const_value = ir.tensor(array)
    return made


def head(*, order: str = "prefix first", axis: int = 1, scaled: bool = True) -> ir.Model:
    """Concat(2 prefix, 10 embedding), as Gemma scales its words, and the sum over places."""
    prefix, tokens = value("prefix", ("batch", "prefix", 3)), value("tokens", ("b", "t"), "int64")
    words, text = value("words", ("b", "t", 3)), value("text", ("b", "t", 3))
    soft = value("soft", ("batch", "prefix", 3))
    joined, out = value("joined", ("b", "p + t", 3)), value("out", ("b", "p + t", 3))
    nodes = [
        ir.node("Gather", [constant("table", TABLE), tokens], outputs=[words]),
        ir.node("Mul", [words, constant("ten", np.array(10, np.float32))], outputs=[text]),
        ir.node("Mul", [prefix, constant("two", np.array(2, np.float32))], outputs=[soft]),
    ]
    pair = [soft, text] if order == "prefix first" else [text, soft]
    nodes.append(ir.node("Concat", pair, {"axis": axis}, outputs=[joined]))
    nodes.append(ir.node("Neg", [joined], outputs=[out]))
    return graph_of([prefix, tokens], nodes, [out])


@pytest.mark.parametrize("axis", [1, -2])
def test_each_place_takes_its_prefix_or_its_word(axis: int) -> None:
    model = head(axis=axis)
    join_prefix(model.graph)
    assert "Concat" not in [node.op_type for node in model.graph]
    prefix = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
    tokens = np.array([[-1, 0, 3], [-1, -1, 2]])
    found = run(model, {"prefix": prefix, "tokens": tokens})["out"]
    wanted = np.where(tokens[..., None] < 0, 2 * prefix, 10 * TABLE[np.maximum(tokens, 0)])
    np.testing.assert_allclose(found, -wanted)


def test_both_inputs_have_one_length() -> None:
    model = head()
    join_prefix(model.graph)
    assert [str(each.shape) for each in model.graph.inputs] == ["[batch,length,3]", "[b,length]"]
    assert str(model.graph.outputs[0].shape) == "[b,length,3]"


@pytest.mark.parametrize("model", [head(order="tokens first"), head(axis=2)])
def test_another_join_is_refused(model: ir.Model) -> None:
    with pytest.raises(UsageError, match="no Concat of prefix and embedded tokens") as raised:
        join_prefix(model.graph)
    assert raised.value.hint == "write torch.cat([prefix, embedding], dim=1) in the head's module"


def test_a_length_that_is_asked_of_one_input_is_refused() -> None:
    model = head()
    prefix, out = model.graph.inputs[0], value("length", (1,), "int64")
    model.graph.append(ir.node("Shape", [prefix], {"start": 1, "end": 2}, outputs=[out]))
    model.graph.outputs.append(out)
    with pytest.raises(UsageError, match="Shape node 'length' reads prefix or tokens beside"):
        join_prefix(model.graph)


def test_the_batch_may_be_asked_for() -> None:
    model = head()
    prefix, out = model.graph.inputs[0], value("rows", (1,), "int64")
    model.graph.append(ir.node("Shape", [prefix], {"start": 0, "end": 1}, outputs=[out]))
    model.graph.outputs.append(out)
    join_prefix(model.graph)
    prefix_rows, words = np.zeros((2, 1, 3), np.float32), np.zeros((2, 1), np.int64)
    assert run(model, {"prefix": prefix_rows, "tokens": words})["rows"] == [2]


def test_capacities_share_their_weights_and_answer_alike(tiny: Tiny, tmp_path: Path) -> None:
    entries = build({"head": tiny[1]["head"]}, tmp_path, "fp32", 20, 12, 20)
    assert list(entries) == ["head", "head.12"]
    assert {entry.data for entry in entries.values()} == {("head.data",)}
    assert sorted(path.name for path in tmp_path.glob("*.data")) == ["head.data"]
    found = []
    for entry, capacity in zip(entries.values(), (20, 12), strict=True):
        assert entry.joined and entry.shared_cache and entry.opset == 24
        inputs: dict[str, NDArray[Any]] = {
            each.name: np.zeros([int(size) if size != "batch" else 2 for size in each.shape], "f4")
            for each in entry.inputs
            if each.name.startswith("past.")
        }
        assert {array.shape[2] for array in inputs.values()} == {capacity}
        inputs["prefix"] = np.ones((2, 3, int(entry.inputs[0].shape[2])), np.float32)
        inputs["tokens"], inputs["position"] = np.array([[-1, -1, 5]] * 2), np.zeros(2, np.int64)
        opened = session(tmp_path / entry.file)
        found.append(opened.run(["top_ids", "logits"], {**inputs, "k": np.array([2])}))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("capacities", [(), (1,), (0, 20)])
def test_capacities_are_needed(capacities: tuple[int, ...], tiny: Tiny, tmp_path: Path) -> None:
    from vlv_export.lowering._engine import build_engine_graphs

    with pytest.raises(UsageError, match="a head needs one or more, each 2 or more"):
        build_engine_graphs(
            {"head": tiny[1]["head"]}, tmp_path, dtype="fp32", capacities=capacities
        )


def test_integers_are_no_engines_dtype(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dtype 'int8'; there are fp32, fp16, bf16"):
        build({}, tmp_path, "int8")
