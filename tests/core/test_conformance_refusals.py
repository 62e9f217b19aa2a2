"""Each conformance check refuses a part that breaks the contract, and says how."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.core import toy_parts
from vlv_core.builtin import vlv_bottlenecks, vlv_connectors
from vlv_core.conformance import (
    BottleneckConformance,
    ConditionConformance,
    ConnectorConformance,
    DiffusionConformance,
    EncoderConformance,
    HeadConformance,
)
from vlv_core.conformance.base import Conformance
from vlv_core.protocols import Conditioning, TopK
from vlv_core.sampling import Schedule
from vlv_core.specs import EncoderSpec, Near


class Encoder(EncoderConformance):
    spec = toy_parts.ENCODER


class Query(BottleneckConformance):
    spec = next(iter(vlv_bottlenecks()))
    config = {"num_queries": 3, "heads": 2, "depth": 1, "width": 8}


class Mlp(ConnectorConformance):
    spec = next(iter(vlv_connectors()))


class Condition(ConditionConformance):
    spec = toy_parts.DECODER


class Diffusion(DiffusionConformance):
    spec = toy_parts.DECODER


class Head(HeadConformance):
    spec = toy_parts.HEAD


def change(name: str, make: Callable[[Any, Any], Any]) -> Callable[[Any], None]:
    """A mutation: attribute `name` becomes `make(part, original)`."""
    return lambda part: setattr(part, name, make(part, getattr(part, name, None)))


def forward(after: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    return change("forward", lambda part, call: lambda x: after(call(x)))


def context(after: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    """`after` changes a condition's context."""

    def make(part: Any, call: Any) -> Any:
        return lambda z: Conditioning(after(call(z).context), None)

    return change("forward", make)


def answers(after: Callable[[TopK], TopK]) -> Callable[[Any], None]:
    """`after` changes each answer of a head's stepper."""

    def make(part: Any, start: Any) -> Any:
        def changed(prefix: Tensor, capacity: int) -> Any:
            stepper = start(prefix, capacity)
            prefill = stepper.prefill
            stepper.prefill = lambda k: after(prefill(k))
            return stepper

        return changed

    return change("start", make)


def stepper(name: str, value: Any) -> Callable[[Any], None]:
    """A head's stepper has another attribute."""

    def make(part: Any, start: Any) -> Any:
        def changed(prefix: Tensor, capacity: int) -> Any:
            made = start(prefix, capacity)
            setattr(made, name, value)
            return made

        return changed

    return change("start", make)


def extra(part: Any) -> None:
    part.unused = nn.Parameter(torch.zeros(3))


ALL = [
    (change("num_tokens", lambda p, v: np.int64(v)), "sizes_are_plain_integers", "num_tokens must"),
    (change("dim", lambda p, v: 0), "sizes_are_plain_integers", "dim must be an int above 0"),
    (forward(lambda x: x / 0), "outputs_are_finite_and_deterministic", "an output is not finite"),
    (
        forward(lambda x: x + torch.randn(())),
        "outputs_are_finite_and_deterministic",
        "two calls in eval mode differ",
    ),
    (
        forward(lambda x: x - x.mean(0)),
        "a_sample_does_not_depend_on_its_batch",
        "a sample alone and in a batch differ by",
    ),
    (forward(lambda x: x[:, :2]), "tokens_have_the_declared_shape", r"due is \(3, 4, 16\)"),
    (forward(Tensor.long), "tokens_have_the_declared_shape", r"the output is torch\.int64"),
    (change("pixels", lambda p, v: 64), "pixels_say_how_to_resize", "pixels is 64, not a PixelS"),
    (
        change("forward", lambda p, call: lambda view: call(view[..., :1].expand(view.shape))),
        "tokens_depend_on_every_channel",
        "channel 1 is not read",
    ),
    (
        forward(lambda x: x * torch.ones(len(x), 1, 1)),
        "it_is_traced_for_any_batch",
        r"cannot be traced for batches of any size; take sizes from x\.shape",
    ),
    (
        forward(lambda x: x if x.sum() > 0 else -x),
        "it_is_traced_for_any_batch",
        "do not branch on tensors",
    ),
    (extra, "gradient_reaches_every_parameter", r"no gradient reaches: \['unused'\]"),
]

BOTTLENECK = [
    (change("dim", lambda p, v: 5), "z_has_the_declared_shape", "not the condition's embedding"),
    (change("num_queries", lambda p, v: 4), "z_has_the_declared_shape", r"due is \(3, 4, 16\)"),
    (
        change("blocks", lambda p, v: [setattr(b.attention, "causal", False) for b in v] and v),
        "declared_causal_is_causal",
        r"declared causal, but z\[:, :1\] depends on later queries by",
    ),
]

CONNECTOR = [
    (change("dim", lambda p, v: 5), "prefix_has_the_heads_width", "dim is not the head's"),
    (forward(lambda x: x[..., :4]), "prefix_has_the_heads_width", r"due is \(3, M, 24\)"),
]

