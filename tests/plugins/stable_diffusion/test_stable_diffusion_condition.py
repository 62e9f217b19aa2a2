"""The text encoders fed by embeddings are the pipelines' own encoders fed by words."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.plugins.stable_diffusion.tiny import LENGTH, Published, close, normal
from vlv_core.protocols import Conditioning

CAPTIONS = ["a red circle!", "", "Two cities  and a star, " * 8]


def encoded(published: Published, captions: list[str]) -> tuple[Conditioning, Conditioning]:
    """What the pipeline makes of captions, and of no caption."""
    pipe: Any = published.pipe
    if published.kind == "stable-diffusion-3":
        made = pipe.encode_prompt(prompt=captions, prompt_2=None, prompt_3=None)
    elif published.kind == "stable-diffusion-xl":
        made = pipe.encode_prompt(prompt=captions)
    else:
        made = (*pipe.encode_prompt(captions, "cpu", 1, True), None, None)
    return Conditioning(made[0], made[2]), Conditioning(made[1][:1], _first(made[3]))


def _first(pooled: Tensor | None) -> Tensor | None:
    return None if pooled is None else pooled[:1]


def token_embeddings(published: Published, captions: list[str]) -> Tensor:
    """What a bottleneck would have to answer for the condition to read captions: (B, L, Dz)."""
    pipe, slices = published.pipe, []
    for suffix in ("", "_2"):
        if (encoder := getattr(pipe, f"text_encoder{suffix}", None)) is not None:
            ids = getattr(pipe, f"tokenizer{suffix}")(
                captions,
                padding="max_length",
                truncation=True,
                max_length=LENGTH,
                return_tensors="pt",
            ).input_ids
            slices.append(encoder.get_input_embeddings()(ids))
    return torch.cat(slices, dim=2)


def check(published: Published, ours: Conditioning, theirs: Conditioning) -> None:
    context = ours.context
    if published.kind == "stable-diffusion-3":
        context = published.diffusion.joint_context(context)
    close(context, theirs.context)
    assert (ours.pooled is None) == (theirs.pooled is None)
    if ours.pooled is not None:
        close(ours.pooled, theirs.pooled)


def test_captions_are_encoded_as_by_the_pipeline(published: Published) -> None:
    with torch.no_grad():
        ours, cut = published.condition.from_text(CAPTIONS)
        theirs, _ = encoded(published, CAPTIONS)
    check(published, ours, theirs)
    whole = published.pipe.tokenizer(CAPTIONS[2]).input_ids
    assert cut == [0, 0, len(whole) - LENGTH]


def test_a_caption_ends_where_its_first_end_token_stands(published: Published) -> None:
    captions = ["a red <|endoftext|> circle", "<|endoftext|>", "<|endoftext|><|endoftext|> red"]
    with torch.no_grad():
        ours, _ = published.condition.from_text(captions)
        theirs, _ = encoded(published, captions)
    check(published, ours, theirs)


def test_ids_alone_are_read_as_the_captions_that_they_stand_for(published: Published) -> None:
    condition = published.condition
    ids = [prompt(CAPTIONS, length=condition.max_queries)[0] for prompt in condition.prompts]
    assert all(rows.max() < size for rows, size in zip(ids, condition.vocab_sizes, strict=True))
    with torch.no_grad():
        ours = condition.read_ids(*(torch.from_numpy(rows) for rows in ids))
        theirs, _ = encoded(published, CAPTIONS)
    check(published, ours, theirs)


def test_embeddings_are_read_as_the_tokens_that_they_stand_for(published: Published) -> None:
    # A caption that is cut ends at the last position, where learned embeddings are pooled too.
    captions = [CAPTIONS[2], "circle red " * 20]
    with torch.no_grad():
        ours = published.condition(token_embeddings(published, captions))
        theirs, _ = encoded(published, captions)
    check(published, ours, theirs)


def test_unconditional_is_the_pipelines_own(published: Published) -> None:
    _, theirs = encoded(published, ["a red circle"])
    check(published, published.condition.unconditional(LENGTH), theirs)


def test_only_xl_takes_zeros_for_unconditional(published: Published) -> None:
    context, pooled = published.condition.unconditional(3)
    zeros = published.kind == "stable-diffusion-xl"
    assert (context == 0).all().item() is zeros
    assert context.shape[1] == 3 and (pooled is None or (pooled == 0).all().item() is zeros)


def test_padding_is_the_tokenizers_own(published: Published) -> None:
    prompts = published.condition.prompts
    paddings = [prompt(["red"], length=9)[0][0, -1] for prompt in prompts]
    end = prompts[0].end
    due = {
        "stable-diffusion": [end],
        "stable-diffusion-v": [0],
        "stable-diffusion-xl": [end, 0],
        "stable-diffusion-3": [end, 0],
    }
    assert paddings == due[published.kind]


def passes(condition: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with each prompt that is tokenized."""
    seen: list[int] = []
    original = type(condition).from_text

    def counted(self: Any, captions: list[str]) -> Any:
        seen.append(1)
        return original(self, captions)

    monkeypatch.setattr(type(condition), "from_text", counted)
    return seen


