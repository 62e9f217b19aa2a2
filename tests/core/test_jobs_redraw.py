"""Redrawing jobs: a strip for each picture under its own name, and no bad one stops the others."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.core.fake_captioner import VIEW, put, words
from vlv_core.errors import DataError, UsageError, VlvError
from vlv_core.jobs import Counts, Progress, find_inputs
from vlv_core.jobs.redraw import Redrawn, RedrawOptions, redraw_job, strip_name
from vlv_core.protocols import Caption, Conditioning, Encoded
from vlv_core.randomness import Purpose, normal_rows
from vlv_core.strips import GAP, whole_edge

EDGE = whole_edge(VIEW.size)


class Painter:
    """Draws the embedding's own pixels with a little noise, and grey from captions."""

    view = VIEW

    def __init__(self, trouble: Callable[[Any], None] = lambda views: None) -> None:
        self.trouble = trouble
        self.calls: list[tuple[int, int, float]] = []

    def encode(self, pictures: NDArray[np.uint8]) -> Encoded:
        self.trouble(pictures)
        z = pictures.reshape(len(pictures), 1, -1).astype(np.float32)
        return Encoded(z, z, None, z)

    def caption(self, given: Encoded, *, options: None) -> list[Caption]:
        views = given.z.reshape(-1, 8, 8, 3).astype(np.uint8)
        return [Caption(words(view), (1,), "eos", 0.0) for view in views]

    def from_text(self, captions: Sequence[str]) -> Conditioning:
        return Conditioning(np.full((len(captions), 1, 192), 128, np.float32))

    def reconstruct(
        self, given: Any, *, seed: int, steps: int, guidance: float, keys: Sequence[int]
    ) -> NDArray[np.uint8]:
        self.calls.append((seed, steps, guidance))
        noise = normal_rows(
            seed, purpose=Purpose.RECONSTRUCTION, step=0, keys=keys, shape=(8, 8, 3)
        )
        drawn = given.context.reshape(-1, 8, 8, 3) + 5 * noise
        return drawn.clip(0, 255).astype(np.uint8)


def job(
    *arguments: Path, out: Path, painter: Painter | None = None, **options: Any
) -> tuple[Counts, list[Redrawn]]:
    done: list[Redrawn] = []
    counts = redraw_job(
        painter or Painter(),
        find_inputs([str(path) for path in arguments]).inputs,
        out=out,
        options=RedrawOptions(**options),
        on_done=done.append,
    )
    return counts, done


def sheet(result: Redrawn) -> NDArray[np.uint8]:
    assert result.file is not None
    with Image.open(result.file) as image:
        return np.asarray(image)


def tile(result: Redrawn, column: int) -> NDArray[np.uint8]:
    """A picture of the strip, at the view's own size."""
    words_below = sheet(result)
    framed = next(y for y in range(len(words_below)) if _is_picture(words_below, y))
    top = framed + 1
    left = GAP + column * (EDGE + GAP)
    factor = EDGE // VIEW.size
    return words_below[top : top + EDGE : factor, left : left + EDGE : factor]


def _is_picture(strip: NDArray[np.uint8], y: int) -> bool:
    """Test pictures are nowhere white; titles leave most of a line white."""
    return bool((strip[y, GAP : GAP + EDGE] != 255).any(axis=1).all())


def test_a_strip_shows_original_and_both_drawings(tmp_path: Path) -> None:
    [path] = put(tmp_path / "in", "a.png")
    counts, [result] = job(path, out=tmp_path / "out")
    assert str(counts) == "1 in = 1 ok + 0 failed + 0 skipped"
    assert result.caption and result.caption.startswith("a picture of ")
    original, embedding, caption = (tile(result, column).astype(int) for column in range(3))
    assert abs(original - embedding).max() < 30 and (original != embedding).any()
    assert abs(caption - 128).max() < 30
    assert sheet(result).shape[0] > EDGE + 3 * GAP, "the caption stands below"


def test_one_basename_in_two_folders_makes_two_strips(tmp_path: Path) -> None:
    put(tmp_path, "a/x.png", "b/x.png")
    counts, results = job(tmp_path / "a", tmp_path / "b", out=tmp_path / "out")
    assert counts.ok == 2
    assert len({result.file for result in results}) == 2
    assert all(str(r.file).startswith(str(tmp_path / "out" / "x-")) for r in results)


