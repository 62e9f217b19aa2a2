"""The reader of tar headers against the standard library's, and on damage."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.shards import tar
from vlv_core.data.tars import Damage, members, members_of, refuse_compressed
from vlv_core.errors import DataError

NAMES = st.lists(
    st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
    | st.from_regex(r"[a-z]{90,300}", fullmatch=True),
    min_size=1,
    max_size=3,
).map("/".join)
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def written(files: list[tuple[str, bytes]], *, format: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mtime = 1.5 if len(data) % 2 else 1
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=5), st.sampled_from(FORMATS))
def test_members_are_those_of_the_standard_library(
    files: list[tuple[str, bytes]], format: int
) -> None:
    try:
        archive = written(files, format=format)
    except ValueError:
        return  # a name that this format has no room for
    with tarfile.open(fileobj=io.BytesIO(archive)) as reader:
        due = [(m.name, m.offset, m.offset_data, m.size) for m in reader]
    found = list(members_of(archive))
    # The standard library drops slashes at the end of names.
    got = [(m.name.rstrip("/"), m.start, m.offset, m.size) for m in found]
    assert got == [(name.rstrip("/"), *place) for name, *place in due]
    assert [archive[m.offset :][: m.size] for m in found] == [data for _, data in files]


def test_folders_links_and_global_headers() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", pax_headers={"comment": "all"}) as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE), ("a", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type = kind
            archive.addfile(member)
    found = {m.name.rstrip("/"): m.plain for m in members_of(stream.getvalue())}
    assert found == {"d": False, "l": False, "a": True}


def test_sizes_beyond_octal() -> None:
    member = tarfile.TarInfo("big")
    member.size = 9 << 33
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        (found,) = members_of(member.tobuf(format))
        assert (found.name, found.size) == ("big", 9 << 33)


def test_names_that_are_no_utf8_stay_apart() -> None:
    first = tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT)
    raw = bytearray(first)
    raw[0:1] = b"\xff"
    raw[148:156] = b"%06o\0 " % (sum(raw) - sum(raw[148:156]) + 256)
    (found,) = members_of(bytes(raw))
    assert found.name == r"\xff"


def test_where_a_piece_begins() -> None:
    archive = written([("a", b"1" * 700), ("b", b"2")], format=tarfile.USTAR_FORMAT)
    first, second = members_of(archive)
    assert first.end == second.start == 1536
    (again,) = members(io.BytesIO(archive), start=second.start)
    assert again == second


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda b: b[:300], "it ends inside a header"),
        (lambda b: b"x" + b[1:], "bad header at byte 0"),
        (lambda b: b[:124] + b"zzzzzzzzzzz\0" + b[136:], "bad number|bad header"),
        (lambda b: b[:148] + b"nonsense" + b[156:], "bad number in a header"),
    ],
)
def test_damage_is_told(spoil, reason: str) -> None:  # type: ignore[no-untyped-def]
    archive = written([("a", b"1")], format=tarfile.USTAR_FORMAT)
    with pytest.raises(Damage, match=reason):
        list(members_of(spoil(archive)))


def test_damaged_long_names() -> None:
    archive = written([("a" * 300, b"1")], format=tarfile.PAX_FORMAT)
    with pytest.raises(Damage, match="bad pax header"):
        list(members_of(archive[:512] + b"999 path=x\n" + archive[523:]))
    with pytest.raises(Damage, match="it ends inside a header"):
        list(members_of(archive[:600]))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_end_or_are_damage(data: bytes) -> None:
    archive = written([("a", b"1")], format=tarfile.USTAR_FORMAT)[:1024]
    try:
        found = list(members_of(archive + data))
    except Damage:
        return
    assert found[0].name == "a"


@pytest.mark.parametrize("magic", [b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"])
def test_compressed_archives_are_refused_by_kind(magic: bytes) -> None:
    with pytest.raises(DataError, match=r"'x.tar' is compressed \((bzip2|xz|zstandard)\)") as error:
        refuse_compressed(io.BytesIO(magic + b"0" * 9), "x.tar")
    assert "it once" in str(error.value.hint)


def test_gzip_is_refused_whatever_its_name(tmp_path: Path) -> None:
    data = gzip.compress(tar(tmp_path / "a.tar", {"a": b"1"}).read_bytes())
    with pytest.raises(DataError, match="cannot be read in any order"):
        refuse_compressed(io.BytesIO(data), "a.tar")
