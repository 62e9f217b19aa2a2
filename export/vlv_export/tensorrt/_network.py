"""A parsed graph: made what the compiler builds well, and checked before anything is built."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlv_core.errors import NotProved, VlvError
from vlv_export.manifest import TensorEntry
from vlv_export.tensorrt.job import Dtype

_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32",
    "UINT8": "uint8", "INT8": "int8", "BOOL": "bool",
}  # fmt: skip
"""the compiler's names -> numpy's"""
_ASKED: Mapping[Dtype, str] = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16"}
_FLOATS = set(_ASKED.values())
_PRODUCTS = {"MATRIX_MULTIPLY": 2, "CONVOLUTION": 1, "EINSUM": 2, "ATTENTION_INPUT": 3}
"""layers with products -> how many of their first inputs are multiplied; not DECONVOLUTION, which
has no bfloat16 form and stays float32"""
_MENDS = {
    "UNSUPPORTED_NODE": "the lowering must make it of operators that TensorRT has",
    "UNSUPPORTED_NODE_ATTR": "leave the attribute out, or lower the operator to others",
    "UNSUPPORTED_NODE_INPUT": "the input must have the form that the reason names",
    "UNSUPPORTED_NODE_DATATYPE": "cast around the operator, as is done for norms",
    "UNSUPPORTED_NODE_DYNAMIC": "give the axis a fixed length, as the cache's is",
    "UNSUPPORTED_NODE_SHAPE": "give the operator the shape that the reason names",
}
"""the parser's error code -> what to do"""
_UNKNOWN = "Plugin not found"
"""in the parser's words for an operator that it does not know: it then looks for a plugin"""
_MOST_SHOWN = 8


@dataclass
class Network:
    """A network with the objects that must outlive it."""

    trt: Any
    """the compiler's module"""
    builder: Any
    definition: Any
    parser: Any

    def layers(self) -> Iterator[Any]:
        """As plain ILayer objects: the bindings do not give them their own classes."""
        return (self.definition.get_layer(index) for index in range(self.definition.num_layers))

    def inputs(self) -> list[Any]:
        return [self.definition.get_input(index) for index in range(self.definition.num_inputs)]

    def outputs(self) -> list[Any]:
        return [self.definition.get_output(index) for index in range(self.definition.num_outputs)]


def parse(trt: Any, graph: Path, *, part: str, logger: Any) -> Network:
    """Parse a graph. Raises VlvError with every node that the parser refuses, and why."""
    builder = trt.Builder(logger)
    # Flags of precision are gone: networks are strongly typed, by this flag or without it.
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    definition = builder.create_network(flags)
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse_from_file(str(graph)) or parser.num_errors:
        raise _refused([parser.get_error(index) for index in range(parser.num_errors)], part, graph)
    network = Network(trt, builder, definition, parser)
    _allow_decomposition(network)
    return network


def _refused(errors: list[Any], part: str, graph: Path) -> VlvError:
    if not errors:
        return VlvError(
            f"{graph} of part {part!r} cannot be parsed, and the parser does not say why",
            hint="is the file damaged, or are weights missing beside it?",
        )
    lines = [
        f"{error.node_operator() or 'the graph'} {error.node_name()!r}: {_reason(error.desc())}"
        for error in errors[:_MOST_SHOWN]
    ]
    if len(errors) > _MOST_SHOWN:
        lines.append(f"and {len(errors) - _MOST_SHOWN} more")
    mends = dict.fromkeys(
        _MENDS.get("UNSUPPORTED_NODE" if _UNKNOWN in error.desc() else error.code().name)
        for error in errors
    )
    return VlvError(
        f"the compiler refuses part {part!r}: " + "; ".join(lines),
        hint="; ".join(mend for mend in mends if mend) or None,
    )


def _reason(text: str) -> str:
    """One line of the parser's words, without the C++ that was false."""
    if _UNKNOWN in text:
        return "there is no such operator"
    line = " ".join(text.split())
    start = line.find("): ") if line.startswith("Assertion failed") else -1
    return line[start + 3 :] if start > 0 else line


def _allow_decomposition(network: Network) -> None:
    """Attentions for which there is no kernel (float32, odd widths) are built of other layers."""
    for layer in network.layers():
        if layer.type == network.trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = network.trt.IAttentionInputLayer
            layer.attention.decomposable = True


def dynamic_names(network: Network) -> dict[str, bool]:
    """Axes without a fixed length -> False, and inputs whose values size an output -> True.

    Raises VlvError for a dynamic axis without a name.
    """
    names: dict[str, bool] = {}
    for tensor in network.inputs():
        if tensor.is_shape_tensor:
            names[tensor.name] = True
            continue
        for index, size in enumerate(tensor.shape):
            if size == -1:
                name = tensor.get_dimension_name(index)
                if not name:
                    raise VlvError(f"axis {index} of input {tensor.name!r} has no name")
                names.setdefault(name, False)
    return names


def entries(tensors: list[Any]) -> tuple[TensorEntry, ...]:
    """Inputs or outputs as the manifest has them; the names of outputs' axes are not known."""
    return tuple(
        TensorEntry(
            name=tensor.name,
            dtype=_DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower()),
            shape=tuple(
                size if size >= 0 else (tensor.get_dimension_name(index) or "?")
                for index, size in enumerate(tensor.shape)
            ),
        )
        for tensor in tensors
    )


def check_products(network: Network, dtype: Dtype, *, part: str) -> None:
    """Raises NotProved for a product that is not of the asked type: a network is strongly typed,
    so that an engine computes in the types that its layers have here."""
    asked = _ASKED[dtype]
    for layer in network.layers():
        count = _PRODUCTS.get(layer.type.name, 0)
        for index in range(min(count, layer.num_inputs)):
            found = layer.get_input(index).dtype.name
            if found in _FLOATS and found != asked:
                raise NotProved(
                    f"part {part!r} is to be {dtype}, and its graph multiplies {_DTYPES[found]} "
                    f"in {layer.name!r}",
                    hint="the graph holds other types than its variant says: export it again",
                )


def check_caches(network: Network, aliases: Mapping[str, str], *, part: str) -> dict[str, str]:
    """Cache input -> the output that is the same buffer, as the network has it.

    Raises NotProved for a cache that is copied: one that no in-place update takes from the input
    straight to the output.
    """
    made = {tensor.name for tensor in network.outputs()}
    given = {tensor.name for tensor in network.inputs()}
    updates = [
        (layer.get_input(0).name, layer.get_output(0).name)
        for layer in network.layers()
        if layer.type.name == "KV_CACHE_UPDATE"
    ]
    found = {past: present for past, present in updates if past in given and present in made}
    for past, present in aliases.items():
        if found.get(past) != present or sum(each == past for each, _ in updates) != 1:
            raise NotProved(
                f"part {part!r}: cache {past!r} is copied to {present!r}, not updated in place",
                hint="one TensorScatter must take the input to the output with nothing between",
            )
    return found
