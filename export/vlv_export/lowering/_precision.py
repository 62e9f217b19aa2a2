"""float32 -> float16 or bfloat16 by one pass over the graph, so that both differ in dtypes alone.

Weights, caches and products are of the low type. Norms, softmax, reductions, the head's tail and
what is computed from a graph's inputs before the first product stay in float32, as inputs and
outputs do, because their range or their sums would not fit.
"""

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from vlv_core.errors import UsageError
from vlv_export.lowering._emit import Emitter
from vlv_export.lowering._linear import lazily

FLOAT = ir.DataType.FLOAT
LOW = {
    "fp16": (ir.DataType.FLOAT16, np.dtype(np.float16)),
    "bf16": (ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
WIDE_OPS = {
    *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax", "LogSoftmax"),
    *(
        "Pow",
        "Sqrt",
        "Reciprocal",
        "Exp",
        "Log",
        "Sin",
        "Cos",
        "Range",
        "ConstantOfShape",
        "Resize",
    ),
    *("CumSum", "TopK", "LpNormalization", "Einsum"),
}
"""and all whose names begin with Reduce"""
LOW_OPS = {
    *("MatMul", "Gemm", "Conv", "ConvTranspose", "Gather", "ScatterElements"),
    *("Attention", "TensorScatter"),
}
INDIFFERENT = {"Shape", "Size", "IsNaN", "IsInf"}
"""take any type and answer no float"""


def lower_precision(model: ir.Model, part: str, dtype: str) -> None:
    """Convert a float32 model in place; its weights are converted when they are written.

    Raises UsageError, then, for a weight that float16 cannot hold.
    """
    _Pass(model.graph, part, dtype).run()


class _Pass:
    def __init__(self, graph: ir.Graph, part: str, dtype: str) -> None:
        self.graph, self.part = graph, part
        self.low, self.numpy = LOW[dtype]
        self.emit = Emitter(graph)
        self.cast: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        for value in self.graph.inputs:
            if value.dtype == FLOAT and (value.name or "").startswith("past."):
                value.type = ir.TensorType(self.low)
        constants = {id(value) for value in self.graph.initializers.values()}
        for node in tuple(self.graph):
            if node.op_type not in INDIFFERENT:
                self._node(node, constants)
        for index, value in enumerate(self.graph.outputs):
            if value.dtype == self.low and not (value.name or "").startswith("present."):
                self._widen_output(index, value)

    def _node(self, node: ir.Node, constants: set[int]) -> None:
        kinds = FLOAT, self.low
        floats = [each for each in node.inputs if each is not None and each.dtype in kinds]
        made = [each for each in node.outputs if each.dtype == FLOAT]
        if node.op_type == "Cast" and not (floats and made):
            return
        wide = _is_wide(node, [each for each in floats if id(each) not in constants])
        wanted = FLOAT if wide else self.low
        self.emit.anchor = node
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in kinds and value.dtype != wanted:
                constant = id(value) in constants
                new = self._constant(value) if constant else self._converted(value, wanted)
                node.replace_input_with(index, new)
        for value in made:
            value.type = ir.TensorType(wanted)
        if node.op_type == "Cast" and made:
            node.attributes["to"] = ir.AttrInt64("to", wanted)

    def _converted(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        if (value, dtype) not in self.cast:
            made = self.emit("Cast", value, dtype=dtype, shape=value.shape, to=dtype)
            self.cast[value, dtype] = made
        return self.cast[value, dtype]

    def _constant(self, value: ir.Value) -> ir.Value:
        """A float32 initializer's low form, beside it: whichever nobody uses is dropped."""
        if (value, self.low) not in self.cast:
            tensor, shape = value.const_value, value.shape
            assert tensor is not None and shape is not None and value.name
            name, sizes = value.name, [int(str(size)) for size in shape]
            low = lazily(lambda: self._rounded(tensor.numpy(), name), dtype=self.low, shape=sizes)
            self.cast[value, self.low] = self.emit.initializer(f"{name}{LOW_SUFFIX}", low)
        return self.cast[value, self.low]

    def _rounded(self, array: NDArray[np.float32], name: str) -> NDArray[np.generic]:
        limit = float(ml_dtypes.finfo(self.numpy).max)
        # A single number beyond the limit stands for infinity in a mask.
        if array.size > 1 and np.isfinite(most := float(np.abs(array).max())) and most > limit:
            raise UsageError(
                f"part {self.part!r}: weight {name!r} holds {most:.4g}, "
                f"and {self.numpy.name} ends at {limit:.4g}",
                hint="export with --dtype bf16 or --dtype fp32",
            )
        with np.errstate(over="ignore"):
            return array.astype(self.numpy)

    def _widen_output(self, index: int, value: ir.Value) -> None:
        last = value.producer()
        assert last is not None and last.graph is not None
        out = ir.Value(name=value.name, shape=value.shape, type=ir.TensorType(FLOAT))
        value.name = None
        node = ir.node("Cast", [value], {"to": FLOAT}, outputs=[out])
        self.graph.append(node)
        self.graph.outputs[index] = out


LOW_SUFFIX = ".low"
"""of the names of converted initializers"""


def _is_wide(node: ir.Node, variables: list[ir.Value]) -> bool:
    """Whether a node computes in float32."""
    if node.meta.get("wide") or node.op_type in WIDE_OPS or node.op_type.startswith("Reduce"):
        return True
    if node.op_type in LOW_OPS:
        return node.op_type == "Gather" and bool(variables) and _all_wide(variables)
    return _all_wide(variables)


def _all_wide(variables: list[ir.Value]) -> bool:
    return all(value.dtype == FLOAT for value in variables)
