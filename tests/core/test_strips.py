"""Strips: the right pixels in the right place, words that fit, marks that can be told apart."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vlv_core.strips import EDGE, GAP, TEXT_WIDTH, Line, Row, png, sized, strip, whole_edge

RED = np.full((64, 64, 3), (255, 0, 0), np.uint8)
BLUE = np.full((64, 64, 3), (0, 0, 255), np.uint8)


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


def ink(sheet: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (sheet < 200).any(axis=2)


def test_rows_stand_under_each_other_in_order() -> None:
    sheet = pixels(strip([Row((RED, BLUE)), Row((BLUE, RED))]))
    assert sheet.shape == (GAP + 2 * (EDGE + GAP), GAP + 2 * (EDGE + GAP), 3)
    first, second = GAP + EDGE // 2, GAP + EDGE + GAP + EDGE // 2
    assert sheet[first, first].tolist() == sheet[second, second].tolist() == [255, 0, 0]
    assert sheet[first, second].tolist() == sheet[second, first].tolist() == [0, 0, 255]
    assert (sheet[: GAP - 1] == 255).all(), "white around"


def test_white_pictures_have_a_frame_outside_their_pixels() -> None:
    sheet = pixels(strip([Row((np.full_like(RED, 255),))]))
    inside = slice(GAP, GAP + EDGE)
    assert (sheet[inside, inside] == 255).all()
    assert (sheet[GAP - 1, inside] == 0xDD).all() and (sheet[inside, GAP + EDGE] == 0xDD).all()


def test_words_stand_beside_the_pictures_or_below() -> None:
    row = Row((RED,), [Line("a red picture")])
    side = EDGE + 2 * GAP
    beside = pixels(strip([row]))
    assert beside.shape[:2] == (EDGE + 2 * GAP, side + TEXT_WIDTH + GAP)
    assert ink(beside)[:, side:].any()
    below = pixels(strip([row], below=True))
    assert below.shape[1] == side and below.shape[0] > EDGE + 2 * GAP
    assert ink(below)[EDGE + 2 * GAP :].any()


def test_titles_stand_above_and_cover_nothing() -> None:
    plain, titled = pixels(strip([Row((RED,))])), pixels(strip([Row((RED,))], titles=["original"]))
    more = len(titled) - len(plain)
    assert more > 0 and ink(titled)[: GAP + more].any()
    assert (titled[more + GAP :] == plain[GAP:]).all()


def test_many_words_make_a_row_higher_and_none_is_cut() -> None:
    short = strip([Row((RED,), [Line("word")])])
    long = strip([Row((RED,), [Line("word " * 250)]), Row((BLUE,))])
    assert long.height > 2 * short.height
    assert pixels(long)[-GAP - 2, GAP + 2].tolist() == [0, 0, 255], "the next row is below"
    broken = strip([Row((RED,), [Line("w" * 500)])])
    assert not ink(pixels(broken))[:, -GAP:].any(), "a long word does not run out of the sheet"


def test_no_words_and_empty_words() -> None:
    assert strip([Row((RED,), [Line("")])]).height == strip([Row((RED,))]).height


@pytest.mark.parametrize(("right", "channel"), [(True, 1), (False, 0)])
def test_marks_have_their_colour(right: bool, channel: int) -> None:
    sheet = pixels(strip([Row((RED,), [Line("a star", right)])]))[:, EDGE + 2 * GAP :].astype(int)
    dark = sheet[(sheet < 200).any(axis=2)]
    others = [each for each in (0, 1, 2) if each != channel]
    assert (dark[:, channel] > dark[:, others].max(axis=1)).mean() > 0.9


def test_tick_and_cross_differ_in_shape_not_only_in_colour() -> None:
    marks = [
        ink(pixels(strip([Row((RED,), [Line("", right)])])))[:, EDGE + 2 * GAP :]
        for right in (True, False)
    ]
    assert marks[0].any() and marks[1].any() and (marks[0] != marks[1]).any()


def test_small_pictures_keep_square_pixels_and_large_ones_are_averaged() -> None:
    checker = np.indices((64, 64)).sum(0)[..., None] % 2 * np.full(3, 255)
    grown = pixels(sized(checker.astype(np.uint8)))
    assert (grown[::2, ::2] == checker).all() and (grown[1::2, 1::2] == checker).all()
    shrunk = pixels(sized(np.kron(checker, np.ones((4, 4, 1))).astype(np.uint8)[:256, :256]))
    assert shrunk.shape == (EDGE, EDGE, 3) and set(np.unique(shrunk)) == {0, 255}


@pytest.mark.parametrize(("size", "edge"), [(8, 128), (64, 128), (100, 200), (512, 512)])
def test_whole_edge_enlarges_by_whole_factors_only(size: int, edge: int) -> None:
    assert whole_edge(size) == edge


def test_png_is_lossless() -> None:
    image = strip([Row((RED, BLUE), [Line("words")])])
    with Image.open(BytesIO(png(image))) as back:
        assert back.format == "PNG" and (pixels(back) == pixels(image)).all()
