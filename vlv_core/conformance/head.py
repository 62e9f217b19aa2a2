"""The language model, its loss and its stepper."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from vlv_core.conformance.base import Conformance, Tensors, check_reached
from vlv_core.protocols import TopK


class HeadConformance(Conformance):
    """prefix (B, M, Dl) -> words, and the likelihood of given ones."""

    sizes = ("dim", "vocab_size", "max_length")
    captions: ClassVar[Sequence[str]] = (
        "a red circle", "two blue squares on a plain background", "circle"
    )  # fmt: skip
    prefix_length: ClassVar[int] = 4

    def inputs(self, part: Any) -> Tensors:
        """prefix, ids, mask."""
        ids, mask = part.tokenize(list(self.captions))
        return self.random(len(ids), self.prefix_length, part.dim), ids, mask

    def outputs(self, part: Any, *inputs: Tensor) -> Tensors:
        return (part.loss(*inputs),)

    def test_captions_end_supervised(self, part: Any) -> None:
        _, ids, mask = self.inputs(part)
        assert ids.shape == mask.shape and len(ids) == len(self.captions)
        assert part.eos and all(0 <= token < part.vocab_size for token in part.eos)
        for row, caption in enumerate(self.captions):
            words = ids[row][mask[row].bool()].tolist()
            assert words[-1] in part.eos, f"the end of {caption!r} is not supervised"
            assert not set(words[:-1]) & set(part.eos), f"end of text inside {caption!r}"
            decoded = part.decode(words[:-1])
            assert decoded.strip() == caption, f"{caption!r} decodes as {decoded!r}"

    def test_padding_changes_no_loss(self, part: Any) -> None:
        prefix, ids, mask = self.inputs(part)
        with torch.no_grad():
            together = part.loss(prefix, ids, mask)
            for row, caption in enumerate(self.captions):
                short = part.tokenize([caption])
                alone = part.loss(prefix[row : row + 1], *short)
                self.close(alone, together[row : row + 1], "padding changes a caption's loss")

    def test_loss_is_the_sum_of_the_steppers_log_probs(self, part: Any) -> None:
        prefix, ids, mask = self.inputs(part)
        with torch.no_grad():
            losses = part.loss(prefix, ids, mask)
        for row in range(len(ids)):
            words = ids[row][mask[row].bool()].tolist()
            logs = self.follow(part, prefix[row : row + 1], words)
            self.close(losses[row], torch.tensor(-sum(logs)), "loss and stepper differ")

    def test_steps_answer_ordered_log_probs(self, part: Any) -> None:
        prefix = self.inputs(part)[0]
        stepper = part.start(prefix, self.prefix_length + 3)
        assert stepper.capacity >= self.prefix_length + 3, "capacity is below what was asked"
        for top in (stepper.prefill(3), stepper.step(np.zeros(len(prefix), np.int64), 3)):
            shapes, kinds = (
                (top.log_probs.shape, top.ids.shape),
                (top.log_probs.dtype, top.ids.dtype),
            )
            assert shapes == ((len(prefix), 3),) * 2, f"k = 3 was asked, the answer is {shapes}"
            assert kinds == (np.float32, np.int64), f"float32 and int64 are due, not {kinds}"
            assert (np.diff(top.log_probs, axis=1) <= 0).all(), "candidates are not descending"
            assert (top.log_probs <= 0).all(), "a log-probability is above 0"

    def test_select_repeats_reorders_and_drops_rows(self, part: Any) -> None:
        prefix = self.inputs(part)[0][:2]
        capacity, rows = self.prefix_length + 4, np.array([1, 0, 1])
        word = part.tokenize([self.captions[0]])[0][0, 0].item()
        selected = part.start(prefix, capacity)
        selected.prefill(1)
        selected.step(np.array([word, word]), 1)
        selected.select(rows)
        fresh = part.start(prefix[torch.from_numpy(rows)], capacity)
        fresh.prefill(1)
        fresh.step(np.array([word] * 3), 1)
        for keep in (np.array([0, 1, 2]), np.array([2, 1]), np.array([1])):
            selected.select(keep)
            fresh.select(keep)
            words = np.full(len(keep), word)
            mine, due = (_dense(s.step(words, part.vocab_size)) for s in (selected, fresh))
            self.close(mine, due, "select disturbs the cache")

    @torch.no_grad()
    def test_its_export_part_says_what_the_stepper_says(self, part: Any) -> None:
        """Optional: `export_part` and `tokenizer_json` let a head be exported."""
        if not hasattr(part, "export_part"):
            pytest.skip("the head cannot be exported: no export_part")
        prefix = self.inputs(part)[0]
        rows, made = len(prefix), part.export_part()
        names = [spec.name for spec in (*made.inputs, *made.outputs)]
        assert names[:3] == ["prefix", "tokens", "position"], "build it by parts.head_part"
        sizes = {"batch": rows, "capacity": self.prefix_length + 4, "prefix": 0, "length": 0}
        # What is not filled holds noise, which nothing may see.
        noise = made.example(sizes, seed=3)
        state = [torch.from_numpy(noise[given]) for given, _ in made.state]
        stepper = part.start(prefix, sizes["capacity"])
        top = stepper.prefill(part.vocab_size)
        tokens, position = torch.zeros(rows, 0).long(), torch.zeros(rows).long()
        for step in range(4):
            logits, *state = made.module(prefix, tokens, position, *state)
            found = logits.float().log_softmax(dim=-1)
            self.close(found, _dense(top), f"export_part and stepper differ at step {step}")
            tokens, prefix = found.argmax(dim=-1, keepdim=True), prefix[:, :0]
            position = torch.full((rows,), self.prefix_length + step)
            top = stepper.step(tokens[:, 0].numpy(), part.vocab_size)

    def test_its_tokenizer_decodes_alike_from_text(self, part: Any) -> None:
        if not hasattr(part, "tokenizer_json"):
            pytest.skip("the head cannot be exported: no tokenizer_json")
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(part.tokenizer_json())
        for ids in part.tokenize(list(self.captions))[0].tolist():
            text = tokenizer.decode(ids, skip_special_tokens=True)
            assert text == part.decode(ids), f"tokenizer_json decodes otherwise: {text!r}"

    def test_gradient_flows_through_the_frozen_head_to_the_prefix(self, part: Any) -> None:
        part.requires_grad_(False)
        prefix, ids, mask = self.inputs(part)
        part.loss(prefix.requires_grad_(), ids, mask).sum().backward()
        check_reached(prefix)

    def follow(self, part: Any, prefix: Tensor, words: Sequence[int]) -> list[float]:
        """The log-probability of each word after those before it, by a stepper."""
        stepper = part.start(prefix, self.prefix_length + len(words))
        top, logs = stepper.prefill(part.vocab_size), []
        for index, word in enumerate(words):
            logs.append(float(_dense(top)[0, word]))
            if index + 1 < len(words):
                top = stepper.step(np.array([word]), part.vocab_size)
        return logs


def _dense(top: TopK) -> Tensor:
    """The whole vocabulary's log-probabilities (R, V) from a TopK of all of it."""
    dense = torch.full(top.ids.shape, float("nan"))
    return dense.scatter(1, torch.from_numpy(top.ids), torch.from_numpy(top.log_probs))