CONDITION = [
    (
        change("forward", lambda p, call: lambda z: call(z).context),
        "outputs_are_finite_and_deterministic",
        "returned Tensor, not Conditioning",
    ),
    (context(lambda x: x[0]), "any_number_of_queries_fits", r"due is \(3, L, 16\)"),
    (
        change("forward", lambda p, call: lambda z: Conditioning(call(z).context, z)),
        "any_number_of_queries_fits",
        r"pooled is not \(B, P\)",
    ),
    (context(lambda x: x + x.mean(1, keepdim=True)), "declared_causal_is_causal", "later z by"),
    (context(lambda x: x * x.shape[1]), "declared_causal_is_causal", "depends on z's length by"),
    (
        change(
            "forward", lambda p, call: lambda z: call(torch.cat([z[:, :2], z[:, 2:].detach()], 1))
        ),
        "gradient_flows_through_the_frozen_part_to_every_embedding",
        r"no gradient at positions \[\[0, 2\]",
    ),
    (
        context(Tensor.detach),
        "gradient_flows_through_the_frozen_part_to_every_embedding",
        "does not require grad",
    ),
    (
        change("from_text", lambda p, call: lambda texts: (call(texts)[0], [1] * len(texts))),
        "captions_become_conditioning",
        r"short captions were cut: \[1, 1, 1\]",
    ),
    (
        change("from_text", lambda p, call: lambda texts: (call(texts)[0], [0, 5, 5])),
        "cut_tokens_are_reported",
        r"cut tokens are not counted: \[0, 5, 5\]",
    ),
    (
        change("from_text", lambda p, call: lambda texts: (call(texts)[0], [3, 4, 5])),
        "cut_tokens_are_reported",
        "a short caption lost 3 tokens",
    ),
    (
        change("unconditional", lambda p, call: lambda k: call(p.max_queries)),
        "unconditional_is_the_empty_prompts_start",
        r"unconditional\(1\) has another length",
    ),
    (
        change("unconditional", lambda p, call: lambda k: Conditioning(call(k).context * k)),
        "unconditional_is_the_empty_prompts_start",
        "the first k positions differ by",
    ),
]

FLOWS = "gradient_flows_through_frozen_parts_to_every_embedding"
DIFFUSION = [
    (change("latent_shape", lambda p, v: (3, 8)), "shapes", "latent_shape: 3 ints"),
    (change("latents", lambda p, f: lambda m, n: f(m, n)[:, :1]), "shapes", r"\(3, 1, 8, 8\): not"),
    (change("loss", lambda p, f: lambda *a, **k: f(*a, **k).mean()), "shapes", "one number a samp"),
    (change("decode", lambda p, f: lambda x: f(x)[:, :4]), "shapes", r"decoded \(3, 4, 64, 3\)"),
    (change("decode", lambda p, f: lambda x: f(x) * 3), "shapes", r"floats in 0\.\.1"),
    (
        change("timesteps", lambda p, f: lambda u: f(u) - 1),
        "times_stay_in_the_schedule",
        "times -1",
    ),
    (change("timesteps", lambda p, f: lambda u: f(u) * 2), "times_stay_in_the_schedule", "times 0"),
    (change("prediction", lambda p, v: "x"), "schedule_agrees_with_the_network", "prediction 'x'"),
    (
        change("schedule", lambda p, f: lambda: None),
        "schedule_agrees_with_the_network",
        r"must return a sampling\.Schedule",
    ),
    (
        change("predict", lambda p, f: lambda x, t, c: f(x, t, c) * torch.ones(len(x), 1, 1, 1)),
        "both_networks_are_traced_for_any_batch",
        "cannot be traced for batches of any size",
    ),
    (change("prediction", lambda p, v: "v"), "schedule_agrees_with_the_network", "another predict"),
    (
        change("schedule", lambda p, f: lambda: Schedule(prediction="flow", train_steps=3)),
        "schedule_agrees_with_the_network",
        "the schedule has another length",
    ),
    (
        change("predict", lambda p, f: lambda x, t, c: f(x, t, Conditioning(c.context * 0))),
        "loss_depends_on_the_conditioning",
        "the conditioning is not read",
    ),
    (
        change("predict", lambda p, f: lambda x, t, c: f(x, t, Conditioning(c.context[:, :2]))),
        FLOWS,
        "no gradient at positions",
    ),
]

