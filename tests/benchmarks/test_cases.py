"""Each captioner case on the bundled model, in this process: stages add up, counts are what was
done, and captions are held against torch's."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vlv_benchmarks import _reference, quality
from vlv_benchmarks.backends import open_captioner
from vlv_benchmarks.child import peak_memory_mb, perform
from vlv_benchmarks.inputs import write_pictures
from vlv_benchmarks.job import Job, Order
from vlv_benchmarks.planning import make_plan
from vlv_benchmarks.record import Row
from vlv_benchmarks.turn import Turn
from vlv_core.plugins import load_plugins

PICTURES = 4
PLUGINS = load_plugins()


def order(case: str) -> Order:
    return Order(
        model="mini", plugins=PLUGINS, cases=(case,), rows=("torch-eager",), quick=True, turns=1
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and what torch says of them."""
    folder = tmp_path_factory.mktemp("inputs")
    write_pictures(folder, order("single"), count=PICTURES)
    row = Row(case="prepare", backend="x", label="x", model="mini")
    settings = {"model": "mini", "draws": True, "count": PICTURES, "pairs": [[2, 3.0]]}
    _reference.run(Job(run="", row=row, inputs=str(folder), settings=settings))
    return folder


def turn_of(case: str, inputs: Path, scratch: Path, **settings: Any) -> tuple[Turn, Job]:
    plan = make_plan(order(case))
    planned = plan.rows[0]
    row = replace(planned.row, batch=min(planned.row.batch, PICTURES))
    told = {**planned.settings, "images": PICTURES, "calls": 2, "warmup": 1, **settings}
    job = Job(run=plan.runs[case], row=row, settings=told, inputs=str(inputs),
              scratch=str(scratch))  # fmt: skip
    turn = perform(job)
    assert turn.error is None
    return turn, job


@pytest.mark.parametrize(
    ("case", "stages", "images"),
    [
        ("single", {"prepare", "encode", "prefill", "decode", "words"}, 2),
        ("offline", {"encode", "prefill", "decode", "words"}, 2 * PICTURES),
        ("embed", {"prepare", "encode"}, 2 * PICTURES),
        ("reconstruct", {"encode", "denoise", "pictures"}, 2 * PICTURES),
    ],
)
def test_a_case_says_where_its_time_goes(
    case: str, stages: set[str], images: int, inputs: Path, tmp_path: Path
) -> None:
    turn, _ = turn_of(case, inputs, tmp_path)
    assert set(turn.stages) == stages | {"total"}
    spent = [sum(turn.stages[name][call] for name in stages) for call in range(2)]
    totals = turn.stages["total"]
    assert all(0.5 * whole < parts <= whole for parts, whole in zip(spent, totals, strict=True))
    assert len(totals) == 2 and len(turn.discarded["total"]) == 1
    assert turn.counts["images"] == images
    assert turn.quality.parity == "passed" and turn.output_sha256
    assert {name for name in turn.work if name != "pictures"} <= stages


def test_work_of_a_caption_is_what_its_sizes_say(inputs: Path, tmp_path: Path) -> None:
    turn, job = turn_of("single", inputs, tmp_path, calls=PICTURES)
    counted = quality.reference(job.reference)
    tokens = sum(map(len, counted["tokens"]))
    steps = turn.work["decode"]
    # a step multiplies each weight of the head once; attention adds a little
    weights = counted["work"]["head bytes"] / 4
    assert counted["work"]["decode"] == pytest.approx(2 * weights, rel=0.15)
    # each token after the first is a step, and so is the end of text
    assert steps.operations == pytest.approx(counted["work"]["decode"] * tokens, rel=1e-9)
    assert steps.bytes > counted["work"]["head bytes"] * tokens
    assert turn.counts["tokens"] == tokens
    assert turn.facts["step_allocations"] > 10, "by the head's products at least"
    assert turn.measures["first_token_ms"] > 0 and turn.measures["next_token_ms"] > 0


def test_offline_reads_outside_the_clock_at_one_batch_alone() -> None:
    asked = replace(order("offline"), quick=False)
    work = [(each.row.batch, bool(each.row.options)) for each in make_plan(asked).rows]
    assert work == [(1, False), (8, False), (64, False), (64, True)]


def test_without_an_artefact_a_case_has_one_row_that_says_so() -> None:
    plan = make_plan(replace(order("single"), rows=()))
    (refusal,) = [each.refusal for each in plan.rows if each.row.backend == "onnxruntime"]
    assert refusal.startswith("no artefact is given: vlv-export mini -o OUT --onnx")


def test_compiling_is_given_time_and_its_code_is_kept_for_other_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "true")
    rows = make_plan(replace(order("single"), rows=(), quick=False)).rows
    eager, compiled = ([each for each in rows if each.row.backend == name]
                       for name in ("torch-eager", "torch-compile"))  # fmt: skip
    assert {each.timeout_s for each in eager} == {300.0}
    assert {(each.timeout_s, each.refusal) for each in compiled} == {(1200.0, "")}
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "before")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    open_captioner(Job(run="", row=compiled[0].row, settings=compiled[0].settings,
                       inputs=str(tmp_path)))  # fmt: skip
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")


