"""The proof that an engine computes in the type that was asked for.

Precision is a property of what was built, not of what was asked: flags that a compiler ignores
build float32 silently. So matrix products and weights must be of the asked type; norms, softmax,
tables of positions and other small constants may be float32, as may transposed convolutions, of
which the compiler has no bfloat16 form.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from vlv_core.errors import NotProved
from vlv_export.tensorrt.job import Dtype
from vlv_export.tensorrt.layers import Layer, Tensor

DATATYPES: dict[Dtype, str] = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16"}
"""dtype -> as the compilers name it in built layers"""
_FLOATS = {"Float": 4, "Half": 2, "BFloat16": 2, "FP8": 1, "Double": 8, "Float16": 2}
"""bytes of an element"""
_SMALL = 2**12
"""elements: the largest constant of another type in a layer with a matrix product"""
_LEAST_SHARE = 0.5
"""of the bytes of floating constants; matrices lie far above it, and a float32 engine at none"""
_PRODUCT = re.compile(r"gemm|(?<!de)conv|corr|matmul|matrix|(?<![a-z])fc(?![a-z])|mha", re.I)
_FUSED = re.compile(r"_myl_[A-Za-z]*?(Fc|Corr|Gemm|Mha)(?![a-z])")


def constant_shares(layers: Sequence[Layer]) -> dict[str, float]:
    """Element type -> share of the bytes of all floating constants."""
    held: Counter[str] = Counter()
    for layer in layers:
        for each in layer.constants:
            if each.dtype in _FLOATS:
                held[each.dtype] += each.size * _FLOATS[each.dtype]
    total = sum(held.values()) or 1
    return {dtype: count / total for dtype, count in held.most_common()}


def prove_precision(layers: Sequence[Layer], dtype: Dtype, *, part: str) -> dict[str, float]:
    """The shares of `constant_shares`.

    Raises NotProved if a matrix product is not of the asked dtype, or most of the weights are not.
    """
    asked = DATATYPES[dtype]
    shares = constant_shares(layers)
    if foreign := list(_foreign(layers, asked)):
        layer, operand = foreign[0]
        others = f", and {len(foreign) - 1} others" if len(foreign) > 1 else ""
        raise NotProved(
            f"engine of {part!r} was to be {dtype}, and its layer {layer.name!r} multiplies "
            f"{operand.dtype} {operand.name!r}{others}",
            hint="the graph holds other types than its variant says: export it again",
        )
    if shares and shares.get(asked, 0.0) < _LEAST_SHARE:
        found = ", ".join(f"{share:.0%} {name}" for name, share in shares.items())
        raise NotProved(
            f"engine of {part!r} was to be {dtype}, and its weights are {found}",
            hint="the graph holds other types than its variant says: export it again",
        )
    return shares


def _foreign(layers: Sequence[Layer], asked: str) -> Iterator[tuple[Layer, Tensor]]:
    """Layers with a matrix product that is not of the asked type, and the operand that says so."""
    for layer in layers:
        if not multiplies(layer):
            continue
        wrong = [each for each in layer.constants if _is_other(each, asked) and each.size > _SMALL]
        floats = [each for each in layer.inputs + layer.constants if each.dtype in _FLOATS]
        if wrong:
            yield layer, wrong[0]
        elif floats and all(_is_other(each, asked) for each in floats):
            yield layer, floats[0]


def _is_other(operand: Tensor, asked: str) -> bool:
    return operand.dtype in _FLOATS and operand.dtype != asked


def multiplies(layer: Layer) -> bool:
    """Whether it has a matrix product or convolution in it, by its kind or its fused name."""
    return bool(_PRODUCT.search(layer.kind) or _FUSED.search(layer.name))
