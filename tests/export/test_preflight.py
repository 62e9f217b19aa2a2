"""An artefact that is damaged, changed, foreign or unfit is refused in a sentence, unopened."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.export import tiny_artefact
from vlv_core.errors import ConfigError, MissingExtra, ModelError, VlvError
from vlv_export import Runtime, preflight
from vlv_export.external_data import Span, check_external_data, spans
from vlv_export.manifest import read_manifest, write_manifest
from vlv_export.preflight import check_artefact, needed_files
from vlv_export.runtime._onnxruntime import open_session

HEAD = "variants/onnx-fp32/head.onnx"
WEIGHTS = "variants/onnx-fp32/head.data"


@pytest.fixture
def out(artefact: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(artefact, tmp_path / "OUT")


def change(path: Path, **fields: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def flip(path: Path, at: int) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_whole_artefact_passes(out: Path) -> None:
    for check in ("fast", "full"):
        manifest = check_artefact(out, parts="all", check=check)  # type: ignore[arg-type]
        assert manifest.default == "onnx-fp32"


def test_a_folder_without_a_manifest_is_no_artefact(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no finished artefact") as told:
        Runtime.open(tmp_path)
    assert told.value.hint == "vlv-export MODEL -o OUT --onnx writes one"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": "vlv-artefact/9"}, "schema 'vlv-artefact/9'; this version of vlv reads"),
        ({"default": "onnx-int4"}, "no variant 'onnx-int4'; the artefact has onnx-fp32"),
        ({"more": 1}, "no key 'more'"),
        ({"files": {"a": 1}}, "files.a: expected a table, got 1"),
        ({"variants": {}}, "the artefact has none"),
    ],
)
def test_wrong_manifests_are_refused(out: Path, fields: dict[str, Any], said: str) -> None:
    change(out / "manifest.json", **fields)
    with pytest.raises((ModelError, ConfigError), match=said):
        check_artefact(out)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "pending"}, "'onnx-fp32' is not built yet: it waits for its target"),
        ({"exporter": "tensorrt"}, "made by the exporter 'tensorrt'; this runtime runs"),
        ({"compat": {"onnxruntime": "99.1"}}, r"needs onnxruntime 99\.1, and \d+\.\d+"),
        ({"kv": {"capacity": 23}}, "promises 24 tokens, and the variant's cache holds 23"),
        ({"kv": {"capacity": "many"}}, "the variant's cache holds 'many'"),
        ({"graphs": {}}, "no part 'encoder'; it has"),
    ],
)
def test_unfit_variants_are_refused(out: Path, fields: dict[str, Any], said: str) -> None:
    tiny_artefact.edit(out, **fields)
    with pytest.raises(ModelError, match=said):
        check_artefact(out)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"eos": []}, r"eos \[\] are not tokens below 512"),
        ({"eos": [512]}, r"eos \[512\] are not tokens below 512"),
        ({"max_length": 0}, "a size is below 1"),
        ({"latent_shape": [4, -1, 4]}, "a size is below 1"),
        ({"prefix_length": 24}, "a prefix of 24 leaves no room in 24 tokens"),
        ({"eos": "2"}, "expected a list"),
        ({"schedule": None}, "no schedule, so the artefact cannot draw"),
    ],
)
def test_wrong_generation_facts_are_refused(out: Path, fields: dict[str, Any], said: str) -> None:
    change(out / "generation.json", **fields)
    tiny_artefact.relist(out)
    with pytest.raises((ModelError, ConfigError), match=said):
        check_artefact(out, parts="all")


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("generation.json", {"dim": 17}, r"part 'encoder' has \[4, 16\] where .* say \[4, 17\]"),
        ("generation.json", {"vocab_size": 600}, r"part 'head' has \[512\] .* say \[600\]"),
        ("generation.json", {"latent_shape": [4, 9, 9]}, "part 'denoiser' has"),
        (
            "preprocess.json",
            {"pixels": {"size": 60}},
            r"'encoder' has \[64\] .* \[60\] \(of 'view'",
        ),
        ("preprocess.json", {"view": {"size": 0}}, r"a picture's edge is 0; use 1\.\.16384"),
    ],
)
def test_small_files_of_another_model_are_refused(
    out: Path, file: str, fields: dict[str, Any], said: str
) -> None:
    change(out / file, **fields)
    tiny_artefact.relist(out)
    with pytest.raises((ModelError, ConfigError), match=said):
        check_artefact(out)


@pytest.mark.parametrize("name", [HEAD, WEIGHTS, "tokenizer.json", "preprocess.json"])
def test_missing_and_cut_files_are_told_by_name(out: Path, name: str) -> None:
    size = (out / name).stat().st_size
    os.truncate(out / name, size - 1)
    with pytest.raises(ModelError, match=f"{name} has {size - 1} bytes; the manifest says {size}"):
        check_artefact(out)
    (out / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing") as told:
        check_artefact(out)
    assert told.value.hint == "copy the artefact again"


@pytest.mark.parametrize("name", [HEAD, "tokenizer.json", "generation.json"])
def test_changed_small_files_are_found_at_once(out: Path, name: str) -> None:
    flip(out / name, 40)
    with pytest.raises(ModelError, match=f"{name} was changed since it was exported"):
        check_artefact(out)


def test_changed_weights_are_found_by_the_full_check(out: Path) -> None:
    flip(out / WEIGHTS, 100)
    check_artefact(out)
    with pytest.raises(ModelError, match=r"head\.data was changed"):
        Runtime.open(out, check="full")


def test_another_models_tokenizer_is_found(out: Path) -> None:
    text = (out / "tokenizer.json").read_text()
    (out / "tokenizer.json").write_text(text.replace('"a"', '"b"', 1))
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        check_artefact(out)


def test_parts_that_are_not_opened_may_be_absent(out: Path) -> None:
    (out / "variants/onnx-fp32/denoiser.data").unlink()
    check_artefact(out)
    with pytest.raises(ModelError, match=r"denoiser\.data is missing"):
        check_artefact(out, parts="all")


def test_unlisted_files_are_not_opened(out: Path) -> None:
    manifest = read_manifest(out)
    kept = {path: entry for path, entry in manifest.files.items() if path != "tokenizer.json"}
    write_manifest(replace(manifest, files=kept), out)
    with pytest.raises(ModelError, match=r"does not list 'tokenizer\.json'"):
        check_artefact(out)


def within(entry_of: Callable[[str], str], out: Path) -> None:
    """Give the head's graph another path in the manifest."""
    graphs = read_manifest(out).variant(None).graphs
    file = entry_of(graphs["head"].file)
    tiny_artefact.edit(out, graphs={**graphs, "head": replace(graphs["head"], file=file)})
    manifest = read_manifest(out)
    files = {**manifest.files, file: manifest.files[HEAD]}
    write_manifest(replace(manifest, files=files), out)