def test_coldstart_begins_where_the_process_was_started(inputs: Path, tmp_path: Path) -> None:
    import time

    plan = make_plan(order("coldstart"))
    job = Job(run=plan.runs["coldstart"], row=plan.rows[0].row, settings=plan.rows[0].settings,
              inputs=str(inputs), scratch=str(tmp_path), spawned=time.monotonic() - 1)  # fmt: skip
    turn = perform(job)
    assert turn.error is None and turn.quality.parity == "passed"
    (total,) = turn.stages["total"]
    assert turn.stages["start"][0] > 1000
    assert sum(samples[0] for name, samples in turn.stages.items() if name != "total") == (
        pytest.approx(total, rel=1e-5)
    )


def job_of(inputs: Path, dtype: str, **settings: Any) -> Job:
    row = Row(case="single", backend="x", label="x", model="mini", dtype=dtype)
    return Job(run="", row=row, inputs=str(inputs), settings=settings)


def test_other_words_fail_parity(inputs: Path) -> None:
    said = quality.reference(inputs / "reference")["tokens"]
    assert quality.of_captions(job_of(inputs, "fp32"), said).parity == "passed"
    wrong = [said[1], *said[1:]]
    found = quality.of_captions(job_of(inputs, "fp32"), wrong)
    assert found.parity == "failed" and "captions the same 75%" in found.reason
    rounded = quality.of_captions(job_of(inputs, "int8"), wrong)
    assert rounded.parity == "passed"
    assert rounded.figures["captions"] == 4 and rounded.figures["captions the same"] == 0.75
    lost = quality.of_captions(job_of(inputs, "int8"), [[999]] * len(said))
    assert lost.parity == "failed" and "0% of tokens before captions part" in lost.reason


def test_rounded_words_must_be_torchs_in_the_main_wherever_they_stand(inputs: Path) -> None:
    said = quality.reference(inputs / "reference")["tokens"]
    # the second half in another order, and in other words
    half = [len(each) // 2 + 1 for each in said]
    turned = [each[:n] + each[n:][::-1] for each, n in zip(said, half, strict=True)]
    other = [each[:n] + [999] * len(each[n:]) for each, n in zip(said, half, strict=True)]
    kept = quality.of_captions(job_of(inputs, "int4"), turned)
    assert kept.parity == "passed" and kept.figures["tokens in common"] == 1
    assert kept.figures["tokens before they part"] < 0.8
    lost = quality.of_captions(job_of(inputs, "int4"), other)
    assert lost.parity == "failed" and "in common, due 85%" in lost.reason


def test_rounded_weights_are_judged_by_more_captions_than_were_timed(inputs: Path) -> None:
    said = quality.reference(inputs / "reference")["tokens"]
    asked: list[Path] = []

    class Captioner:
        def caption(self, pictures: list[Path]) -> list[SimpleNamespace]:
            asked.extend(pictures)
            return [SimpleNamespace(tokens=tuple(each)) for each in said[1:]]

    captioner: Any = Captioner()
    # one caption that parts from torch's at once, and three that do not
    odd = [[999, *said[0][1:]]]
    assert quality.of_captions(job_of(inputs, "int4"), odd).parity == "failed"
    more = quality.with_more(job_of(inputs, "int4"), captioner, odd)
    assert [path.name for path in asked] == ["000001.png", "000002.png", "000003.png"]
    assert more == [*odd, *said[1:]]
    assert quality.of_captions(job_of(inputs, "int4"), more).parity == "passed"
    # float32 has to say what torch says, of what was timed
    assert quality.with_more(job_of(inputs, "fp32"), captioner, odd) is odd
    assert quality.with_more(job_of(inputs, "int4"), captioner, said) is said
    assert len(asked) == 3


def test_an_artefact_that_was_not_proved_fails_parity(inputs: Path) -> None:
    said = quality.reference(inputs / "reference")["tokens"]
    found = quality.of_captions(job_of(inputs, "int8", proof="failed"), said)
    assert found.parity == "failed" and found.reason == "the artefact's own proof: failed"


def test_without_torch_an_artefacts_own_proof_has_to_do(tmp_path: Path) -> None:
    proved = job_of(tmp_path, "fp32", proof="passed")
    assert quality.of_captions(proved, [[1]]).parity == "passed"
    found = quality.of_captions(job_of(tmp_path, "fp32"), [[1]])
    assert found.parity == "failed" and "nothing here to compare with" in found.reason


def test_other_embeddings_and_pictures_fail_parity(inputs: Path) -> None:
    job, z = job_of(inputs, "fp32"), np.load(inputs / "reference" / "z.npy")
    assert quality.of_embeddings(job, z).parity == "passed"
    assert quality.of_embeddings(job, z[::-1]).parity == "failed"
    name = "drawn-2-3.npy"
    drawn = np.load(inputs / "reference" / name)
    same, other = (quality.of_pictures(job, each, name) for each in (drawn, drawn[::-1]))
    assert same.parity == "passed" and other.parity == "failed"
    assert other.figures["PSNR dB"] < 40 < same.figures["PSNR dB"]


def test_pictures_are_written_once_and_listed(inputs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (inputs / "pictures").iterdir()}
    digests = write_pictures(inputs, order("single"), count=PICTURES)
    assert len(digests) == PICTURES == len(set(digests.values()))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_peak_memory_is_this_process_own() -> None:
    held = np.ones(50_000_000, np.uint8)
    assert 50 < peak_memory_mb() < 20_000 and held.all()
