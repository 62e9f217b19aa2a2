"""Figures of parity, against their definitions and independent code."""

from difflib import SequenceMatcher

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vlv_export.parity import figures


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_relative_l2_and_cosine_are_torchs() -> None:
    found, expected = drawn(3, 4, 5), drawn(3, 4, 5, seed=1)
    left, right = (torch.from_numpy(each).flatten(1) for each in (found, expected))
    wanted = (left - right).norm(dim=1) / right.norm(dim=1)
    np.testing.assert_allclose(figures.relative_l2(found, expected), wanted)
    np.testing.assert_allclose(
        figures.cosine(found, expected), F.cosine_similarity(left, right, dim=1)
    )


def test_one_wrong_row_of_many_shows() -> None:
    expected = drawn(7, 9)
    found = expected.copy()
    found[4] = expected[5]
    assert figures.relative_l2(found, expected).argmax() == 4
    assert figures.cosine(found, expected).argmin() == 4
    assert figures.greatest(found, expected)[4] == np.abs(expected[4] - expected[5]).max()


def test_zeros_that_should_be_zeros_are_right() -> None:
    nothing = np.zeros((2, 3))
    assert figures.cosine(nothing, nothing).tolist() == [1, 1]
    assert figures.relative_l2(nothing, nothing).tolist() == [0, 0]
    assert figures.cosine(nothing, np.ones((2, 3))).tolist() == [0, 0]


def test_what_is_no_number_stays_so() -> None:
    found = np.array([[1.0, np.nan]])
    assert np.isnan(figures.relative_l2(found, np.ones((1, 2)))).all()


def test_a_constant_on_top_of_logits_says_nothing() -> None:
    logits = drawn(2, 3, 8)
    shifted = logits + drawn(2, 3, 1, seed=2)
    np.testing.assert_allclose(figures.centred(shifted), figures.centred(logits))
    log_probs = torch.from_numpy(logits).log_softmax(-1).numpy()
    np.testing.assert_allclose(figures.centred(log_probs), figures.centred(logits))


def test_divergence_over_all_tokens_is_torchs() -> None:
    p, q = (torch.from_numpy(drawn(5, 20, seed=seed)).log_softmax(-1) for seed in (0, 1))
    wanted = F.kl_div(q, p, log_target=True, reduction="none").sum(dim=1)
    found = figures.divergence(p.numpy(), q.numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_divergence_with_the_rest_as_one_is_never_more() -> None:
    p, q = (torch.from_numpy(drawn(5, 20, seed=seed)).log_softmax(-1).numpy() for seed in (0, 1))
    whole = figures.divergence(p, q)
    lumped = figures.divergence(p[:, :7], q[:, :7])
    assert (lumped <= whole).all() and (lumped > 0).all()
    assert figures.divergence(p[:, :7], p[:, :7]).tolist() == [0] * 5


def test_overlap_counts_expected_ids_that_are_found_anywhere() -> None:
    found, expected = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 9], [7, 8, 9]])
    np.testing.assert_allclose(figures.overlap(found, expected), [2 / 3, 0])


@pytest.mark.parametrize(
    "found, expected, count",
    [((), (), 0), ((1, 2), (1, 2), 2), ((1, 2, 3), (1, 2), 2), ((1, 9, 3), (1, 2, 3), 1)],
)
def test_agreement_is_counted_from_the_start(
    found: tuple[int, ...], expected: tuple[int, ...], count: int
) -> None:
    assert figures.agreed(found, expected) == count


@pytest.mark.parametrize(
    "left, right, distance",
    [("kitten", "sitting", 3), ("flaw", "lawn", 2), ("", "abc", 3), ("abc", "", 3), ("a", "a", 0)],
)
def test_edit_distances_of_the_textbooks(left: str, right: str, distance: int) -> None:
    assert figures.edit_distance([*map(ord, left)], [*map(ord, right)]) == distance


def test_edit_distance_is_never_above_that_of_a_matcher() -> None:
    draw = np.random.default_rng(3)
    for _ in range(30):
        left, right = (draw.integers(0, 4, draw.integers(0, 12)).tolist() for _ in range(2))
        blocks = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
        bound = sum(max(b - a, d - c) for kind, a, b, c, d in blocks if kind != "equal")
        found = figures.edit_distance(left, right)
        assert abs(len(left) - len(right)) <= found <= bound
        assert found == figures.edit_distance(right, left)


def test_distributions_name_their_percentiles() -> None:
    spread = figures.distribution(np.arange(101.0))
    assert spread == {"min": 0, "p50": 50, "p90": 90, "p99": 99, "max": 100}
    assert figures.distribution(np.array([])) == {}
