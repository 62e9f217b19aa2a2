"""Captions as rows of ids: start, words, end, padding; what does not fit is counted."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from vlv_core.prompts import PromptTokenizer

WORDS = {"<s>": 0, "</s>": 1, "<pad>": 2, "a": 3, "red": 4, "circle": 5, "?": 6}


def prompts(*, pad: int = 2) -> PromptTokenizer:
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PromptTokenizer(tokenizer, start=0, end=1, pad=pad)


def test_rows_start_end_and_are_padded() -> None:
    ids, cut = prompts()(["a red circle", "", "red"], length=6)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[0, 3, 4, 5, 1, 2], [0, 1, 2, 2, 2, 2], [0, 4, 1, 2, 2, 2]]
    assert cut == [0, 0, 0]


def test_padding_may_be_the_end() -> None:
    ids, _ = prompts(pad=1)(["red"], length=5)
    assert ids.tolist() == [[0, 4, 1, 1, 1]]


def test_what_does_not_fit_is_counted_and_the_end_stays() -> None:
    ids, cut = prompts()(["a red circle", "a red", "a red circle a red"], length=4)
    assert ids.tolist() == [[0, 3, 4, 1]] * 3
    assert cut == [1, 0, 3]


@given(
    rows=st.lists(st.lists(st.sampled_from(["a", "red", "circle", "blue"])), min_size=1),
    length=st.integers(2, 9),
)
def test_every_row_is_its_captions_words(rows: Sequence[Sequence[str]], length: int) -> None:
    ids, cut = prompts()([" ".join(words) for words in rows], length=length)
    assert ids.shape == (len(rows), length)
    for words, row, lost in zip(rows, ids.tolist(), cut, strict=True):
        kept = [WORDS.get(word, WORDS["?"]) for word in words][: length - 2]
        assert lost == len(words) - len(kept)
        assert row == [0, *kept, 1] + [2] * (length - 2 - len(kept))
