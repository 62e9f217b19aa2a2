"""What is inside an engine, read from either form; and the proof of its precision."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlv_core.errors import ModelError, NotProved
from vlv_export.tensorrt.job import Dtype
from vlv_export.tensorrt.layers import (
    Layer,
    Tensor,
    parse_message,
    read_layers,
    read_layers_file,
)
from vlv_export.tensorrt.precision import constant_shares, multiplies, prove_precision

MESSAGE = """Layers:
Name: __mye1_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: 
Name: node_linear_2+node_linear_1_myl0_2, LayerType: gemm, Inputs: [ { Name: val_285.1_myl0, Dimensions: [-1,1,128], Strides: [128,128,1], StrideOrder: [2,1,0], Datatype: Half, Format: (Linear) Row major linear format }], Constants: [ { Name: __mye47870_dconst_myl0, Dimensions: [1,128,384], Strides: [49152,384,1], StrideOrder: [2,1,0], Datatype: Half, Format: (Linear) Row major linear format }, { Name: alpha, with commas, Dimensions: [], Strides: [], StrideOrder: [], Datatype: Float, Format: N/A due to dynamic shapes }], Outputs: [ { Name: linear_2_myl0, Dimensions: [-1,1,384], Strides: [384,384,1], StrideOrder: [2,1,0], Datatype: Half, Format: (Linear) Row major linear format }], TacticName: sm80_xmma_gemm, StreamId: 0, Metadata: [ONNX Layer: node_linear_2]\x1e[ONNX Layer: node_linear_1]

I/O Tensors:
 Name: tokens, IOMode: Input, DataType: Int64, Dimensions: [-1,-1], Location: Device, ProfileInfo: [ { MinShape: [1,1] }]
Engine Metadata:
 Multi-Device: Disabled