@pytest.mark.parametrize(
    "name", ["../head.onnx", "/etc/passwd", "variants/../../head.onnx", "a\0b", "x" * 5000]
)
def test_paths_cannot_leave_the_folder(out: Path, name: str) -> None:
    shutil.copy(out / HEAD, out.parent / "head.onnx")
    within(lambda _: name, out)
    with pytest.raises(ModelError, match=r"would lie outside|is missing|cannot be read"):
        check_artefact(out)


def test_links_cannot_leave_the_folder(out: Path) -> None:
    (out / HEAD).rename(out.parent / "head.onnx")
    (out / HEAD).symlink_to(out.parent / "head.onnx")
    with pytest.raises(ModelError, match=r"head\.onnx is a link to a file outside .*OUT") as told:
        check_artefact(out)
    assert told.value.hint == f"cp -rL {out} COPY makes a copy without links: use that"


def test_a_store_of_links_is_mended_by_the_copy_that_the_hint_asks_for(out: Path) -> None:
    linked = out.parent / "a snapshot"
    shutil.copytree(out, linked, copy_function=lambda file, link: Path(link).symlink_to(file))
    with pytest.raises(ModelError, match="is a link to a file outside") as told:
        check_artefact(linked)
    command = str(told.value.hint).partition(" makes ")[0]
    subprocess.run(shlex.split(command), cwd=out.parent, check=True)
    assert check_artefact(out.parent / "COPY", parts="all", check="full").default == "onnx-fp32"


def test_a_link_to_nothing_is_not_trusted(out: Path) -> None:
    (out / HEAD).unlink()
    (out / HEAD).symlink_to(out.parent / "nowhere")
    with pytest.raises(ModelError, match="would lie outside"):
        check_artefact(out)


