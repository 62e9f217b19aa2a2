"""`mini-lm` against transformers' LlamaForCausalLM with the same weights, token for token."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from vlv_core.errors import UsageError
from vlv_core.generation import GenerationOptions, generate
from vlv_core.specs import Near
from vlv_plugins.mini import _stepper
from vlv_plugins.mini._head import MiniLm, build
from vlv_plugins.mini.config import LmConfig

CONFIG = LmConfig(width=32, depth=2, heads=4, hidden=48, max_length=64)


@pytest.fixture(scope="module")
def head() -> MiniLm:
    torch.manual_seed(0)
    head = build(CONFIG, Near()).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(3.0)
    return head


@pytest.fixture(scope="module")
def llama(head: MiniLm) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=CONFIG.vocab_size,
        hidden_size=CONFIG.width,
        intermediate_size=CONFIG.hidden,
        num_hidden_layers=CONFIG.depth,
        num_attention_heads=CONFIG.heads,
        max_position_embeddings=CONFIG.max_length,
        tie_word_embeddings=True,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    missing, unexpected = model.load_state_dict(head.state_dict(), strict=False)
    assert unexpected == []
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model


def prefixes(rows: int) -> torch.Tensor:
    return torch.randn(rows, 5, CONFIG.width, generator=torch.Generator().manual_seed(1))


def test_logits_equal_transformers(head: MiniLm, llama: LlamaForCausalLM) -> None:
    prefix = prefixes(3)
    with torch.no_grad():
        ours = head.logits(head.model(prefix))
        theirs = llama(inputs_embeds=prefix).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_loss_equals_transformers(head: MiniLm, llama: LlamaForCausalLM) -> None:
    prefix = prefixes(2)
    ids, mask = head.tokenize(["a red circle.", "a large blue star in the top left."])
    with torch.no_grad():
        words = llama.get_input_embeddings()(ids)
        labels = torch.where(mask, ids, -100)
        labels = torch.cat([torch.full((2, 5), -100), labels], dim=1)
        mean = llama(inputs_embeds=torch.cat([prefix, words], dim=1), labels=labels).loss
        ours = head.loss(prefix, ids, mask).sum() / mask.sum()
    torch.testing.assert_close(ours, mean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {"num_beams": 1}),
        ({"beams": 4}, {"num_beams": 4}),
        ({"beams": 4, "length_penalty": 2.0}, {"num_beams": 4, "length_penalty": 2.0}),
        ({"beams": 4, "length_penalty": -1.0}, {"num_beams": 4, "length_penalty": -1.0}),
        ({"beams": 4, "early_stopping": True}, {"num_beams": 4, "early_stopping": True}),
        ({"beams": 3, "early_stopping": "never"}, {"num_beams": 3, "early_stopping": "never"}),
    ],
)
def test_words_equal_transformers_generate(
    head: MiniLm, llama: LlamaForCausalLM, options: dict[str, Any], theirs: dict[str, Any]
) -> None:
    prefix = prefixes(4)
    chosen = GenerationOptions(max_new_tokens=24, stop_on_repetition=False, **options)
    ours = generate(head.start(prefix, 5 + 24), eos=head.eos, options=chosen)
    with torch.no_grad():
        expected = llama.generate(
            inputs_embeds=prefix, max_new_tokens=24, do_sample=False, use_cache=True, **theirs
        )
    for generated, row in zip(ours, expected.tolist(), strict=True):
        words = row[: row.index(0)] if 0 in row else row
        assert list(generated.tokens) == words


def test_tokenize_supervises_the_end_once(head: MiniLm) -> None:
    ids, mask = head.tokenize(["a red circle.", "a large blue star in the top left corner."])
    for row, counted in zip(ids, mask, strict=True):
        supervised = row[counted].tolist()
        assert supervised[-1] == head.eos[0]
        assert head.eos[0] not in supervised[:-1]
    assert mask.sum(dim=1)[0] < ids.shape[1]


def test_words_outside_the_world_survive_the_tokenizer(head: MiniLm) -> None:
    for text in ("ein Käse-Igel 🦔", "SELECT * FROM t;", " two  spaces "):
        ids, mask = head.tokenize([text])
        assert head.decode(ids[0][mask[0]][:-1].tolist()) == text


@pytest.mark.parametrize("capacity", [5, 65])
def test_a_cache_that_does_not_fit_is_refused(head: MiniLm, capacity: int) -> None:
    with pytest.raises(UsageError, match=r"a capacity of \d+ tokens does not fit: .* at most 64"):
        head.start(prefixes(1), capacity)


def test_stepping_equals_a_fresh_prefill(head: MiniLm) -> None:
    prefix = prefixes(2)
    stepper = head.start(prefix, 16)
    stepper.prefill(1)
    for token in (7, 9, 300):
        stepped = stepper.step(np.array([token, token]), 5)
    words = head.model.embed_tokens(torch.tensor([[7, 9, 300]] * 2))
    fresh = head.start(torch.cat([prefix, words], dim=1).detach(), 16).prefill(5)
    np.testing.assert_array_equal(stepped.ids, fresh.ids)
    np.testing.assert_allclose(stepped.log_probs, fresh.log_probs, atol=1e-4)


@pytest.mark.parametrize("room", [1, 2, 64])
def test_rows_go_on_as_if_read_afresh_wherever_the_cache_moved_them(
    head: MiniLm, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(_stepper, "ROOM", room)
    stepper = head.start(prefixes(3), 5 + 12)
    stepper.prefill(1)
    said: list[list[int]] = [[], [], []]
    origin = [0, 1, 2]
    for turn, rows in enumerate([[0, 1, 2], [2, 1], [1, 1, 0, 0], [3, 0, 2], [2, 1], [1, 0]]):
        stepper.select(np.array(rows))
        origin = [origin[row] for row in rows]
        said = [[*said[row], 10 * turn + place] for place, row in enumerate(rows)]
        stepped = stepper.step(np.array([row[-1] for row in said]), 5)
        words = head.model.embed_tokens(torch.tensor(said))
        whole = torch.cat([prefixes(3)[origin], words], dim=1).detach()
        fresh = head.start(whole, whole.shape[1] + 1).prefill(5)
        np.testing.assert_array_equal(stepped.ids, fresh.ids)
        np.testing.assert_allclose(stepped.log_probs, fresh.log_probs, atol=1e-4)