ENDS = "captions_end_supervised"
TEACHER = "loss_is_the_sum_of_the_steppers_log_probs"
STEPS = "steps_answer_ordered_log_probs"
HEAD = [
    (change("eos", lambda p, v: (5,)), ENDS, "the end of 'a red circle' is not supervised"),
    (change("eos", lambda p, v: (0, 27)), ENDS, "end of text inside 'a red circle'"),
    (
        change("decode", lambda p, f: lambda ids: f(ids)[1:]),
        ENDS,
        "'a red circle' decodes as ' red circle'",
    ),
    (
        change("loss", lambda p, f: lambda x, ids, m: f(x, ids, torch.ones_like(m))),
        "padding_changes_no_loss",
        "padding changes a caption's loss by",
    ),
    (
        change("loss", lambda p, f: lambda x, i, m: f(x, i, m) / m.sum(1)),
        TEACHER,
        "and stepper dif",
    ),
    (answers(lambda t: TopK(t.log_probs * 0.9, t.ids)), TEACHER, "loss and stepper differ by"),
    (stepper("capacity", 3), STEPS, "capacity is below what was asked"),
    (answers(lambda t: TopK(t.log_probs[:, ::-1], t.ids)), STEPS, "candidates are not descending"),
    (answers(lambda t: TopK(t.log_probs + 99, t.ids)), STEPS, "a log-probability is above 0"),
    (answers(lambda t: TopK(t.log_probs.astype(float), t.ids)), STEPS, "float32 and int64 are due"),
    (answers(lambda t: TopK(t.log_probs[:, :2], t.ids[:, :2])), STEPS, "k = 3 was asked"),
    (
        stepper("select", lambda rows: None),
        "select_repeats_reorders_and_drops_rows",
        "must match",
    ),
    (
        change("loss", lambda p, f: lambda x, i, m: f(x.detach() + x[:, :1] * 0 + x[:, 1:2], i, m)),
        "gradient_flows_through_the_frozen_head_to_the_prefix",
        r"no gradient at positions \[\[0, 0\]",
    ),
]

SUITES: list[tuple[type[Conformance], list[Any]]] = [
    (Encoder, ALL),
    (Query, BOTTLENECK),
    (Mlp, CONNECTOR),
    (Condition, CONDITION),
    (Diffusion, DIFFUSION),
    (Head, HEAD),
]


@pytest.mark.parametrize(
    ("suite", "mutate", "check", "message"),
    [
        pytest.param(suite, *case, id=f"{suite.__name__}-{number}-{case[1]}")
        for suite, cases in SUITES
        for number, case in enumerate(cases)
    ],
)
def test_a_broken_part_is_refused(
    suite: type[Conformance], mutate: Callable[[Any], None], check: str, message: str
) -> None:
    part = suite().build()
    getattr(suite(), f"test_{check}")(part)
    mutate(part)
    with pytest.raises((AssertionError, RuntimeError, ValueError, IndexError), match=message):
        getattr(suite(), f"test_{check}")(part)


def test_the_queries_parameter_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Query, "queries", "questions")
    with pytest.raises(AssertionError, match="no parameter 'questions': set `queries` to its name"):
        Query().test_declared_causal_is_causal(Query().build())


@pytest.mark.parametrize("suite", [Query, Condition])
def test_who_declares_no_causality_is_not_asked_for_it(suite: Any) -> None:
    part = suite().build()
    part.causal = False
    with pytest.raises(pytest.skip.Exception, match="declared not causal"):
        suite().test_declared_causal_is_causal(part)


def test_state_outside_the_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(config: Any, near: Near) -> nn.Module:
        part = toy_parts.ToyEncoder(size=near.view_size, width=config.width)
        offset = torch.randn(())
        forward(lambda x: x + offset)(part)
        return part

    monkeypatch.setattr(toy_parts, "build_encoder", build)
    with pytest.raises(AssertionError, match="a part that loaded the same weights differs by"):
        Encoder().test_all_state_is_in_the_weights(Encoder().build())


def test_parameters_that_escape_the_meta_device_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(config: Any, near: Near) -> nn.Module:
        part = toy_parts.ToyEncoder(size=near.view_size, width=config.width)
        part.escaped = nn.Parameter(torch.zeros(3, device="cpu"))
        return part

    monkeypatch.setattr(toy_parts, "build_encoder", build)
    with pytest.raises(AssertionError, match=r"storage on the meta device: \['escaped'\]"):
        Encoder().test_builds_on_the_meta_device()


@pytest.mark.parametrize("source", ["import torch", "raise OSError('no')"])
def test_a_heavy_or_failing_package_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vlv_test_heavy").mkdir()
    (tmp_path / "vlv_test_heavy" / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    spec = EncoderSpec(name="heavy", summary="s", build="vlv_test_heavy._encoder:build")
    monkeypatch.setattr(Encoder, "spec", spec)
    with pytest.raises(AssertionError, match="importing vlv_test_heavy imports torch, or fails"):
        Encoder().test_importing_the_plugin_loads_no_torch()


def test_a_single_file_cannot_be_light(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EncoderSpec(name="one", summary="s", build="my_file:build")
    monkeypatch.setattr(Encoder, "spec", spec)
    with pytest.raises(pytest.skip.Exception, match="a single file has no package"):
        Encoder().test_importing_the_plugin_loads_no_torch()