def test_a_loop_of_links_is_no_file(out: Path) -> None:
    (out / HEAD).unlink()
    (out / HEAD).symlink_to(out / HEAD)
    with pytest.raises(ModelError, match=r"would lie outside|is missing"):
        check_artefact(out)


def relocated(out: Path, location: str) -> Path:
    """Let the head's weights lie elsewhere, as its graph says, and list the graph anew."""
    model = onnx.load(str(out / HEAD), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (out / HEAD).write_bytes(model.SerializeToString())
    tiny_artefact.relist(out)
    return out / HEAD


@pytest.mark.parametrize("location", ["../../../outside.data", "/etc/passwd"])
def test_graphs_cannot_read_weights_outside(out: Path, location: str) -> None:
    shutil.copy(out / WEIGHTS, out.parent / "outside.data")
    graph = relocated(out, location)
    with pytest.raises(ModelError, match="would lie outside"):
        check_artefact(out)
    with pytest.raises(ModelError, match=r"head\.onnx cannot be opened by onnxruntime"):
        open_session(graph, threads=1)


def test_graphs_cannot_read_weights_that_are_not_listed(out: Path) -> None:
    relocated(out, "encoder.data")
    with pytest.raises(ModelError, match=r"reads weights from 'encoder\.data', which the manifest"):
        check_artefact(out)


def test_weights_cut_short_are_told_though_the_manifest_agrees(out: Path) -> None:
    end = max(each.end for each in spans(out / HEAD))
    os.truncate(out / WEIGHTS, end - 1)
    tiny_artefact.relist(out)
    with pytest.raises(ModelError, match=rf"reads {end} bytes of 'head\.data', which has"):
        check_artefact(out)


def test_spans_are_those_that_onnx_reads(artefact: Path) -> None:
    for path in (artefact / "variants/onnx-fp32").glob("*.onnx"):
        graph = onnx.load(str(path), load_external_data=False).graph
        told = [{e.key: e.value for e in each.external_data} for each in graph.initializer]
        wanted = {
            Span(each["location"], int(each["offset"]) + int(each["length"]))
            for each in told
            if each
        }
        assert spans(path) == wanted
        assert wanted, path


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x3a\x7fabc", "ends within a field"),
        (b"\x3a", "ends within a number"),
        (b"\xff" * 12, "ends within a number"),
        (b"\x3b", "wire type 3"),
    ],
)
def test_damaged_graphs_are_told(tmp_path: Path, data: bytes, said: str) -> None:
    graph = tmp_path / "g.onnx"
    graph.write_bytes(data)
    with pytest.raises(ModelError, match=said):
        check_external_data(graph, {})


def test_the_files_of_a_variant_are_all_that_it_needs(out: Path, tmp_path: Path) -> None:
    manifest = read_manifest(out)
    needed = needed_files(manifest, manifest.variant(None), parts="caption")
    bare = tmp_path / "bare"
    for name in [*needed, "manifest.json"]:
        (bare / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / name, bare / name)
    assert not (bare / "variants/onnx-fp32/denoiser.onnx").exists()
    assert Runtime.open(bare, threads=1).name == Runtime.open(out, threads=1).name


def test_the_absence_of_onnxruntime_is_told(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "RUNTIMES", ("no-such-runtime",))
    with pytest.raises(MissingExtra, match="onnxruntime is not installed") as told:
        Runtime.open(out)
    assert told.value.hint == "pip install 'vlv[runtime]' supplies it"


def test_a_manifest_that_promises_another_contract_is_refused(out: Path) -> None:
    graphs = read_manifest(out).variant(None).graphs
    first, *others = graphs["head"].inputs
    wrong = replace(graphs["head"], inputs=(replace(first, dtype="float16"), *others))
    tiny_artefact.edit(out, graphs={**graphs, "head": wrong})
    with pytest.raises(ModelError, match=r"head\.onnx and the manifest disagree on prefix"):
        Runtime.open(out)


def test_every_refusal_is_one_sentence_with_a_mend(out: Path) -> None:
    flip(out / HEAD, 40)
    with pytest.raises(VlvError) as told:
        Runtime.open(out)
    assert "\n" not in told.value.message
    assert told.value.hint
