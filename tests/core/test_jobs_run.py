"""Whole jobs with a model-free captioner: counts add up, and words stay with their pictures."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.fake_captioner import FakeCaptioner, png, put, said_of
from tests.core.job_runs import rows, run
from vlv_core.errors import DataError, UsageError, VlvError
from vlv_core.generation import GenerationOptions
from vlv_core.jobs import Counts, Input, JobOptions, Progress, caption_job
from vlv_core.randomness import key_of


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return tmp_path


def unwell(*numbers: int) -> Any:
    """Trouble with the pictures of these numbers."""

    def trouble(views: Any) -> None:
        for view in views:
            if view[0, 0, 0] in numbers:
                raise RuntimeError(f"no idea\nabout {view[0, 0, 0]}")

    return trouble


# results


def test_every_picture_has_its_own_words_in_order(here: Path) -> None:
    put(here, *[f"p/{number:02}.png" for number in range(11)])
    counts = run("p")
    assert (
        counts == Counts(total=11, ok=11) and str(counts) == "11 in = 11 ok + 0 failed + 0 skipped"
    )
    assert [row["path"] for row in rows()] == [f"p/{number:02}.png" for number in range(11)]
    assert [row["caption"] for row in rows()] == [said_of(number) for number in range(11)]
    row = rows()[0]
    assert (row["tokens"], row["logprob"], row["finish_reason"]) == ([1, 2, 3], -0.5, "eos")
    assert (row["model"], row["options"]) == ("fake-1", "the model's own")
    assert len(row["sha256"]) == 64 and row["seconds"] >= 0 and row["error"] is None


def test_failures_keep_their_place_and_shift_nobody(here: Path) -> None:
    put(here, *[f"{number}.png" for number in range(8)])
    Path("0.png").write_bytes(b"")
    Path("3.png").write_bytes(b"<html>")
    Path("7.png").write_bytes(png(7)[:40])
    captioner = FakeCaptioner()
    assert run(".", captioner=captioner) == Counts(total=8, ok=5, failed=3)
    for number, row in enumerate(rows()):
        bad = number in (0, 3, 7)
        assert row["status"] == ("failed" if bad else "ok")
        assert row["caption"] == (None if bad else said_of(number))
    assert rows()[0]["error"] == "the file is empty" and rows()[0]["seconds"] is None
    assert captioner.batches == [2, 3]


def test_options_and_keys_reach_the_captioner(here: Path) -> None:
    put(here, "a/x.png", "b/x.png")
    captioner, options = FakeCaptioner(), GenerationOptions(temperature=0.5, seed=3)
    run("a", "b", captioner=captioner, options=options)
    assert captioner.given == [options]
    assert captioner.keys == [key_of("a/x.png"), key_of("b/x.png")]
    assert rows()[0]["options"] == "temperature=0.5 seed=3"


def test_infinite_log_probabilities_are_left_out(here: Path) -> None:
    class Sure(FakeCaptioner):
        def caption(self, *args: Any, **options: Any) -> Any:
            from dataclasses import replace

            return [replace(c, logprob=-np.inf) for c in super().caption(*args, **options)]

    put(here, "a.png")
    run("a.png", captioner=Sure())
    assert rows()[0]["logprob"] is None and "Infinity" not in Path("out.jsonl").read_text()


def test_members_of_archives(here: Path) -> None:
    import tarfile

    put(here, "p/0.png", "p/1.png")
    with tarfile.open("s.tar", "w") as archive:
        archive.add("p/1.png", "1.png")
        archive.add("p/0.png", "0.png")
    assert run("s.tar").ok == 2
    captions = {row["path"]: row["caption"] for row in rows()}
    assert captions == {"s.tar/1.png": said_of(1), "s.tar/0.png": said_of(0)}


def test_nothing_is_written_without_an_output_file(here: Path) -> None:
    put(here, "p/a.png")
    seen: list[Any] = []
    assert run("p", out=None, on_rows=seen.extend).ok == 1
    assert [row.caption for row in seen] == [said_of(0)]
    assert sorted(path.name for path in here.iterdir()) == ["p"]


# model failures


def test_one_picture_that_breaks_the_model_fails_alone(here: Path) -> None:
    put(here, *[f"{number}.png" for number in range(8)])
    captioner = FakeCaptioner(trouble=unwell(1, 6))
    assert run(".", captioner=captioner) == Counts(total=8, ok=6, failed=2)
    assert rows()[1]["error"] == "the model failed: RuntimeError: no idea about 1"
    assert [row["caption"] for row in rows() if row["status"] == "ok"] == [
        said_of(number) for number in range(8) if number not in (1, 6)
    ]


def test_a_data_error_of_the_captioner_is_about_one_picture(here: Path) -> None:
    def trouble(views: Any) -> None:
        if any(view[0, 0, 0] == 1 for view in views):
            raise DataError("too square")

    put(here, "0.png", "1.png", "2.png")
    assert run(".", captioner=FakeCaptioner(trouble=trouble)).failed == 1


def test_wrong_options_end_the_job_at_once(here: Path) -> None:
    def trouble(views: Any) -> None:
        raise UsageError("max_new_tokens is too large")

    put(here, "0.png", "1.png")
    with pytest.raises(UsageError, match="max_new_tokens is too large"):
        run(".", captioner=FakeCaptioner(trouble=trouble))
    assert rows() == []


def test_a_model_that_only_fails_ends_the_job(here: Path) -> None:
    put(here, *[f"{number:02}.png" for number in range(30)])
    dead = FakeCaptioner(trouble=unwell(*range(5, 30)))
    with pytest.raises(
        VlvError, match="failed on 16 pictures in a row, the last time: Run"
    ) as error:
        run(".", captioner=dead)
    assert "--retry-failed" in (error.value.hint or "")
    done = len(rows())
    assert 5 <= done < 30
    assert run(".", retry_failed=True) == Counts(total=30, ok=25, skipped=5)


def test_too_few_captions_are_not_shared_out(here: Path) -> None:
    class Short(FakeCaptioner):
        def caption(self, pictures: Any, **options: Any) -> Any:
            return super().caption(pictures, **options)[:1]

    put(here, *[f"{number}.png" for number in range(5)])
    assert run(".", captioner=Short()).ok == 5
    assert [row["caption"] for row in rows()] == [said_of(number) for number in range(5)]


# going on


def test_a_second_run_skips_and_a_retry_supersedes(here: Path) -> None:
    put(here, "0.png", "1.png", "2.png")
    Path("1.png").write_bytes(b"")
    assert run(".") == Counts(total=3, ok=2, failed=1)
    first = rows()
    assert run(".") == Counts(total=3, skipped=3, skipped_failed=1)
    assert rows() == first
    assert run(".", retry_failed=True) == Counts(total=3, failed=1, skipped=2)
    Path("1.png").write_bytes(png(1))
    assert run(".", retry_failed=True) == Counts(total=3, ok=1, skipped=2)
    assert [row["path"] for row in rows()] == ["0.png", "2.png", "1.png"]
    assert rows()[:2] == [first[0], first[2]] and rows()[2]["caption"] == said_of(1)


def test_new_inputs_join_old_ones(here: Path) -> None:
    put(here, "a/0.png", "b/1.png")
    run("a")
    assert run("a", "b") == Counts(total=2, ok=1, skipped=1)
    assert run("b", retry_failed=True) == Counts(total=1, skipped=1)
    assert len(rows()) == 2


def test_overwrite_starts_anew(here: Path) -> None:
    put(here, "0.png")
    run(".", captioner=FakeCaptioner(name="old"))
    with pytest.raises(UsageError, match="holds captions of model 'old'"):
        run(".")
    assert run(".", overwrite=True).ok == 1
    assert [row["model"] for row in rows()] == ["fake-1"]


def test_a_stop_finishes_the_batch_in_flight(here: Path) -> None:
    put(here, *[f"{number:02}.png" for number in range(30)])
    captioner = FakeCaptioner()
    counts = run(".", captioner=captioner, stopped=lambda: len(captioner.batches) == 2)
    assert counts == Counts(total=30, ok=8) and counts.remaining == 22
    assert str(counts) == "30 in = 8 ok + 0 failed + 0 skipped + 22 not reached"
    assert len(rows()) == 8
    assert run(".") == Counts(total=30, ok=22, skipped=8)
    assert [row["path"] for row in rows()] == [f"{number:02}.png" for number in range(30)]


def test_a_disk_that_fills_up(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlv_core.jobs import journal

    put(here, *[f"{number}.png" for number in range(9)])
    real, room = journal._write, [2]

    def write(stream: Any, data: bytes) -> None:
        room[0] -= 1
        if room[0] < 0:
            real(stream, data[:100])
            raise OSError(28, "No space left on device")
        real(stream, data)

    monkeypatch.setattr(journal, "_write", write)
    with pytest.raises(VlvError, match="No space left on device; 8 finished rows are kept"):
        run(".")
    monkeypatch.setattr(journal, "_write", real)
    assert len(rows()) == 8
    assert run(".") == Counts(total=9, ok=1, skipped=8)


# order of memory and work


def test_decoding_runs_ahead_but_not_far(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = Input.read

    def reading(self: Input) -> bytes:
        read.append(self.key)
        return real(self)

    monkeypatch.setattr(Input, "read", reading)
    put(here, *[f"{number:02}.png" for number in range(60)])
    ahead: list[int] = []

    def look(batch: Any) -> None:
        time.sleep(0.02)
        ahead.append(len(read))

    run(".", on_rows=look, batch=2, workers=2)
    assert max(now - 2 * (number + 1) for number, now in enumerate(ahead)) <= 2 * (2 + 1)
    assert len(read) == 60


def test_progress_tells_rate_and_time_left(here: Path) -> None:
    put(here, *[f"{number}.png" for number in range(9)])
    told: list[int] = []

    def look(progress: Progress) -> None:
        told.append(progress.counts.remaining)
        assert progress.rate > 0 and progress.left_s >= 0

    run(".", on_progress=look)
    assert told == [5, 1, 0]
    assert Progress(Counts(total=3), 0.0).left_s == float("inf")
    assert Progress(Counts(total=30, ok=8, failed=2, skipped=5), 2.0).left_s == 3.0


def test_options_of_a_job_are_checked() -> None:
    for name in ("batch", "workers"):
        with pytest.raises(UsageError, match=f"{name} is 0, but must be at least 1"):
            JobOptions(**{name: 0})


# any mixture


@settings(max_examples=15, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["good", "bad", "unwell", "gone"]), min_size=1, max_size=14),
    batch=st.integers(1, 5),
    stops=st.lists(st.integers(1, 4), max_size=3),
    retry=st.booleans(),
)
def test_counts_add_up_over_any_history(
    kinds: list[str], batch: int, stops: list[int], retry: bool, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("history")
    paths = put(folder, *[f"{number:02}.png" for number in range(len(kinds))])
    for path, kind in zip(paths, kinds, strict=True):
        if kind == "bad":
            path.write_bytes(b"nothing")
        if kind == "gone":
            path.unlink()
    sick = [number for number, kind in enumerate(kinds) if kind == "unwell"]
    inputs = [Input(str(path), str(path)) for path in paths]
    job = JobOptions(batch=batch, retry_failed=retry)
    for stop_after in [*stops, 1000]:
        captioner, calls = FakeCaptioner(trouble=unwell(*sick)), [0]

        def stopped(calls: list[int] = calls, stop_after: int = stop_after) -> bool:
            calls[0] += 1
            return calls[0] >= stop_after

        out = folder / "out.jsonl"
        counts = caption_job(captioner, inputs, out=out, job=job, stopped=stopped)
        assert counts.total == counts.ok + counts.failed + counts.skipped + counts.remaining
    written = rows(str(out))
    assert counts.remaining == 0
    assert sorted(row["path"] for row in written) == sorted(map(str, paths))
    expected = {
        str(p): "ok" if k == "good" else "failed" for p, k in zip(paths, kinds, strict=True)
    }
    assert {row["path"]: row["status"] for row in written} == expected
