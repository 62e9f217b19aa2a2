"""Constant matrices: transposed copies, tied tables, and where their bytes go."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from tests.export.lowering_graphs import graph_of, rel_l2, run, value
from vlv_export.lowering._cleanup import clean
from vlv_export.lowering._linear import fold_transposes, tie_tables
from vlv_export.lowering._store import LINE, PAGE, WeightStore, data_files


def normal(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def constant(name: str, array: NDArray[Any]) -> ir.Value:
    made = value(name, array.shape)
    made.const_value = ir.tensor(array)
    return made


def head(*, tied: bool, rank: int, folded: bool = False) -> ir.Model:
    """ids -> rows of a table; rows -> products with the (transposed) table, or another."""
    table = normal(8, 6, seed=1)
    shape: tuple[Any, ...] = ("b", "l") if rank == 3 else ("b",)
    weight = constant("table", table)
    other = weight if tied else constant("other", normal(8, 6, seed=2))
    ids = value("ids", shape, "int64")
    rows, logits = value("rows", (*shape, 6)), value("logits", (*shape, 8))
    turned = value("turned", (6, 8))
    nodes = [ir.node("Gather", [weight, ids], outputs=[rows])]
    if folded:
        turned.const_value = ir.tensor(np.ascontiguousarray(table.T))
    else:
        nodes.append(ir.node("Transpose", [other], {"perm": [1, 0]}, outputs=[turned]))
    nodes.append(ir.node("MatMul", [rows, turned], outputs=[logits]))
    return graph_of([ids], nodes, [logits])


def weights(model: ir.Model) -> int:
    """Numbers in matrices."""
    tensors = (each.const_value for each in model.graph.initializers.values())
    return sum(each.size for each in tensors if each is not None and len(each.shape) == 2)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("form", ["tied", "folded", "apart"])
def test_transposed_weights_are_held_once(form: str, rank: int) -> None:
    build = {"tied": form != "apart", "rank": rank, "folded": form == "folded"}
    model, wanted = head(**build), head(**build)
    fold_transposes(model.graph)
    tie_tables(model.graph)
    clean(model)
    kinds = [node.op_type for node in model.graph]
    assert "Transpose" not in kinds and ("Gemm" in kinds) == (form != "apart")
    assert weights(model) == (48 if form != "apart" else 96)
    for length in (1, 4):
        ids = np.random.default_rng(3).integers(0, 8, (2, length) if rank == 3 else (2,))
        found = run(model, {"ids": ids})["logits"]
        assert rel_l2(found, run(wanted, {"ids": ids})["logits"]) < 1e-6


def test_an_empty_length_goes_through_a_tied_table() -> None:
    model = head(tied=True, rank=3)
    fold_transposes(model.graph)
    clean(model)
    assert run(model, {"ids": np.zeros((2, 0), np.int64)})["logits"].shape == (2, 0, 8)


def test_a_table_that_is_nearly_the_weight_is_not_tied() -> None:
    model = head(tied=True, rank=2, folded=True)
    turned = model.graph.initializers["turned"]
    assert turned.const_value is not None
    other = np.array(turned.const_value.numpy())
    other[5, 7] += 1
    turned.const_value = ir.tensor(other)
    tie_tables(model.graph)
    assert [node.op_type for node in model.graph] == ["Gather", "MatMul"]


def stored(arrays: dict[str, NDArray[Any]]) -> ir.Model:
    """A graph that adds constants."""
    x, nodes = value("x", (1,)), []
    for name, array in arrays.items():
        out = value(f"{name}_sum", array.shape)
        nodes.append(ir.node("Add", [x, constant(name, array)], outputs=[out]))
    return graph_of([x], nodes, [node.outputs[0] for node in nodes])


def test_equal_tensors_of_two_graphs_are_stored_once(tmp_path: Path) -> None:
    store, shared = WeightStore(tmp_path), normal(30, 20, seed=1)
    first = stored({"a": shared, "b": normal(30, 20, seed=2)})
    second = stored({"c": shared, "d": normal(30, 20, seed=3)})
    third = stored({"e": shared})
    for name, model in (("first", first), ("second", second), ("third", third)):
        store.write(model.graph, f"{name}.data")
        ir.save(model, tmp_path / f"{name}.onnx")
    assert data_files(second.graph) == ("first.data", "second.data")
    assert data_files(third.graph) == ("first.data",)
    assert not (tmp_path / "third.data").exists()
    assert sum(each.stat().st_size for each in tmp_path.glob("*.data")) <= 3 * 2400 + 2 * LINE
    found = run(tmp_path / "second.onnx", {"x": np.zeros(1, np.float32)})
    np.testing.assert_array_equal(found["c_sum"], shared)
    np.testing.assert_array_equal(found["d_sum"], normal(30, 20, seed=3))


def test_equal_bytes_of_two_types_are_two_tensors(tmp_path: Path) -> None:
    """TensorRT refuses a place that is read as 600 numbers of one type and 1200 of another."""
    model = stored({"wide": np.zeros(600, np.float32), "low": np.zeros(1200, np.float16)})
    WeightStore(tmp_path).write(model.graph, "one.data")
    places = [value.const_value for value in model.graph.initializers.values()]
    first, second = (each for each in places if isinstance(each, ir.ExternalTensor))
    assert first.offset != second.offset


def test_large_tensors_start_where_a_page_does_and_small_ones_stay_in_the_graph(
    tmp_path: Path,
) -> None:
    arrays = {
        "a": normal(300, seed=1),
        "large": normal(600, 500, seed=2),
        "tiny": normal(5, seed=3),
    }
    model = stored(arrays)
    WeightStore(tmp_path).write(model.graph, "one.data")
    tensors = {name: each.const_value for name, each in model.graph.initializers.items()}
    large = tensors["large"]
    assert isinstance(large, ir.ExternalTensor) and large.offset and large.offset % PAGE == 0
    assert isinstance(tensors["a"], ir.ExternalTensor)
    assert not isinstance(tensors["tiny"], ir.ExternalTensor)


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    for _ in range(2):
        WeightStore(tmp_path).write(stored({"a": normal(300, seed=1)}).graph, "one.data")
    assert (tmp_path / "one.data").stat().st_size == 1200
