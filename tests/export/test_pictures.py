"""Pictures made of numbers: the same everywhere, and different from each other."""

import numpy as np

from vlv_export.pictures import ODD_SIZES, odd, synthetic


def test_the_same_seed_gives_the_same_pictures() -> None:
    made = synthetic(3, height=20, width=30, seed=4)
    assert made.shape == (3, 20, 30, 3) and made.dtype == np.uint8
    assert np.array_equal(made, synthetic(3, height=20, width=30, seed=4))
    assert not np.array_equal(made, synthetic(3, height=20, width=30, seed=5))


def test_a_picture_is_the_same_in_a_longer_series() -> None:
    assert np.array_equal(
        synthetic(2, height=16, width=16, seed=0), synthetic(5, height=16, width=16, seed=0)[:2]
    )


def test_they_differ_and_use_the_range() -> None:
    made = synthetic(8, height=32, width=32, seed=0)
    assert len({picture.tobytes() for picture in made}) == 8
    assert made.min() < 20 and made.max() > 235


def test_odd_sizes_are_wide_high_square_and_large() -> None:
    pictures = odd(0)
    assert [picture.shape[:2] for picture in pictures] == list(ODD_SIZES)
    ratios = [height / width for height, width in ODD_SIZES]
    assert min(ratios) < 1 < max(ratios)
