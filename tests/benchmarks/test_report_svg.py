"""Scales and ticks."""

from itertools import pairwise

import pytest

from vlv_benchmarks.report import svg


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 7), (3.2, 3.9), (0, 1e6), (-4, 11), (0.001, 0.0042)]
)
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    ticks = svg.Scale(low=low, high=high, start=0, end=100).ticks()
    assert 3 <= len(ticks) <= 8
    assert all(low - 1e-9 <= each <= high + 1e-9 for each in ticks)
    steps = [after - before for before, after in pairwise(ticks)]
    assert max(steps) == pytest.approx(min(steps))
    assert f"{steps[0]:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.8, 25, [1, 2, 5, 10, 20]), (1, 9e4, [1, 10, 100, 1000, 10000]), (3, 30, [5, 10, 20])],
)
def test_logarithmic_ticks(low: float, high: float, ticks: list[float]) -> None:
    found = svg.Scale(low=low, high=high, start=0, end=1, log=True).ticks()
    assert found == pytest.approx(ticks)


def test_a_scale_maps_its_ends_and_its_middle() -> None:
    assert [svg.Scale(low=10, high=20, start=100, end=0)(each) for each in (10, 15, 20)] == [
        100, 50, 0,
    ]  # fmt: skip
    logarithmic = svg.Scale(low=1, high=100, start=0, end=200, log=True)
    assert [logarithmic(each) for each in (1, 10, 100)] == [0, 100, 200]


def test_a_fitted_scale_holds_all_values_with_room() -> None:
    for log in (False, True):
        scale = svg.fitted([3.0, 50.0], start=0, end=100, log=log)
        assert scale.low < 3
        assert scale.high > 50
        assert 0 < scale(3) < scale(50) < 100


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_one_value_has_a_scale_too(value: float) -> None:
    assert 40 < svg.fitted([value], start=0, end=100)(value) < 60


def test_one_value_has_a_logarithmic_scale_with_ticks() -> None:
    scale = svg.fitted([7.0, 7.0], start=0, end=100, log=True)
    assert len(scale.ticks()) >= 1
    assert scale(7) == pytest.approx(50, abs=0.1)


@pytest.mark.parametrize("values", [[], [0.0, 1.0], [-1.0]])
def test_scales_of_nothing_and_logarithms_of_nothing_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="a scale needs values"):
        svg.fitted(values, start=0, end=1, log=True)


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, "0"), (0.5, "0.5"), (20, "20"), (3000, "3k"), (2e6, "2M"), (5e9, "5G"), (0.001, "0.001")],
)
def test_labels_are_short(value: float, label: str) -> None:
    assert svg.tick(value) == label


def test_words_are_escaped() -> None:
    assert "&lt;b&gt; &amp;" in svg.text(0, 0, "<b> &", kind="label")
    assert "&lt;b&gt;" in svg.bar(0, 0, 1, 1, kind="fill0", said="<b>")
    assert "&quot;" in svg.drawing([], said='a "b"')


def test_marks_have_different_shapes() -> None:
    shapes = [svg.mark(0, 0, shape=i, kind="fill0", said="") for i in range(5)]
    assert len(set(shapes)) == 5
    assert svg.mark(0, 0, shape=5, kind="fill0", said="") == shapes[0]
