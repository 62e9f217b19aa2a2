"""CIDEr-D against values worked out by hand, and against the authors' own program."""

import math

import pytest

from vlv_core.cider import cider_d, phrases, words


def test_words_are_lower_case_and_without_punctuation() -> None:
    assert words("A red circle; it's left.") == ["a", "red", "circle", "it's", "left"]


def test_phrases_are_runs_of_one_to_four_words() -> None:
    found = phrases("a b a b a")
    assert found["a",] == 3
    assert found["a", "b"] == found["b", "a"] == 2
    assert found["a", "b", "a", "b"] == 1
    assert max(map(len, found)) == 4


def test_the_same_words_score_ten() -> None:
    texts = ["a red circle on white", "the blue star in the corner"]
    assert cider_d(texts, [[text] for text in texts]) == pytest.approx([10, 10])


def test_nothing_in_common_scores_nothing() -> None:
    assert cider_d(["yellow moon", "b"], [["red circle"], ["blue star"]]) == [0, 0]


def test_an_empty_caption_scores_nothing() -> None:
    assert cider_d(["", "blue star"], [["red circle"], ["blue star"]])[0] == 0


def test_words_of_every_picture_weigh_nothing() -> None:
    """`a` is in all references: log(2 / 2) = 0."""
    assert cider_d(["a", "a"], [["a cat"], ["a dog"]]) == [0, 0]


def test_by_hand() -> None:
    """N = 2, all phrases but `a` have df = 1, so they weigh log 2; `a` weighs 0.

    n = 1: candidate {red, circle}, reference {red, star}: shared 1, norms sqrt 2 each: 1/2.
    n = 2: candidate {a red, red circle}, reference {a red, red star}: likewise 1/2.
    n = 3: one phrase each, not the same: 0. n = 4: none: 0. Equal lengths: no penalty.
    """
    score = cider_d(["a red circle", "a dog"], [["a red star"], ["a dog"]])[0]
    assert score == pytest.approx(10 * (1 / 2 + 1 / 2) / 4)


def test_repeating_a_word_does_not_raise_the_score() -> None:
    """n = 1: min(3, 1) * 1 / (3 * 1); longer phrases share nothing; 2 words too many."""
    score = cider_d(["cat cat cat", "dog"], [["cat"], ["dog"]])[0]
    assert score == pytest.approx(10 * (1 / 3) / 4 * math.exp(-(2**2) / (2 * 6**2)))


def test_references_are_averaged() -> None:
    alone = cider_d(["red cat", "dog"], [["red cat"], ["dog"]])[0]
    beside = cider_d(["red cat", "dog"], [["red cat", "unlike"], ["dog"]])[0]
    assert alone == pytest.approx(10 * 2 / 4)
    assert beside == pytest.approx(alone / 2)


def test_against_the_authors_program() -> None:
    """Figures of pycocoevalcap 1.2, CiderScorer(n=4, sigma=6)."""
    captions = ["a red circle on white", "a blue star", "the large green cross in the top left"]
    references = [
        ["a red circle on white", "a large red circle on a white background"],
        ["a blue star on black", "the small blue star is left of the cross"],
        ["a large green cross in the top left", "green cross"],
    ]
    expected = [6.650452777248397, 3.097160352312349, 5.0626667683830275]
    assert cider_d(captions, references) == pytest.approx(expected, abs=1e-12)


def test_as_many_references_as_captions() -> None:
    with pytest.raises(ValueError, match="shorter"):
        cider_d(["a", "b"], [["a"]])
