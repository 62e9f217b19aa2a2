"""Parts say what their graphs take: shapes, ranges, axes, and what is updated in place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vlv_core.parts import Axis, ExportPart, TensorSpec, head_part, names


def made_head(*, max_length: int = 20) -> ExportPart:
    return head_part(nn.Identity(), dim=6, vocab_size=11, max_length=max_length,
                     cache=[(2, 4), (1, 8)])  # fmt: skip


def test_a_heads_cache_goes_in_and_out_layer_by_layer() -> None:
    part = made_head()
    past = [f"past.{layer}.{kind}" for layer in (0, 1) for kind in ("key", "value")]
    assert list(names(part.inputs)) == ["prefix", "tokens", "position", *past]
    assert list(names(part.outputs)) == ["logits", *(n.replace("past", "present") for n in past)]
    assert part.state == tuple((name, name.replace("past", "present")) for name in past)
    shapes = {spec.name: spec.shape for spec in (*part.inputs, *part.outputs)}
    assert shapes["past.0.key"] == shapes["present.0.key"] == ("batch", 2, "capacity", 4)
    assert shapes["past.1.value"] == ("batch", 1, "capacity", 8)
    assert shapes["logits"] == ("batch", 11)
    assert part.facts == {"cache": [[2, 4], [1, 8]], "max_length": 20}


@given(max_length=st.integers(2, 4096))
def test_a_heads_axes_are_ordered_and_within_its_length(max_length: int) -> None:
    for axis in made_head(max_length=max_length).axes.values():
        assert 0 <= axis.low <= axis.typical <= axis.high
        assert axis.high <= max(max_length, 256)


def test_examples_have_the_contracts_shapes_and_ranges() -> None:
    part = ExportPart(
        name="any",
        module=nn.Identity(),
        inputs=(
            TensorSpec("x", "float", ("batch", 3, "length")),
            TensorSpec("view", "uint8", ("batch", 40, 40), high=256),
            TensorSpec("ids", "int64", ("batch", 500), high=7),
            TensorSpec("flag", "int64", (500,)),
        ),
        outputs=(),
        axes={"batch": Axis(1, 2, 4), "length": Axis(0, 1, 9)},
    )
    example = part.example({"batch": 2, "length": 0}, seed=1)
    assert {name: array.shape for name, array in example.items()} == {
        "x": (2, 3, 0), "view": (2, 40, 40), "ids": (2, 500), "flag": (500,)
    }  # fmt: skip
    kinds = [array.dtype for array in example.values()]
    assert kinds == [np.float32, np.uint8, np.int64, np.int64]
    assert set(np.unique(example["ids"])) == set(range(7))
    assert set(np.unique(example["flag"])) == {0, 1}
    assert example["view"].max() > 250 and example["view"].min() < 5


def test_examples_come_from_their_seed_alone() -> None:
    part, sizes = made_head(), {"batch": 2, "prefix": 3, "length": 1, "capacity": 8}
    np.random.seed(0)
    first = part.example(sizes, seed=1)
    second, other = part.example(sizes, seed=1), part.example(sizes, seed=2)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    assert not np.array_equal(first["prefix"], other["prefix"])
    assert (first["position"] == 0).all(), "there is room for what an example appends"


def test_an_axis_without_a_length_is_an_error() -> None:
    with pytest.raises(KeyError, match="capacity"):
        made_head().example({"batch": 1, "prefix": 1, "length": 1}, seed=0)


def test_a_part_takes_what_its_example_gives() -> None:
    class Sum(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor]:
            return (a + b,)

    spec = TensorSpec("a", "float", ("batch", 3))
    part = ExportPart("sum", Sum(), (spec, TensorSpec("b", "float", (3,))), (spec,),
                      {"batch": Axis(1, 1, 2)})  # fmt: skip
    inputs = [torch.from_numpy(each) for each in part.example({"batch": 2}, seed=0).values()]
    assert tuple(part.module(*inputs)[0].shape) == part.outputs[0].sizes({"batch": 2})