def test_unconditional_is_computed_once(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    condition = published.condition
    condition.forget()
    seen = passes(condition, monkeypatch)
    with torch.inference_mode():
        first = condition.unconditional(LENGTH)
    second = condition.unconditional(5)
    assert len(seen) == 1 and torch.equal(first.context[:, :5], second.context)
    assert not second.context.is_inference(), "autograd could not use it"


def test_unconditional_follows_weights_and_their_type(published: Published) -> None:
    condition = published.build_condition()
    before = condition.unconditional(4).context
    state = {name: tensor * 1.5 for name, tensor in condition.state_dict().items()}
    condition.load_state_dict(state)
    after = condition.unconditional(4).context
    assert torch.equal(before, after) is (published.kind == "stable-diffusion-xl")
    assert condition.to(torch.bfloat16).unconditional(4).context.dtype == torch.bfloat16


def test_autocast_does_not_decide_the_unconditionals_type(published: Published) -> None:
    published.condition.forget()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = published.condition.unconditional(4)
    assert made.context.dtype == torch.float32


def test_each_text_encoder_reads_its_slice(published: Published) -> None:
    condition = published.condition
    z = normal(2, 6, condition.embedding_dim)
    first, changed = condition.widths[0], z.clone()
    # Noise, not a constant, which layer norms would take out again.
    changed[:, :, :first] += normal(2, 6, first, seed=1)
    with torch.no_grad():
        one, two = condition(z).context, condition(changed).context
    assert (one - two)[..., :first].abs().mean() > 0.1
    assert torch.equal(one[..., first:], two[..., first:])


def test_pooled_is_taken_at_the_last_query(published: Published) -> None:
    if published.kind in ("stable-diffusion", "stable-diffusion-v"):
        assert published.condition(normal(2, 6, 32)).pooled is None
        return
    condition = published.condition
    z = normal(2, 6, condition.embedding_dim)
    changed = z.clone()
    changed[:, -1] += normal(2, condition.embedding_dim, seed=1)
    assert (condition(z).pooled - condition(changed).pooled).abs().mean() > 0.1
    assert condition(z).pooled.shape == (2, {"stable-diffusion-3": 40}.get(published.kind, 16))


def test_bfloat16_is_close(published: Published) -> None:
    condition = published.condition
    z = normal(2, 6, condition.embedding_dim)
    exact = condition(z).context
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = condition(z).context
    cast = published.build_condition().to(torch.bfloat16)(z).context
    for rough in (autocast, cast):
        assert torch.isfinite(rough).all()
        assert (rough.float() - exact).abs().mean() < 0.02 * exact.abs().mean()
