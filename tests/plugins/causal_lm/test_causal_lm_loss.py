"""The head's loss against the library's own, and what counts in it."""

import pytest
import torch
from torch import Tensor

from tests.plugins.causal_lm.tiny import OWN, head, prefix
from vlv_plugins.causal_lm._head import CausalLm

CAPTIONS = ["a red circle.", "a large blue star in the top left corner."]


def library_loss(part: CausalLm, before: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """transformers' labels loss, made a sum from its mean."""
    words = part.lm.get_input_embeddings()(ids)
    nothing = torch.full(before.shape[:2], -100)
    labels = torch.cat([nothing, torch.where(mask, ids, -100)], dim=1)
    mean = part.lm(inputs_embeds=torch.cat([before, words], dim=1), labels=labels).loss
    return mean * mask.sum()


@pytest.mark.parametrize("kind", OWN)
def test_loss_equals_the_librarys(kind: str) -> None:
    part = head(kind)
    ids, mask = part.tokenize(CAPTIONS)
    with torch.no_grad():
        loss = part.loss(prefix(2), ids, mask)
        expected = library_loss(part, prefix(2), ids, mask)
    assert loss.shape == (2,)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.sum(), expected, atol=1e-5, rtol=1e-5)


def test_the_end_of_text_counts_once_and_padding_never() -> None:
    part = head("qwen2")
    ids, mask = part.tokenize(CAPTIONS)
    assert part.lm.config.pad_token_id == part.eos[0], "the case in point: padding is the end"
    assert (ids[0] == part.eos[0]).sum() > 1
    logits: list[Tensor] = []
    handle = part.lm.lm_head.register_forward_hook(
        lambda module, inputs, output: (output.retain_grad(), logits.append(output))[0]
    )
    part.loss(prefix(2), ids, mask).sum().backward()
    handle.remove()
    assert logits[0].shape == (*ids.shape, part.vocab_size), "logits of the caption alone"
    assert logits[0].grad is not None
    reached = logits[0].grad.abs().sum(dim=2) > 0
    assert torch.equal(reached, mask)
    ends = (mask & (ids == part.eos[0])).sum(dim=1)
    assert ends.tolist() == [1, 1]


def test_padding_tokens_have_no_part_in_the_loss() -> None:
    part = head("llama")
    ids, mask = part.tokenize(CAPTIONS)
    with torch.no_grad():
        loss = part.loss(prefix(2), ids, mask)
        other = part.loss(prefix(2), torch.where(mask, ids, 7), mask)
    assert torch.equal(loss, other)


def test_bf16_is_close_to_fp32() -> None:
    part = head("qwen3")
    ids, mask = part.tokenize(CAPTIONS)
    with torch.no_grad():
        exact = part.loss(prefix(2), ids, mask)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = part.loss(prefix(2), ids, mask)
        cast = part.to(torch.bfloat16).loss(prefix(2), ids, mask)
    for half in (mixed, cast):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, exact, rtol=0.02, atol=0.5)


@pytest.mark.parametrize("training", [False, True])
def test_checkpointing_changes_no_gradient_and_keeps_less(training: bool) -> None:
    gradients, kept = [], []
    for on in (False, True):
        part = head("llama", gradient_checkpointing=on).train(training)
        before = prefix(2).requires_grad_()
        ids, mask = part.tokenize(CAPTIONS)
        sizes: list[int] = []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = part.loss(before, ids, mask).sum()
        loss.backward()
        assert before.grad is not None
        gradients.append(before.grad)
        kept.append(sum(sizes))
        assert all(module.training is training for module in part.lm.modules())
    torch.testing.assert_close(*gradients)
    assert kept[1] < kept[0] / 2


def test_a_stepper_keeps_its_cache_while_checkpointing_trains() -> None:
    plain, trained = (
        head("llama", gradient_checkpointing=on).train(on).start(prefix(2), 16)
        for on in (False, True)
    )
    for stepper in (plain, trained):
        stepper.prefill(1)
    tokens = torch.tensor([5, 9]).numpy()
    torch.testing.assert_close(
        torch.from_numpy(plain.step(tokens, 4).log_probs),
        torch.from_numpy(trained.step(tokens, 4).log_probs),
    )
