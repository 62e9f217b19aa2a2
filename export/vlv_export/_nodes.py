"""The neutral operations of captured graphs: domain `vlv`, and how traced programs become them.

    Attention        query, key, value[, mask] -> out                {causal, scale}
    CachedAttention  query, key, value, past_key, past_value, position -> out, present_key,
                     present_value                                   {scale, window, softcap}
    Rotary           x, position, cos, sin -> y
    RMSNorm          x, weight -> y                                  {eps}

Their meaning and shapes are those of `vlv_core.ops`. No runtime knows them: `lowering` replaces
each by what a variant wants.
"""

from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx.defs import OpSchema
from onnxscript.values import Opset

import vlv_core.ops  # noqa: F401  registers the traced operations

DOMAIN = "vlv"
_FLOATS = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
_FLOAT, _INT = OpSchema.AttrType.FLOAT, OpSchema.AttrType.INT


def register() -> None:
    """Tell onnx the operations' signatures; once is enough."""
    if onnx.defs.has("Attention", DOMAIN):
        return
    _register("Attention", "query key value mask?", "out", causal=_INT, scale=_FLOAT)
    _register(
        "CachedAttention",
        "query key value past_key past_value position#",
        "out present_key present_value",
        scale=_FLOAT,
        window=_INT,
        softcap=_FLOAT,
    )
    _register("Rotary", "x position# cos sin", "y")
    _register("RMSNorm", "x weight", "y", eps=_FLOAT)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For torch.onnx.export: which traced operations become which nodes."""
    register()
    vlv, aten = torch.ops.vlv, torch.ops.aten
    return {
        vlv.attention.default: _attention,
        vlv.cached_attention.default: _cached_attention,
        vlv.rotary.default: _rotary,
        vlv.rms_norm.default: _rms_norm,
        aten.scaled_dot_product_attention.default: _library_attention,
        aten.rms_norm.default: _library_rms_norm,
    }


def _ops() -> Any:
    return Opset(DOMAIN, 1)


def _attention(query: Any, key: Any, value: Any, mask: Any, causal: bool, scale: float) -> Any:
    return _ops().Attention(query, key, value, mask, causal=int(causal), scale=scale)


def _cached_attention(
    query: Any, key: Any, value: Any, past_key: Any, past_value: Any, position: Any,
    scale: float, window: int, softcap: float,
) -> Any:  # fmt: skip
    return _ops().CachedAttention(
        query, key, value, past_key, past_value, position,
        scale=scale, window=window, softcap=softcap,
    )  # fmt: skip


def _rotary(x: Any, position: Any, cos: Any, sin: Any) -> Any:
    return _ops().Rotary(x, position, cos, sin)


def _rms_norm(x: Any, weight: Any, eps: float) -> Any:
    return _ops().RMSNorm(x, weight, eps=eps)


def _library_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    width = query.shape[-1]
    if not isinstance(width, int):
        raise ValueError("attention over heads of unknown width cannot be exported")
    return _attention(query, key, value, attn_mask, is_causal, scale or width**-0.5)


def _library_rms_norm(
    x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Any:
    if len(normalized_shape) != 1 or weight is None:
        raise ValueError("rms_norm is exported over one axis and with a weight only")
    return _rms_norm(x, weight, torch.finfo(torch.float32).eps if eps is None else eps)


def _register(name: str, inputs: str, outputs: str, **attributes: OpSchema.AttrType) -> None:
    schema = OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[_parameter(each) for each in inputs.split()],
        outputs=[_parameter(each) for each in outputs.split()],
        type_constraints=[("T", _FLOATS, "floating types"), ("M", [*_FLOATS, "tensor(bool)"], "")],
        attributes=[OpSchema.Attribute(key, kind, "") for key, kind in attributes.items()],
    )
    onnx.defs.register_schema(schema)


def _parameter(name: str) -> OpSchema.FormalParameter:
    """`x`, an optional `x?`, or an integer `x#`."""
    option = OpSchema.FormalParameterOption
    bare = name.rstrip("?#")
    kind = "tensor(int64)" if name.endswith("#") else "M" if bare == "mask" else "T"
    return OpSchema.FormalParameter(
        bare, kind, param_option=option.Optional if name.endswith("?") else option.Single
    )
