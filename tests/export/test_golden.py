"""The golden file: what it holds is the eager model's, and nothing damaged is read."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.export import lowering_graphs, tiny_golden
from tests.export.conftest import Tiny
from vlv_core.captioner import Captioner
from vlv_core.errors import ConfigError, ModelError, UsageError, VlvError
from vlv_core.generation import GenerationOptions
from vlv_core.preprocess import to_pixels, views
from vlv_core.torch_backend import TorchBackend
from vlv_export import _golden, _golden_cases
from vlv_export.golden import GOLDEN, Golden, positions, read_golden, write
from vlv_export.parity.figures import centred


@pytest.fixture(scope="module")
def golden(proven: Path) -> Golden:
    return read_golden(proven / GOLDEN)


def test_every_part_has_cases_at_batches_of_one_two_three_and_seven(
    golden: Golden, tiny: Tiny
) -> None:
    for part in tiny[0]:
        batches = [len(next(iter(case.inputs.values()))) for case in golden.of(part)]
        assert batches == [1, 2, 3, 7], part


def test_shapes_are_not_those_that_were_traced(golden: Golden, tiny: Tiny) -> None:
    from vlv_export._capture import traced_sizes

    for name, part in tiny[0].items():
        if name == "head":
            continue
        traced = [spec.sizes(traced_sizes(part)) for spec in part.inputs]
        others = [
            case
            for case in golden.of(name)
            if [case.inputs[spec.name].shape for spec in part.inputs] != traced
        ]
        assert len(others) >= 3, name


@pytest.mark.parametrize("name", ["encoder", "condition", "text", "denoiser", "vae_decoder"])
def test_export_modules_agree_with_what_eager_said(name: str, golden: Golden, tiny: Tiny) -> None:
    for case in golden.of(name):
        found = lowering_graphs.eager(tiny[0][name], case.inputs)
        for output, expected in case.outputs.items():
            np.testing.assert_allclose(found[output], expected, rtol=2e-4, atol=2e-5)


def test_the_heads_module_agrees_with_what_eager_said(golden: Golden, tiny: Tiny) -> None:
    part = tiny[0]["head"]
    for case in golden.of("head"):
        prefix, tokens = case.inputs["prefix"], case.inputs["tokens"]
        # The whole text at once into an empty cache: no step, and so no cache's help.
        for step in (0, tokens.shape[1]):
            sizes = {"batch": len(prefix), "capacity": 24, "prefix": 1, "length": 1}
            past = {
                spec.name: np.zeros(spec.sizes(sizes), np.float32)
                for spec in part.inputs
                if spec.name.startswith("past.")
            }
            start = np.zeros(len(prefix), np.int64)
            inputs = {"prefix": prefix, "tokens": tokens[:, :step], "position": start, **past}
            logits = lowering_graphs.eager(part, inputs)["logits"]
            expected = centred(case.outputs["log_probs"][:, step])
            np.testing.assert_allclose(centred(logits), expected, rtol=1e-3, atol=1e-4)


def test_log_probabilities_are_of_the_whole_vocabulary(golden: Golden) -> None:
    for case in golden.of("head"):
        total = np.exp(case.outputs["log_probs"].astype(np.float64)).sum(axis=-1)
        np.testing.assert_allclose(total, 1, atol=1e-5)


def test_teacher_values_are_those_of_the_captions_own_tokens(golden: Golden) -> None:
    for row, said in enumerate(golden.facts.greedy):
        ids, log_probs = golden.teacher(row)
        count = len(said.tokens)
        assert tuple(ids[:count, 0]) == said.tokens
        assert len(ids) == positions(said, golden.facts.max_new_tokens)
        scored = count + (said.finish_reason == "eos")
        assert said.logprob == pytest.approx(float(log_probs[:scored, 0].sum()), abs=1e-3)


def test_shortened_captions_are_those_of_a_model_that_may_say_no_more(
    golden: Golden, captioner: Captioner
) -> None:
    assert golden.shortened(golden.facts.max_new_tokens) is golden
    assert max(len(said.tokens) for said in golden.facts.greedy) > 5, "something is cut"
    short = golden.shortened(5)
    encoded = captioner.encode(list(golden.pixels))
    options = GenerationOptions(max_new_tokens=5)
    said = captioner.caption(encoded, options=options)
    assert [each.tokens for each in short.facts.greedy] == [each.tokens for each in said]
    assert len(short.top_ids) == sum(min(len(each.tokens) + 1, 5) for each in said)
    for row in range(len(said)):
        (ids, log_probs), (all_ids, all_log_probs) = short.teacher(row), golden.teacher(row)
        np.testing.assert_array_equal(ids, all_ids[: len(ids)])
        np.testing.assert_array_equal(log_probs, all_log_probs[: len(ids)])
    beam, kept = golden.facts.beam, short.facts.beam
    assert kept == beam[: len(kept)] and all(len(each.tokens) < 5 for each in kept)
    assert len(kept) == len(beam) or len(beam[len(kept)].tokens) >= 5


def test_pictures_are_kept_as_the_encoder_reads_them(golden: Golden, captioner: Captioner) -> None:
    backend: Any = captioner.backend
    spec = backend.model.encoder.pixels
    assert golden.pixels.shape == (tiny_golden.PICTURES, spec.size, spec.size, 3)
    assert golden.pixels.dtype == np.uint8
    expected = views(list(golden.raw), captioner.view)
    assert np.array_equal(golden.raw_views, expected)
    assert np.array_equal(golden.raw_pixels, to_pixels(expected, spec))
    assert len({picture.shape for picture in golden.raw}) == len(golden.raw) >= 3
    np.testing.assert_allclose(golden.raw_z, backend.encode(expected).z, atol=1e-6)


def test_words_hold_captions_and_tokens_that_are_no_caption(golden: Golden) -> None:
    said = [each.tokens for each in golden.facts.words]
    assert golden.facts.greedy[0].tokens in said
    assert len(set(said) - {each.tokens for each in golden.facts.greedy}) >= 4


def test_random_weights_get_no_searches_and_short_captions(
    captioner: Captioner, tiny: Tiny, tmp_path: Path
) -> None:
    parts = [tiny[0]["encoder"], tiny[0]["head"]]
    made = tiny_golden.write(captioner, parts, tmp_path, random_weights=True)
    assert made.facts.random_weights and not made.facts.beam and made.facts.beams == 0
    assert {case.part for case in made.cases} == {"encoder", "head"}


def test_a_file_is_read_back_as_it_was(golden: Golden, tmp_path: Path) -> None:
    write(golden, tmp_path / GOLDEN)
    again = read_golden(tmp_path / GOLDEN)
    assert again.facts == golden.facts
    for left, right in zip(again.cases, golden.cases, strict=True):
        assert left.title == right.title
        assert all(np.array_equal(left.inputs[name], right.inputs[name]) for name in right.inputs)
    assert np.array_equal(again.top_log_probs, golden.top_log_probs)


def test_another_dtype_than_float32_is_refused(captioner: Captioner, tmp_path: Path) -> None:
    backend: Any = captioner.backend
    # A copy: the way to float16 and back would round the weights that other tests share.
    model = copy.deepcopy(backend.model)
    model.head.to(torch.float16)
    other = Captioner(TorchBackend(model), name="other", domain="", view=model.view)
    with pytest.raises(UsageError, match="float32 model; this one is float16, float32"):
        tiny_golden.write(other, [], tmp_path)


def test_absurd_sizes_are_refused() -> None:
    assert _golden._rows(768) >= _golden.ROWS
    with pytest.raises(UsageError, match="9000 x 9000 pixels is too large"):
        _golden._rows(9000)


def test_parts_of_large_values_get_fewer_batches(golden: Golden) -> None:
    first = golden.of("encoder")[0]
    assert _golden_cases._batches(first) == (1, 2, 3, 7)
    large = np.zeros(4_000_000, np.uint8)
    some = type(first)("big", "batch 1", {"x": large}, {})
    assert _golden_cases._batches(some) == (1, 2, 3)
    huge = type(first)("huge", "batch 1", {"x": np.zeros(20_000_000, np.uint8)}, {})
    with pytest.raises(UsageError, match="'huge': its golden values would take 120 MB"):
        _golden_cases._batches(huge)


def test_a_part_that_declares_other_tensors_is_told(golden: Golden, tiny: Tiny) -> None:
    with pytest.raises(VlvError, match=r"'encoder' declares \['z'\] -> .* the eager model has"):
        _golden_cases._check(
            type(tiny[0]["condition"])(
                name="encoder", module=tiny[0]["condition"].module,
                inputs=tiny[0]["condition"].inputs, outputs=tiny[0]["condition"].outputs,
                axes=tiny[0]["condition"].axes,
            ),
            golden.of("encoder")[0],
        )  # fmt: skip


def test_a_stepper_that_keeps_some_tokens_to_itself_is_told() -> None:
    class Top:
        ids = np.zeros((1, 256), np.int64)

    with pytest.raises(VlvError, match="answers 256 next tokens when asked for all 300"):
        _golden_cases.whole(Top(), 300)


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with safe_open(str(path), framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["golden"])


def without(name: str) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda tensors, facts: tensors.pop(name)


def put(name: str, array: Any) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda tensors, facts: tensors.update({name: array})


def say(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda tensors, facts: facts.update({name: value})


@pytest.mark.parametrize(
    "damage, kind, message",
    [
        (without("pixels"), ModelError, "lacks the tensor 'pixels'"),
        (put("pixels", np.zeros((2, 8, 8, 3), np.uint8)), ModelError, "'pixels' has 2 rows"),
        (put("pixels", np.zeros(3, np.uint8)), ModelError, r"'pixels' is uint8 of shape \(3,\)"),
        (put("top_ids", np.zeros((3, 64), np.int64)), ModelError, "'top_ids' has 3 rows"),
        (put("raw_z", np.full((4, 1, 1), np.nan, np.float32)), ModelError, "are no numbers"),
        (put("other", np.zeros(1)), ModelError, "holds 'other', which nothing names"),
        (say("titles", [["encoder", "batch 1"]]), ModelError, "which nothing names"),
        (say("titles", [["encoder", "x"]] * 99), ModelError, "case 24 of 'encoder' is empty"),
        (say("schema", "vlv-golden/9"), ConfigError, "has schema 'vlv-golden/9'"),
        (say("eos", "none"), ConfigError, "eos: expected a list"),
        (say("extra", 1), ConfigError, "no key 'extra'"),
    ],
)
def test_damage_is_told(
    damage: Callable[[dict[str, Any], dict[str, Any]], object],
    kind: type[UsageError],
    message: str,
    proven: Path,
    tmp_path: Path,
) -> None:
    tensors, facts = load(proven / GOLDEN)
    damage(tensors, facts)
    path = tmp_path / GOLDEN
    save_file(tensors, path, metadata={"golden": json.dumps(facts)})
    with pytest.raises(kind, match=message):
        read_golden(path)


def test_an_absent_a_cut_and_a_foreign_file_are_told(proven: Path, tmp_path: Path) -> None:
    path = tmp_path / GOLDEN
    with pytest.raises(ModelError, match="is missing, so nothing can be compared"):
        read_golden(path)
    path.write_bytes((proven / GOLDEN).read_bytes()[:5000])
    with pytest.raises(ModelError, match="is damaged"):
        read_golden(path)
    save_file({"x": np.zeros(1)}, path)
    with pytest.raises(ModelError, match="holds no golden values"):
        read_golden(path)
