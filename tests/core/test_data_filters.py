"""The filters against a rule written row by row; patterns of file names."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlv_core.config import convert, to_dict
from vlv_core.data.filters import REASONS, Facts, Filters, counted, number, verdicts
from vlv_core.data.patterns import braces, find_files
from vlv_core.errors import ConfigError, DataError

PAPER = Filters(min_side=512, min_aspect=0.5, max_aspect=2.0, max_watermark=0.5)
SIDES = st.sampled_from([math.nan, 0.0, 100.0, 511.0, 512.0, 600.0, 1024.0, 1025.0, 4000.0])
MARKS = st.sampled_from([math.nan, 0.0, 0.4999, 0.5, 1.0])


def facts_of(*rows: tuple[float, float, float]) -> Facts:
    columns = np.array(rows, np.float32).reshape(-1, 3).T
    return Facts(*columns)


def verdict(filters: Filters, *row: float) -> str:
    code = int(verdicts(filters, facts_of(row))[0])  # type: ignore[arg-type]
    return REASONS[code - 1] if code else "kept"


def by_hand(filters: Filters, width: float, height: float, mark: float) -> str:
    sized = width > 0 and height > 0
    marked = not math.isnan(mark)
    needs_mark = filters.max_watermark is not None
    if filters.missing == "drop" and (
        (filters.needs_size and not sized) or (needs_mark and not marked)
    ):
        return "field_missing"
    known = [side for side in (width, height) if side > 0]
    if known and min(known) < filters.min_side:
        return "side_too_short"
    if sized and width / height < filters.min_aspect:
        return "aspect"
    if sized and filters.max_aspect is not None and width / height > filters.max_aspect:
        return "aspect"
    if marked and filters.max_watermark is not None and mark >= filters.max_watermark:
        return "watermark"
    return "kept"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ((512, 512, 0.1), "kept"),
        ((511, 900, 0.1), "side_too_short"),
        ((1024, 512, 0.1), "kept"),
        ((1025, 512, 0.1), "aspect"),
        ((512, 1025, 0.1), "aspect"),
        ((600, 600, 0.5), "watermark"),
        ((600, 600, math.nan), "kept"),
        ((math.nan, math.nan, 0.6), "watermark"),
    ],
)
def test_the_papers_filters(row: tuple[float, float, float], why: str) -> None:
    assert verdict(PAPER, *row) == why


def test_by_default_all_pass() -> None:
    rows = facts_of((1, 4000, 1.0), (math.nan, 3, math.nan), (0, 0, 0))
    assert not verdicts(Filters(), rows).any()
    assert not verdicts(Filters(missing="drop"), rows).any(), "no filter needs a field"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(SIDES, SIDES, MARKS), min_size=1, max_size=20),
    st.builds(
        Filters,
        min_side=st.sampled_from([0, 512]),
        min_aspect=st.sampled_from([0.0, 0.5]),
        max_aspect=st.sampled_from([None, 2.0]),
        max_watermark=st.sampled_from([None, 0.5]),
        missing=st.sampled_from(["keep", "drop"]),
    ),
)
def test_verdicts_are_those_of_the_rule_row_by_row(
    rows: list[tuple[float, float, float]], filters: Filters
) -> None:
    codes = verdicts(filters, facts_of(*rows))
    got = [REASONS[code - 1] if code else "kept" for code in codes.tolist()]
    assert got == [by_hand(filters, *row) for row in rows]
    counts = counted(codes)
    assert sum(counts.values()) + int((codes == 0).sum()) == len(rows)
    assert all(counts[reason] == got.count(reason) for reason in counts)


@pytest.mark.parametrize(
    ("value", "due"),
    [(3, 3.0), (0.25, 0.25), ("512", 512.0), (" 7 ", 7.0)],
)
def test_numbers_of_fields(value: object, due: float) -> None:
    assert number(value) == due


@pytest.mark.parametrize("value", [None, True, "wide", [], {}, "inf", math.nan, 10**400])
def test_fields_that_are_no_numbers(value: object) -> None:
    assert math.isnan(number(value))


def test_filters_in_a_recipe() -> None:
    assert convert(Filters, to_dict(PAPER), "filters") == PAPER
    with pytest.raises(ConfigError, match=r"expected 'keep' or 'drop', got 'dorp'.*'drop'"):
        convert(Filters, {"missing": "dorp"}, "filters")
    with pytest.raises(ConfigError, match=r"max_aspect 0\.4 is below min_aspect 0\.5"):
        Filters(min_aspect=0.5, max_aspect=0.4)


def test_braces_as_a_shell_expands_them() -> None:
    assert list(braces("plain.tar")) == ["plain.tar"]
    assert list(braces("{008..011}.tar")) == ["008.tar", "009.tar", "010.tar", "011.tar"]
    assert list(braces("{a,b}/{1..2}")) == ["a/1", "a/2", "b/1", "b/2"]
    assert list(braces("{3..1}")) == []


@given(st.integers(0, 1200), st.integers(0, 30))
def test_ranges_count_and_keep_their_width(first: int, more: int) -> None:
    names = list(braces(f"x{{{first:05d}..{first + more:05d}}}"))
    assert names == [f"x{n:05d}" for n in range(first, first + more + 1)]


def test_files_are_found_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b/1.tar", "a/2.tar", "a/10.tar", "c[1].tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/3.tar").mkdir()

    def found(pattern: str) -> list[str]:
        paths = find_files(pattern, tmp_path, option="data.shards")
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    assert found("*/*.tar") == ["a/10.tar", "a/2.tar", "b/1.tar"]
    assert found("{b,a,b}/*.tar") == ["b/1.tar", "a/10.tar", "a/2.tar"]
    assert found("**/*.tar")[-1] == "c[1].tar"
    assert found(str(tmp_path / "b/1.tar")) == found(str(tmp_path / "b/*")) == ["b/1.tar"]


def test_absent_files_are_named_and_counted(tmp_path: Path) -> None:
    (tmp_path / "3.tar").touch()
    with pytest.raises(DataError, match=r"no file '0.tar', .* and 4 others in .*; 1 of its files"):
        find_files("{0..9}.tar", tmp_path, option="data.shards")
    with pytest.raises(DataError, match=r"data.files: '\*.parquet' matches no file"):
        find_files("*.parquet", tmp_path, option="data.files")
