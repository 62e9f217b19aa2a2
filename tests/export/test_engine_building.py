"""`vlv-export build`: what is built, where, and that OUT is whole at every moment."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.export import tiny_artefact
from vlv_core.console import run
from vlv_core.errors import ModelError, NotProved, UsageError
from vlv_core.plugins import load_plugins
from vlv_export import building
from vlv_export.building import build_engines, plan_builds, unproved_here
from vlv_export.cli import app
from vlv_export.golden import GOLDEN
from vlv_export.manifest import VariantEntry, read_manifest, write_manifest
from vlv_export.parity.report import read_json
from vlv_export.pipeline import Outcome, Watcher
from vlv_export.publishing import free_place, with_variant
from vlv_export.tensorrt import engines, proof
from vlv_export.tensorrt.gpus import Gpu
from vlv_export.workspace import WITHIN

ENGINE = "rtx-fp16-sm86"


@pytest.fixture
def out(with_engines: Path, tmp_path: Path) -> Path:
    return tiny_artefact.copy(with_engines, tmp_path)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """The GPUs of this machine; none, unless a test adds some."""
    found: list[Gpu] = []
    for module in (engines, proof):
        monkeypatch.setattr(module, "gpus", lambda: found)
    return found


def build(out: Path, *variants: str, sm: tuple[int, ...] = ()) -> Outcome:
    wanted = plan_builds(read_manifest(out), variants=variants, sm=sm)
    plugins = load_plugins(third_party=False)
    return build_engines(out, wanted, plugins=plugins, watcher=Watcher())


def pending(out: Path, name: str = "trt-fp16", **changes: Any) -> None:
    """The artefact as `--trt` leaves it where there is no GPU."""
    manifest = read_manifest(out)
    like = manifest.variant(ENGINE)
    compat = {**like.compat, "sm": [], "runtime": "tensorrt"}
    fields = {"exporter": "trt", "waits": "it waits", "compat": compat, **changes}
    entry = replace(like, state="pending", graphs={}, **fields)
    write_manifest(replace(manifest, variants={**manifest.variants, name: entry}), out)


def tree(out: Path) -> dict[str, bytes]:
    """Every file of the artefact itself."""
    files = (path for path in out.rglob("*") if path.is_file())
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith(WITHIN)}


def test_engines_for_other_gpus_are_added(out: Path) -> None:
    before = read_manifest(out)
    outcome = build(out, sm=(89, 120))
    manifest = read_manifest(out)
    assert manifest == outcome.manifest
    assert [*manifest.variants] == [*before.variants, "rtx-fp16-sm89+120"]
    entry = manifest.variant("rtx-fp16-sm89+120")
    assert (entry.state, entry.compat["sm"]) == ("built", [89, 120])
    assert entry.compat["graphs"] == "onnx24-fp16"
    assert entry.kv == before.variant(ENGINE).kv
    assert entry.profiles == before.variant(ENGINE).profiles
    assert entry.graph("head").file == "variants/rtx-fp16-sm89+120/head.engine"
    assert manifest.default == before.default
    assert set(tree(out)) == {*manifest.files, "manifest.json", "README.md",
                              "reports/parity.json", "reports/parity.md"}  # fmt: skip
    assert not (out / WITHIN).exists()


def test_the_report_and_the_card_tell_of_the_new_engine(out: Path) -> None:
    build(out, sm=(89,))
    report = read_json(out / "reports" / "parity.json")["rtx-fp16-sm89"]
    states = {level.level: level.state for level in report.levels}
    assert (states["L0"], states["L5"], states["L1"]) == ("passed", "passed", "not run")
    assert report.level("L1").reason == "no GPU here"
    card = (out / "README.md").read_text()
    assert "| rtx-fp16-sm89 | sm89 on Linux" in card
    assert "nobody has run it" in card
    assert "pip install 'vlv[rtx]'" in card


def test_the_same_engine_again_takes_the_place_of_the_old(out: Path) -> None:
    old = read_manifest(out).variant(ENGINE).graph("head").file
    build(out, ENGINE)
    manifest = read_manifest(out)
    new = manifest.variant(ENGINE).graph("head").file
    assert new == f"variants/{ENGINE}.2/head.engine"
    assert (out / new).is_file()
    assert not (out / old).parent.exists()
    assert not [name for name in manifest.files if name.startswith(f"variants/{ENGINE}/")]
    build(out, ENGINE)
    assert read_manifest(out).variant(ENGINE).graph("head").file == old


def test_an_engine_is_built_again_for_the_gpu_that_is_here(out: Path, here: list[Gpu]) -> None:
    here.append(Gpu("another", 89))
    wanted = plan_builds(read_manifest(out), variants=[ENGINE], sm=())
    assert [each.name for each in wanted] == ["rtx-fp16-sm89"]
    here[0] = Gpu("the same", 86)
    wanted = plan_builds(read_manifest(out), variants=[ENGINE], sm=())
    assert [each.name for each in wanted] == [ENGINE]


def test_what_cannot_be_built_here_is_told_in_a_sentence(out: Path) -> None:
    pending(out)
    before = tree(out)
    with pytest.raises(
        NotProved,
        match=r"^trt-fp16 waits for its machine: here is no package tensorrt and no GPU, and",
    ) as told:
        build(out)
    assert told.value.exit_code == 5
    assert "pip install 'vlv[trt]'" in str(told.value.hint)
    assert tree(out) == before


def test_a_gpu_of_another_kind_than_asked_is_told(
    out: Path, here: list[Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = engines.library("rtx")
    monkeypatch.setattr(engines, "library", lambda name: known)
    here.append(Gpu("a card", 89))
    target = engines.Target(library="trt", dtype="fp16", sm=(90,))
    assert (
        target.waits()
        == "trt-fp16-sm90 waits for its machine: here is an sm89 GPU, and it is for sm90"
    )
    assert not replace(target, sm=(89,)).waits()


def test_what_waited_gives_way_to_what_was_built(
    out: Path, here: list[Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    pending(out, "rtx-pending", exporter="rtx")
    here.append(Gpu("a card", 75))
    done: list[str] = []
    monkeypatch.setattr(building, "prove", proves(done))
    outcome = build(out)
    assert [*outcome.manifest.variants][-1] == "rtx-fp16-sm75"
    assert "rtx-pending" not in outcome.manifest.variants
    assert done == ["rtx-fp16-sm75"]
    assert outcome.manifest.variant("rtx-fp16-sm75").waits == ""


def proves(done: list[str]) -> Any:
    """A proof of nothing but files, which remembers what it was asked for."""

    def prove(folder: Path, name: str, levels: Any, **options: Any) -> Any:
        done.append(name)
        found = proof.prove_engine(folder, name, ["L0"], plugins=options["plugins"])
        assert found.level("L0").state == "passed", found
        return found

    return prove


def test_an_engine_built_elsewhere_is_proved_where_it_can_run(
    out: Path, here: list[Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unproved_here(read_manifest(out)) == []
    here.append(Gpu("a card", 86))
    assert unproved_here(read_manifest(out)) == [ENGINE]
    done: list[str] = []
    monkeypatch.setattr(building, "prove", proves(done))
    assert build(out).manifest.variant(ENGINE).state == "built", "files alone prove no numbers"
    assert done == [ENGINE]


def test_a_proof_that_fails_leaves_out_as_it_was(out: Path) -> None:
    before = tree(out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "prove_precision", refuses)
        with pytest.raises(NotProved, match=r"rtx-fp16-sm89 is not what the model says: L0: wrong"):
            build(out, sm=(89,))
    assert tree(out) == before


def refuses(*args: Any, **options: Any) -> Any:
    raise NotProved("wrong types")


@pytest.mark.parametrize("moment", ["compile_engines", "prove", "publish"])
def test_stopped_at_any_moment_out_is_whole_and_the_work_goes_on(
    moment: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, built = tree(out), []
    compiled = engines.compile_engines

    def compile_engines(*args: Any, **options: Any) -> VariantEntry:
        built.append(options["target"].sm)
        return compiled(*args, **options)

    def stop(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "compile_engines", compile_engines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, moment, stop)
        with pytest.raises(KeyboardInterrupt):
            build(out, sm=(89,))
    told = json.loads(before["manifest.json"])
    assert {name: tree(out)[name] for name in told["files"]} == {
        name: before[name] for name in told["files"]
    }
    assert tree(out)["manifest.json"] == before["manifest.json"]
    assert build(out, sm=(89,)).manifest.variant("rtx-fp16-sm89").state == "built"
    assert len(built) == (2 if moment == "publish" else 1)


def test_lost_and_changed_golden_values_prove_nothing(out: Path) -> None:
    golden = out / GOLDEN
    golden.write_bytes(golden.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=r"golden.safetensors was changed since it was exported"):
        build(out, sm=(89,))
    golden.unlink()
    with pytest.raises(ModelError, match=r"golden.safetensors is missing"):
        build(out, sm=(89,))
    assert "rtx-fp16-sm89" not in read_manifest(out).variants


def test_changed_graphs_are_not_compiled(out: Path) -> None:
    data = out / read_manifest(out).variant("onnx24-fp16").graph("head").data[0]
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=r"head.data was changed since it was exported"):
        build(out, sm=(89,))


def test_engines_need_the_graphs_that_they_are_of(out: Path) -> None:
    manifest = read_manifest(out)
    rest = {name: each for name, each in manifest.variants.items() if name != "onnx24-fp16"}
    write_manifest(replace(manifest, variants=rest), out)
    with pytest.raises(ModelError, match="holds no graphs 'onnx24-fp16', which its engines"):
        build(out, sm=(89,))


def test_wrong_wishes_are_told_with_what_there_is(out: Path) -> None:
    manifest = read_manifest(out)
    with pytest.raises(UsageError, match=f"onnx-fp32 is no engine; engines .*: {ENGINE}"):
        plan_builds(manifest, variants=["onnx-fp32"], sm=())
    with pytest.raises(ModelError, match="no variant 'rtx'"):
        plan_builds(manifest, variants=["rtx"], sm=())
    with pytest.raises(UsageError, match="tensorrt-rtx does not build for sm90"):
        plan_builds(manifest, variants=(), sm=(90,))


def test_two_builds_at_once_are_refused(out: Path) -> None:
    with building.work_within(out), pytest.raises(UsageError, match="another export is writing"):
        build(out, sm=(89,))


def test_a_place_is_never_one_that_is_in_use(out: Path) -> None:
    manifest = read_manifest(out)
    assert free_place(out, manifest, ENGINE) == f"variants/{ENGINE}.2"
    left = out / "variants" / "new" / "old.engine"
    left.parent.mkdir()
    left.write_text("of a build that was killed")
    assert free_place(out, manifest, "new") == "variants/new"
    assert not left.exists()


def test_the_default_stays_unless_it_goes(out: Path) -> None:
    manifest = read_manifest(out)
    entry = manifest.variant(ENGINE)
    added = with_variant(manifest, "new", entry, files={})
    assert added.default == manifest.default
    alone = replace(manifest, variants={ENGINE: entry}, default=None)
    assert with_variant(alone, ENGINE, entry, files={}).default == ENGINE


def test_the_command_builds_and_says_what_came_of_it(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, name="vlv-export", args=["build", str(out)]) == 0
    assert "nothing waits: onnx-fp32" in capsys.readouterr().out
    assert run(app, name="vlv-export", args=["build", str(out), "--sm", "89"]) == 0
    said = capsys.readouterr()
    assert "rtx-fp16-sm89" in said.out and "no GPU here" in said.out
    assert "build rtx-fp16-sm89" in said.err
    pending(out)
    assert run(app, name="vlv-export", args=["build", str(out)]) == 5
    assert "error: trt-fp16 waits for its machine" in capsys.readouterr().err
    assert run(app, name="vlv-export", args=["inspect", str(out)]) == 0
    assert "it waits" in capsys.readouterr().out


def test_the_target_needs_neither_torch_nor_onnx(out: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnx_ir', 'onnxruntime', 'transformers', 'ml_dtypes'):\n"
        "    sys.modules[name] = None\n"
        "from vlv_core.console import run\n"
        "from vlv_export.cli import app\n"
        f"sys.exit(run(app, name='vlv-export', args=['build', {str(out)!r}, '--sm', '80']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          env=environment, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_manifest(out).variant("rtx-fp16-sm80").state == "built"
