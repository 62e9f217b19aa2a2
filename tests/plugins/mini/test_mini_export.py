"""The conformance of what mini's parts give to exporters refuses what is wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders

from vlv_core.conformance import ConditionConformance, HeadConformance
from vlv_core.protocols import Conditioning
from vlv_plugins import mini


class Head(HeadConformance):
    spec = next(iter(mini.vlv_heads()))
    config = {"width": 16, "depth": 2, "heads": 2, "hidden": 24, "max_length": 40}


class Condition(ConditionConformance):
    spec = next(iter(mini.vlv_decoders()))
    config = {"text_width": 16, "text_depth": 1, "text_heads": 2, "text_length": 20}


def graph(change: Callable[[Any], None]) -> Callable[[Any], None]:
    """The head's part comes with its module changed."""

    def mutate(part: Any) -> None:
        make = part.export_part

        def changed() -> Any:
            made = make()
            change(made.module)
            return made

        part.export_part = changed

    return mutate


def late(module: Any) -> None:
    """Everything is read as if it stood one position later."""
    call = module.forward
    module.forward = lambda prefix, tokens, position, *past: call(
        prefix, tokens, position + (position > 0), *past
    )


def stale(module: Any) -> None:
    """The cache that comes back is the one that was given."""
    call = module.forward
    module.forward = lambda *given: (call(*given)[0], *given[3:])


def doubled(from_text: Any) -> Any:
    """Captions are read as something else than their ids."""
    return lambda captions: (Conditioning(2 * from_text(captions)[0].context), [])


HEAD = "its_export_part_says_what_the_stepper_says"
IDS = "ids_are_read_as_their_captions"


@pytest.mark.parametrize(
    ("suite", "check", "mutate", "message"),
    [
        (Head, HEAD, graph(late), "export_part and stepper differ at step 1"),
        (Head, HEAD, graph(stale), "export_part and stepper differ at step 1"),
        (
            Condition,
            IDS,
            lambda part: setattr(type(part), "vocab_sizes", (2,)),
            r"of a text encoder that knows 2",
        ),
        (
            Condition,
            IDS,
            lambda part: setattr(part, "from_text", doubled(part.from_text)),
            "read_ids and from_text differ",
        ),
    ],
    ids=["late", "stale", "vocabulary", "ids"],
)
def test_a_broken_export_is_refused(
    suite: Any,
    check: str,
    mutate: Callable[[Any], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = suite().build()
    # Restored afterwards, for one of the faults is the class's.
    monkeypatch.setattr(type(part), "vocab_sizes", getattr(type(part), "vocab_sizes", None), False)
    getattr(suite(), f"test_{check}")(part)
    mutate(part)
    with pytest.raises(AssertionError, match=message):
        getattr(suite(), f"test_{check}")(part)


def test_another_tokenizers_text_is_refused() -> None:
    part = Head().build()
    Head().test_its_tokenizer_decodes_alike_from_text(part)
    other = Tokenizer.from_str(part.tokenizer_json())
    other.decoder = decoders.Fuse()
    part.tokenizer_json = other.to_str
    with pytest.raises(AssertionError, match="decodes otherwise"):
        Head().test_its_tokenizer_decodes_alike_from_text(part)


def test_the_tables_of_positions_reach_to_the_longest_text() -> None:
    part = Head().build()
    made = part.export_part()
    assert made.module.cos.shape == made.module.sin.shape == (40, 4)
    torch.testing.assert_close(
        made.module.cos.square() + made.module.sin.square(), torch.ones(40, 4)
    )
