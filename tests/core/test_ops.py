"""The neutral operations against torch's and transformers' own, plain and as recorded nodes."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from vlv_core import ops

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention_inputs(*, heads: int = 4, shared: int = 2, length: int = 5) -> list[Tensor]:
    """query, key, value."""
    key_heads = heads // shared
    shapes = ((2, heads, length, 8), (2, key_heads, length, 8), (2, key_heads, length, 8))
    return [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("shared", [1, 2, 4])
@pytest.mark.parametrize("masked", ["not", "causal", "additive", "both"])
def test_attention_is_torchs(masked: str, shared: int, scale: float | None) -> None:
    query, key, value = attention_inputs(shared=shared)
    causal = masked in ("causal", "both")
    mask = normal(5, 5, seed=7) if masked in ("additive", "both") else None
    whole = torch.zeros(5, 5) if mask is None else mask
    if causal:
        whole = whole.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    due = F.scaled_dot_product_attention(
        query, key, value, attn_mask=whole, scale=scale, enable_gqa=True
    )
    found = ops.attention(query, key, value, mask=mask, causal=causal, scale=scale)
    torch.testing.assert_close(found, due, **CLOSE)


def test_attention_reads_a_context_of_another_length() -> None:
    query, key, value = normal(2, 4, 3, 8), normal(2, 4, 7, 8, seed=1), normal(2, 4, 7, 6, seed=2)
    due = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(ops.attention(query, key, value), due, **CLOSE)


def test_attention_is_differentiable() -> None:
    inputs = [each.double().requires_grad_() for each in attention_inputs(length=3)]
    assert torch.autograd.gradcheck(lambda *each: ops.attention(*each, causal=True), inputs)


def seen_slots(position: Tensor, *, length: int, capacity: int, window: int) -> Tensor:
    """By a loop over single numbers: (B, L, C)."""
    seen = torch.zeros(len(position), length, capacity, dtype=torch.bool)
    for row, start in enumerate(position.tolist()):
        for step in range(length):
            own = start + step
            first = max(0, own - window + 1) if window else 0
            seen[row, step, first : own + 1] = True
    return seen


@settings(max_examples=40, deadline=None)
@given(
    positions=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    length=st.integers(1, 4),
    window=st.sampled_from([0, 1, 3, 50]),
    softcap=st.sampled_from([0.0, 2.0]),
    shared=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_cached_attention_is_attention_over_what_is_filled(
    positions: list[int], length: int, window: int, softcap: float, shared: int, seed: int
) -> None:
    rows, capacity, position = len(positions), 10, torch.tensor(positions)
    query = normal(rows, 2 * shared, length, 4, seed=seed)
    key, value = (normal(rows, 2, length, 4, seed=seed + at) for at in (1, 2))
    past = (normal(rows, 2, capacity, 4, seed=3), normal(rows, 2, capacity, 4, seed=4))
    before = [each.clone() for each in past]
    out, (keys, values) = ops.cached_attention(
        query, key, value, past, position=position, window=window, softcap=softcap
    )
    for given_, kept, new, written in zip(past, before, (key, value), (keys, values), strict=True):
        assert torch.equal(given_, kept), "the past was overwritten"
        for row, start in enumerate(positions):
            due = kept[row].clone()
            due[:, start : start + length] = new[row]
            assert torch.equal(written[row], due)
    seen = seen_slots(position, length=length, capacity=capacity, window=window)
    scores = query @ keys.repeat_interleave(shared, 1).mT / 2
    scores = softcap * (scores / softcap).tanh() if softcap else scores
    weights = scores.masked_fill(~seen[:, None], -math.inf).softmax(-1)
    torch.testing.assert_close(out, weights @ values.repeat_interleave(shared, 1), **CLOSE)


def test_what_lies_beyond_in_the_cache_is_never_seen() -> None:
    query, key, value = attention_inputs(length=2)
    past = [normal(2, 2, 9, 8, seed=each) for each in (5, 6)]
    position = torch.tensor([3, 0])
    found = []
    for poison in (0.0, 1e30):
        for row, start in enumerate(position.tolist()):
            for each in past:
                each[row, :, start + 2 :] = poison
        pair = past[0].clone(), past[1].clone()
        found.append(ops.cached_attention(query, key, value, pair, position=position)[0])
    assert torch.equal(*found)


def test_single_steps_equal_one_causal_pass() -> None:
    query, key, value = attention_inputs(length=6)
    past = (torch.zeros(2, 2, 6, 8), torch.zeros(2, 2, 6, 8))
    steps = []
    for at in range(6):
        now = slice(at, at + 1)
        out, past = ops.cached_attention(
            query[:, :, now],
            key[:, :, now],
            value[:, :, now],
            past,
            position=torch.full((2,), at),
        )
        steps.append(out)
    due = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(torch.cat(steps, dim=2), due, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_is_the_librarys(dtype: torch.dtype) -> None:
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, rope_theta=500.0)
    rotation, x = LlamaRotaryEmbedding(config), normal(2, 4, 3, 8).to(dtype)
    position = torch.tensor([5, 0])
    places = position[:, None] + torch.arange(3)
    due, _ = apply_rotary_pos_emb(x, x, *rotation(x, places))
    cos, sin = (table[0, :, :4] for table in rotation(normal(1), torch.arange(10)[None]))
    found = ops.rotary(x, cos, sin, position=position)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, due, atol=tolerance, rtol=tolerance)


def test_rotation_keeps_lengths_and_the_rest() -> None:
    x, angles = normal(2, 3, 4, 10), normal(9, 2)
    found = ops.rotary(x, angles.cos(), angles.sin(), position=torch.tensor([0, 5]))
    torch.testing.assert_close(found[..., :4].norm(dim=-1), x[..., :4].norm(dim=-1), **CLOSE)
    assert torch.equal(found[..., 4:], x[..., 4:])
    back = ops.rotary(found, angles.cos(), -angles.sin(), position=torch.tensor([0, 5]))
    torch.testing.assert_close(back, x, **CLOSE)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_the_norm_is_torchs(size: float) -> None:
    x, weight = normal(2, 5, 16) * size, normal(16, seed=1)
    due = F.rms_norm(x, (16,), weight, eps=1e-5)
    torch.testing.assert_close(ops.rms_norm(x, weight, eps=1e-5), due, **CLOSE)


def test_the_norm_of_half_precision_is_computed_in_full() -> None:
    x = 300 * normal(2, 16).half()
    found = ops.rms_norm(x, torch.ones(16).half(), eps=1e-6)
    due = F.rms_norm(x.float(), (16,), eps=1e-6)
    assert found.dtype == torch.float16 and torch.isfinite(found).all()
    torch.testing.assert_close(found.float(), due, atol=2e-3, rtol=2e-3)


def test_a_cache_is_written_in_place() -> None:
    cache, new = torch.zeros(2, 3, 6, 4), normal(2, 3, 2, 4)
    written = ops.cache_write(cache, new, torch.tensor([1, 4]))
    assert written.data_ptr() == cache.data_ptr()
    assert torch.equal(cache[0, :, 1:3], new[0]) and torch.equal(cache[1, :, 4:], new[1])
    assert cache.count_nonzero() == new.numel()


class Everything(nn.Module):
    """All operations, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(8))

    def forward(self, x: Tensor, position: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        x = ops.rms_norm(x, self.weight, eps=1e-6)
        table = position.new_zeros(12, 2).float()
        x = ops.rotary(x, table.cos(), table.sin(), position=position)
        pair = past[0], past[1]
        out, pair = ops.cached_attention(x, x, x, pair, position=position, window=3, softcap=5.0)
        return (ops.attention(out, x, x, causal=True), *pair)


def everything_inputs(rows: int) -> tuple[Tensor, ...]:
    cache = [normal(rows, 2, 9, 8, seed=each) for each in (1, 2)]
    return normal(rows, 2, 3, 8), torch.arange(rows), *cache


def exported() -> torch.export.ExportedProgram:
    dynamic = {0: torch.export.Dim.DYNAMIC}
    shapes = (dynamic, dynamic, (dynamic, dynamic))
    return torch.export.export(
        Everything(), everything_inputs(4), dynamic_shapes=shapes, strict=False
    )


def test_exporting_records_each_operation_as_one_node() -> None:
    program = exported()
    recorded = [str(node.target) for node in program.graph.nodes if "vlv" in str(node.target)]
    names = ["rms_norm", "rotary", "cached_attention", "attention"]
    assert recorded == [f"vlv.{name}.default" for name in names]


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_a_recorded_program_says_the_same_for_other_batches(rows: int) -> None:
    inputs = everything_inputs(rows)
    with torch.no_grad():
        found, due = exported().module()(*inputs), Everything()(*inputs)
    for one, other in zip(found, due, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_outside_of_an_export_nothing_is_recorded_and_gradients_flow() -> None:
    module = Everything()
    module(*everything_inputs(2))[0].sum().backward()
    assert module.weight.grad is not None and module.weight.grad.abs().sum() > 0


def nodes() -> list[tuple[str, tuple[Any, ...]]]:
    """Each operation with the arguments of its node."""
    query, key, value = attention_inputs(length=3)
    past = (normal(2, 2, 7, 8), normal(2, 2, 7, 8))
    tables, position = (normal(9, 2), normal(9, 2)), torch.tensor([0, 4])
    return [
        ("attention", (query, key, normal(2, 2, 3, 6), None, True, 0.5)),
        ("cached_attention", (query, key, value, *past, position, 0.5, 2, 0.0)),
        ("rotary", (query, position, *tables)),
        ("rms_norm", (query, normal(8), 1e-6)),
    ]


@pytest.mark.parametrize(("name", "arguments"), nodes(), ids=lambda each: str(each)[:16])
def test_shapes_without_numbers_are_the_real_ones(name: str, arguments: tuple[Any, ...]) -> None:
    node = getattr(torch.ops.vlv, name).default
    real = node(*arguments)
    with FakeTensorMode() as mode:
        faked = [mode.from_tensor(a) if isinstance(a, Tensor) else a for a in arguments]
        fake = node(*faked)
    pairs = zip(_tuple(real), _tuple(fake), strict=True)
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
    torch.library.opcheck(node, arguments, test_utils=("test_schema", "test_faketensor"))


def _tuple(made: Any) -> tuple[Tensor, ...]:
    return made if isinstance(made, tuple) else (made,)