"""  # noqa: E501


def test_a_builder_message_is_read() -> None:
    first, second = read_layers(parse_message(MESSAGE), where="head")
    assert first == Layer(name="__mye1_0_myl0_0", kind="shape_call")
    assert second == Layer(
        name="node_linear_2+node_linear_1_myl0_2",
        kind="gemm",
        inputs=(Tensor("val_285.1_myl0", "Half", (-1, 1, 128)),),
        constants=(
            Tensor("__mye47870_dconst_myl0", "Half", (1, 128, 384)),
            Tensor("alpha, with commas", "Float", ()),
        ),
        outputs=(Tensor("linear_2_myl0", "Half", (-1, 1, 384)),),
        nodes=("node_linear_2", "node_linear_1"),
    )


def test_what_is_kept_is_what_the_inspector_writes() -> None:
    data = json.loads(json.dumps(parse_message(MESSAGE)))
    assert data["Layers"][1]["Inputs"] == [
        {"Name": "val_285.1_myl0", "Datatype": "Half", "Dimensions": [-1, 1, 128]}
    ]
    assert data["Layers"][1]["TacticName"] == "sm80_xmma_gemm"


def test_a_message_without_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="in no form that is known: 'Layers: none'"):
        parse_message("Layers: none")


@pytest.mark.parametrize("key", ["Datatype", "DataType", "Format/Datatype"])
def test_the_inspector_of_each_version_is_read(key: str) -> None:
    operand = {"Name": "x", key: "BFloat16", "Dimensions": [8, 4]}
    layer = {"Name": "a", "LayerType": "gemm", "Inputs": [operand], "Metadata": "[ONNX Layer: n]"}
    read = read_layers({"Layers": [layer], "I/O Tensors": []}, where="engine")
    assert read[0].inputs == (Tensor("x", "BFloat16", (8, 4)),)
    assert read[0].nodes == ("n",)


def test_an_engine_that_keeps_names_only_is_refused() -> None:
    with pytest.raises(ModelError, match=r"head\.engine tells no layers' types") as caught:
        read_layers({"Layers": ["conv1", "conv2"]}, where="head.engine")
    assert "vlv-export build" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "layer",
    [
        {"LayerType": "gemm"},
        {"Name": "a", "Inputs": [{"Name": "x", "Dimensions": [1]}]},
        {"Name": "a", "Inputs": [{"Name": "x", "Datatype": "Half", "Dimensions": None}]},
    ],
)
def test_a_layer_in_another_form_is_refused(layer: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="engine: a layer is in no form that is known"):
        read_layers({"Layers": [layer]}, where="engine")


def test_a_layers_file_is_read_by_part(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"head": parse_message(MESSAGE)}))
    assert [layer.kind for layer in read_layers_file(path)["head"]] == ["shape_call", "gemm"]


@pytest.mark.parametrize(("text", "words"), [("{", "cannot be read"), ("[]", "no list of layers")])
def test_a_damaged_layers_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=rf"layers\.json .*{words}"):
        read_layers_file(path)


def product(dtype: str, *, kind: str = "gemm", name: str = "linear", size: int = 128) -> Layer:
    """A matrix product of one type."""
    return Layer(
        name=name,
        kind=kind,
        inputs=(Tensor("x", dtype, (-1, size)),),
        constants=(Tensor(f"{name}.weight", dtype, (size, size)),),
        outputs=(Tensor("y", "Float", (-1, size)),),
    )


def norm(size: int = 128) -> Layer:
    """What stays in float32: a norm with its weights and a table of positions."""
    return Layer(
        name="__myl_MeanSubMulAdd_myl0_1",
        kind="kgen",
        inputs=(Tensor("x", "Half", (-1, size)),),
        constants=(Tensor("scale", "Float", (size,)), Tensor("positions", "Float", (77, size))),
    )


NAMES: dict[Dtype, str] = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16"}


@pytest.mark.parametrize("dtype", NAMES)
def test_an_engine_of_its_type_is_proved(dtype: Dtype) -> None:
    layers = [product(NAMES[dtype]), product(NAMES[dtype], name="other")]
    assert prove_precision(layers, dtype, part="head") == {NAMES[dtype]: 1.0}


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("found", NAMES)
def test_an_engine_of_another_type_is_caught(dtype: Dtype, found: Dtype) -> None:
    if found == dtype:
        return
    with pytest.raises(
        NotProved,
        match=f"was to be {dtype}, and its layer 'linear' multiplies {NAMES[found]}",
    ):
        prove_precision([product(NAMES[found])], dtype, part="head")


def test_one_matrix_left_wide_is_caught_and_counted() -> None:
    layers = [product("Half")] * 9 + [product("Float", name="last"), product("Float")]
    with pytest.raises(NotProved, match=r"'last' multiplies Float 'last\.weight', and 1 others"):
        prove_precision(layers, "fp16", part="head")


def test_a_product_of_two_wide_activations_is_caught() -> None:
    scores = Layer(name="scores", kind="gemm", inputs=(Tensor("q", "Float", (-1, 8)),) * 2)
    with pytest.raises(NotProved, match="'scores' multiplies Float 'q'"):
        prove_precision([scores, product("Half")], "fp16", part="head")


def test_norms_positions_and_casts_may_be_wide() -> None:
    cast = Layer(name="cast", kind="cast", inputs=(Tensor("x", "Float", (-1, 8)),))
    shares = prove_precision([product("Half", size=512), norm(), cast], "fp16", part="head")
    assert shares == pytest.approx({"Half": 524_288 / 564_224, "Float": 39_936 / 564_224})


def test_a_small_wide_constant_in_a_product_may_be() -> None:
    fused = product("Half")
    bias = Tensor("bias", "Float", (128,))
    layer = Layer(
        name=fused.name, kind=fused.kind, inputs=fused.inputs, constants=(*fused.constants, bias)
    )
    assert prove_precision([layer], "fp16", part="head")["Half"] > 0.98


def test_a_transposed_convolution_may_be_wide() -> None:
    layers = [product("BFloat16", size=512), product("Float", kind="deconv", name="upsample")]
    assert prove_precision(layers, "bf16", part="vae_decoder")["BFloat16"] > 0.8


def test_weights_that_no_product_shows_are_weighed() -> None:
    table = Layer(
        name="__myl_Gath_myl0_0", kind="kgen", constants=(Tensor("table", "Float", (512, 512)),)
    )
    with pytest.raises(NotProved, match="was to be fp16, and its weights are 97% Float, 3% Half"):
        prove_precision([table, product("Half")], "fp16", part="text")


def test_integers_are_no_weights() -> None:
    ids = Layer(name="ids", kind="kgen", constants=(Tensor("table", "Int64", (9999,)),))
    assert constant_shares([ids, product("Half")]) == {"Half": 1.0}


def test_an_engine_without_weights_is_proved_by_its_products() -> None:
    assert prove_precision([Layer(name="shape", kind="shape_call")], "fp16", part="x") == {}


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("gemm", "a", True),
        ("correlation", "node_conv2d_myl0_2", True),
        ("CaskConvolution", "conv", True),
        ("MatrixMultiply", "a", True),
        ("runtime_fusion", "__myl_FcAddSilu_myl0_2", True),
        ("runtime_fusion", "__myl_CorrSilu_myl0_7", True),
        ("kgen", "_gemm_mha_v2_myl0_4", False),
        ("kgen", "__myl_CastMeanSubMul_myl0_4", False),
        ("deconv", "node_convolution_myl0_13", False),
        ("cast", "__myl_Cast_myl0_1", False),
        ("reshape", "", False),
    ],
)
def test_which_layers_multiply(kind: str, name: str, expected: bool) -> None:
    assert multiplies(Layer(name=name, kind=kind)) is expected
