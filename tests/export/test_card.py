"""The model card, and which figure stands for a level."""

import math
from dataclasses import replace

import pytest

from vlv_export.card import card, tightest
from vlv_export.manifest import SCHEMA, FileEntry, GraphEntry, Manifest, VariantEntry
from vlv_export.parity.report import Check, Level, Report, judged


def check(value: float, **bound: float) -> Check:
    return Check(part="head", output="logits", figure=f"f{value:g}", value=value, **bound)


@pytest.mark.parametrize(
    ("checks", "value"),
    [
        ([check(1e-7, most=1e-5), check(5e-6, most=1e-5)], 5e-6),
        ([check(0.9999, least=0.999), check(0.5, least=0.1)], 0.5),
        ([check(0, most=0), check(1e-9, most=1e-5)], 1e-9),
        ([check(1, most=0), check(0.9, most=1)], 1),
        ([check(7), check(0, most=1)], 0),
    ],
)
def test_the_figure_nearest_to_its_bound_stands_for_a_level(
    checks: list[Check], value: float
) -> None:
    found = tightest(judged("L1", checks))
    assert found is not None
    assert found.value == value


def test_a_figure_that_is_no_number_is_beyond_every_bound() -> None:
    found = tightest(judged("L1", [check(2, most=1), check(math.nan, most=1)]))
    assert found is not None
    assert math.isnan(found.value)


def test_a_level_that_judges_nothing_has_none() -> None:
    assert tightest(Level(level="L4", state="not applicable")) is None
    assert tightest(judged("L1", [check(7)])) is None


def test_the_card_says_what_manifest_and_reports_say_and_no_more() -> None:
    report = Report(
        model="tiny",
        variant="onnx-int8",
        dtype="int8",
        levels=(
            judged("L1", [check(0.25, most=1)]),
            Level(level="L4", state="not applicable", reason="random weights"),
        ),
    )
    text = card(manifest(report, random_weights=True), {"onnx-int8": report})
    for expected in (
        "# tiny",
        "What the model has seen: shapes",
        "Licence: not stated",
        "**The weights are random**",
        "| onnx-int8 | 3.0 MB | int8 90%, float32 10% | proved | L1 passed, L4 not applicable |",
        "| onnx-int8 | L1 | passed | part 'head': f0.25 of 'logits' is 0.25 (at most 1) |",
        "| onnx-int8 | L4 | not applicable | random weights |",
        "- head: `abc`",
    ):
        assert expected in text
    assert "redraws" not in text
    assert "random" not in card(manifest(report, random_weights=False), {})


def test_the_card_names_the_default_and_how_to_use_it() -> None:
    text = card(manifest(report(), random_weights=False), {})
    assert "Captions pictures with onnxruntime, without torch." in text
    assert "vlv caption --model THIS_FOLDER" in text
    assert "`onnx-int8` runs if none is named." in text


def test_without_a_default_the_card_sends_readers_to_the_variants() -> None:
    text = card(replace(manifest(report(), random_weights=False), default=None), {})
    assert "Captions pictures with other programs." in text
    assert "runs none of its variants: `variants/NAME/README.md` says what does." in text
    assert "vlv caption" not in text and "None" not in text


def report() -> Report:
    return Report(model="tiny", variant="onnx-int8", dtype="int8", levels=())


def manifest(report: Report, *, random_weights: bool) -> Manifest:
    # two parts that share one file of weights
    graphs = {
        part: GraphEntry(file=f"variants/onnx-int8/{part}.onnx", data=("variants/onnx-int8/d",))
        for part in ("encoder", "head")
    }
    entry = VariantEntry(
        exporter="onnx",
        dtype="int8",
        state="proved",
        graphs=graphs,
        precision={"requested": "int8", "proved": {"int8": 0.9, "float32": 0.1}},
        parity=report.summary(),
    )
    names = [graph.file for graph in graphs.values()] + ["variants/onnx-int8/d"]
    return Manifest(
        schema=SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        tool={"name": "vlv-export", "version": "0"},
        packages={"numpy": "2"},
        host={"os": "Linux", "machine": "x86_64"},
        model={
            "name": "tiny",
            "domain": "shapes",
            "licence": "",
            "random_weights": random_weights,
            "parts": {"head": "abc"},
        },
        files={name: FileEntry(sha256="", bytes=1_000_000) for name in names},
        variants={"onnx-int8": entry},
        default="onnx-int8",
    )


def test_what_an_engine_waits_for_is_said_once_and_what_was_not_run_by_name() -> None:
    waits = "trt-fp16 waits for its machine: here is no GPU"
    pending = VariantEntry(exporter="trt", dtype="fp16", state="pending", graphs={}, waits=waits)
    built = replace(pending, exporter="rtx", state="built", waits="")
    known = manifest(report(), random_weights=False)
    engines = {"trt-fp16": pending, "rtx-fp16-sm86": built}
    text = card(replace(known, variants={**known.variants, **engines}), {})
    assert f"\n{waits}.\n" in text
    assert "\nrtx-fp16-sm86: was built and inspected, and nobody has run it" in text