def test_names_depend_on_the_path_alone(tmp_path: Path) -> None:
    assert strip_name("a/x.png") == strip_name("a/x.png") != strip_name("b/x.png")
    long = strip_name(f"a/{'é' * 200}.png")
    assert len(long.encode()) <= 255 and long.endswith(".png")


def test_a_picture_is_drawn_alike_alone_and_in_any_batch(tmp_path: Path) -> None:
    paths = put(tmp_path / "in", "a.png", "b.png", "c.png")
    job(tmp_path / "in", out=tmp_path / "all", batch=3)
    job(tmp_path / "in", out=tmp_path / "pairs", batch=2)
    job(paths[1], out=tmp_path / "alone")
    written = {file.name: file.read_bytes() for file in sorted((tmp_path / "all").iterdir())}
    assert len(written) == 3
    for folder in ("pairs", "alone"):
        for file in (tmp_path / folder).iterdir():
            assert file.read_bytes() == written[file.name]


def test_unreadable_pictures_fail_and_the_rest_goes_on(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", "c.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    counts, results = job(tmp_path / "in", out=tmp_path / "out")
    assert str(counts) == "3 in = 2 ok + 1 failed + 0 skipped"
    assert [result.error is None for result in results] == [True, False, True]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_picture_on_which_the_model_fails_fails_alone(tmp_path: Path) -> None:
    put(tmp_path / "in", *(f"{number}.png" for number in range(4)))

    def trouble(views: NDArray[np.uint8]) -> None:
        if (views[:, 0, 0, 0] == 2).any():
            raise FloatingPointError("overflow")

    counts, results = job(tmp_path / "in", out=tmp_path / "out", painter=Painter(trouble))
    assert (counts.ok, counts.failed) == (3, 1)
    assert results[2].error == "the model failed: FloatingPointError: overflow"


def test_wrong_usage_stops_the_job(tmp_path: Path) -> None:
    def trouble(views: Any) -> None:
        raise UsageError("no diffusion")

    put(tmp_path / "in", "a.png", "b.png")
    with pytest.raises(UsageError, match="no diffusion"):
        job(tmp_path / "in", out=tmp_path / "out", painter=Painter(trouble))


def test_a_picture_s_own_error_is_no_wrong_usage(tmp_path: Path) -> None:
    def trouble(views: Any) -> None:
        raise DataError("unfit")

    put(tmp_path / "in", "a.png")
    counts, _ = job(tmp_path / "in", out=tmp_path / "out", painter=Painter(trouble))
    assert counts.failed == 1


def test_pictures_in_the_output_folder_are_never_touched(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "strips/b.png")
    kept = (tmp_path / "strips" / "b.png").read_bytes()
    counts, _ = job(tmp_path, out=tmp_path / "strips")
    assert str(counts) == "2 in = 1 ok + 0 failed + 1 skipped"
    again, _ = job(tmp_path, out=tmp_path / "strips")
    assert str(again) == "3 in = 1 ok + 0 failed + 2 skipped"
    assert (tmp_path / "strips" / "b.png").read_bytes() == kept
    assert len(list((tmp_path / "strips").iterdir())) == 2


def test_nothing_but_the_output_folder_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    with pytest.raises(UsageError, match="all 1 pictures lie in the output folder"):
        job(tmp_path, out=tmp_path)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    [path] = put(tmp_path, "a.png")
    with pytest.raises(UsageError, match="cannot be a folder"):
        job(path, out=path)


def test_a_strip_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vlv_core.jobs.redraw.write_atomically", full)
    put(tmp_path / "in", "a.png")
    with pytest.raises(VlvError, match=r"cannot write .*No space left on device"):
        job(tmp_path / "in", out=tmp_path / "out")


def test_options_reach_the_captioner_and_progress_is_told(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.png", "b.png", "c.png")
    painter, told = Painter(), list[tuple[int, int]]()

    def progress(report: Progress) -> None:
        told.append((report.counts.ok, report.counts.remaining))

    redraw_job(
        painter,
        find_inputs([str(tmp_path / "in")]).inputs,
        out=tmp_path / "out",
        options=RedrawOptions(seed=4, steps=7, guidance=2.5, batch=2),
        on_progress=progress,
    )
    assert set(painter.calls) == {(4, 7, 2.5)} and len(painter.calls) == 4
    assert told == [(2, 1), (3, 0)]


@pytest.mark.parametrize("name", ["steps", "batch"])
def test_options_below_one_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 0, but must be at least 1"):
        RedrawOptions(**{name: 0})
