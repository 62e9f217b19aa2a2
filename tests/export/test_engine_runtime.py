"""Engines run through the whole runtime on a fake device: the words are those of the graphs."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export import engine_graphs, fake_device, tiny_artefact
from tests.export.engine_graphs import ENGINE
from tests.export.fake_device import FakeDevice, fake_sessions
from vlv_core.errors import ModelError, UsageError
from vlv_core.generation import GenerationOptions
from vlv_core.protocols import Caption, Encoded
from vlv_core.specs import OpenOptions
from vlv_export import Runtime, preflight
from vlv_export.manifest import read_manifest
from vlv_export.parity import LEVELS, check
from vlv_export.parity import target as target_module
from vlv_export.runtime import captioner, open_artefact
from vlv_export.runtime import head as head_module
from vlv_export.runtime.captioner import choose_variant, open_checked
from vlv_export.runtime.engine import opening
from vlv_export.runtime.engine.device import DeviceFacts
from vlv_export.runtime.engine.sessions import EngineSessions, check_contract

OPTIONS = {
    "greedy": GenerationOptions(max_new_tokens=18, stop_on_repetition=False),
    "sampling": GenerationOptions(max_new_tokens=18, temperature=1.0, seed=3),
    "beams": GenerationOptions(max_new_tokens=18, beams=4, stop_on_repetition=False),
}
ROWS = 7
"""more than twice the profiles' three"""


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    prefix = 5 * np.random.default_rng(0).standard_normal((ROWS, 4, 16)).astype(np.float32)
    return Encoded(prefix, prefix, None, prefix)


@pytest.fixture
def sessions(compiled: Path) -> EngineSessions:
    return fake_sessions(compiled, read_manifest(compiled), ENGINE)


@pytest.fixture
def engine(compiled: Path, sessions: EngineSessions) -> Runtime:
    return open_checked(sessions, read_manifest(compiled), parts="all")


@pytest.fixture(scope="module")
def graphs(compiled: Path) -> Runtime:
    """The same graphs on onnxruntime, without a device."""
    return Runtime.open(compiled, variant="onnx24-fp16", parts="all", threads=1)


def device_of(engine: Runtime) -> FakeDevice:
    found: Any = engine.backend.sessions
    assert isinstance(found.device, FakeDevice)
    return found.device


def said(runtime: Runtime, encoded: Encoded, name: str) -> list[Caption]:
    return runtime.caption(encoded, options=OPTIONS[name], keys=range(len(encoded)))


@pytest.mark.parametrize("name", OPTIONS)
def test_captions_are_those_of_the_graphs(
    name: str, engine: Runtime, graphs: Runtime, encoded: Encoded
) -> None:
    found, wanted = said(engine, encoded, name), said(graphs, encoded, name)
    assert [each.tokens for each in found] == [each.tokens for each in wanted]
    assert [each.logprob for each in found] == pytest.approx([each.logprob for each in wanted])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_cache_that_grows_takes_its_rows_along(
    name: str, engine: Runtime, graphs: Runtime, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = said(graphs, encoded, name)
    monkeypatch.setattr(head_module, "ROOM", 6)
    found = said(engine, encoded, name)
    assert [each.tokens for each in found] == [each.tokens for each in wanted]
    assert {cache.capacity for cache, _ in engine.backend.head._pool} == {16, 24}


def test_pictures_are_embedded_and_redrawn_as_by_the_graphs(
    engine: Runtime, graphs: Runtime
) -> None:
    pictures = list(np.random.default_rng(1).integers(0, 256, (ROWS, 64, 64, 3), dtype=np.uint8))
    np.testing.assert_array_equal(engine.encode(pictures).z, graphs.encode(pictures).z)
    drawn = [each.reconstruct(pictures[:4], seed=1, steps=2) for each in (engine, graphs)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    read = [each.from_text(["a circle", ""]).context for each in (engine, graphs)]
    np.testing.assert_array_equal(read[0], read[1])


def test_a_batch_beyond_the_profiles_is_run_in_pieces(
    engine: Runtime, sessions: EngineSessions, encoded: Encoded
) -> None:
    engine.caption(encoded, options=GenerationOptions(max_new_tokens=3, stop_on_repetition=False))
    head: Any = sessions.session("head.16")
    pieces = [(0, 3), (0, 3), (0, 1)]
    # One prefill by the long profile, two steps by the short one.
    assert head.runs[:3] == pieces
    assert head.runs[3:9] == [(1, rows) for _, rows in pieces] * 2


def test_a_step_moves_tokens_positions_and_candidates_alone(
    engine: Runtime, encoded: Encoded
) -> None:
    stepper = engine.backend.start(encoded.prefix, 24)
    top = stepper.prefill(4)
    stepper.step(top.ids[:, 0], 4)
    device = device_of(engine)
    device.uploads.clear()
    device.downloads.clear()
    stepper.step(top.ids[:, 0], 4)
    assert sum(device.uploads) == 2 * ROWS * 8, "tokens and positions"
    assert sum(device.downloads) == ROWS * 4 * (4 + 8), "k log-probabilities and ids a row"


def test_memory_is_asked_for_once(engine: Runtime, encoded: Encoded) -> None:
    first = said(engine, encoded, "beams")
    said(engine, encoded, "beams")
    gc.collect()
    blocks = len(device_of(engine).memory)
    for _ in range(3):
        assert said(engine, encoded, "beams") == first
        gc.collect()
    assert len(device_of(engine).memory) == blocks


def test_beams_copy_what_differs_alone(engine: Runtime, encoded: Encoded) -> None:
    said(engine, encoded, "beams")
    copies = device_of(engine).copies
    layers = engine.backend.head.layers
    row = sum(24 * each.heads * each.width * 2 for each in layers)
    assert copies and max(copies) < row
    assert np.median(copies) < row / 4


def test_where_memory_is_short_what_is_kept_is_freed_first(
    compiled: Path, encoded: Encoded
) -> None:
    manifest = read_manifest(compiled)
    roomy = open_checked(fake_sessions(compiled, manifest, ENGINE), manifest)
    pictures = np.zeros((3, 64, 64, 3), np.uint8)
    roomy.encode(list(pictures))
    gc.collect()
    device = device_of(roomy)
    device.room = 0
    assert len(roomy.caption(encoded, options=OPTIONS["greedy"])) == ROWS
    assert device.freed, "what pictures had taken was given back"
    device.room = -(10**9)
    with pytest.raises(MemoryError, match="the GPU has no"):
        roomy.caption(encoded[slice(0, 5)], options=OPTIONS["greedy"])


def test_inputs_of_another_form_are_refused(sessions: EngineSessions) -> None:
    with pytest.raises(ModelError, match="part 'encoder' needs the input 'view'"):
        sessions.run("encoder", {})
    with pytest.raises(ModelError, match=r"takes 'view' as .*; \(1, 32, 32, 3\) was given"):
        sessions.run("encoder", {"view": np.zeros((1, 32, 32, 3), np.uint8)})
    with pytest.raises(ModelError, match="this variant has no part 'nothing'"):
        sessions.run("nothing", {})
    with pytest.raises(ModelError, match=r"takes queries 1 to 77, and 78 were given"):
        sessions.run("condition", {"z": np.zeros((1, 78, 16), np.float32)})
    wrong = {"z": np.zeros((1, 4, 16))}
    answers = {"prefix": np.empty((1, 4, 16), np.float32)}
    with pytest.raises(ModelError, match="'z' is float64, and float32 is read"):
        sessions.bind("condition", wrong, answers, varying=())


def test_an_engine_of_another_form_than_told_is_refused(
    compiled: Path, sessions: EngineSessions
) -> None:
    entry = sessions.graph("encoder")
    engine: Any = sessions.session("encoder")
    view = entry.inputs[0]
    for other in (replace(view, dtype="float32"), replace(view, shape=("batch", 32, 32, 3))):
        with pytest.raises(ModelError, match=r"encoder\.engine and the manifest disagree on view"):
            check_contract(replace(entry, inputs=(other,)), engine)
    with pytest.raises(ModelError, match="disagree on prefix"):
        check_contract(replace(entry, outputs=entry.outputs[:-1]), engine)
    check_contract(entry, engine)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EngineSessions]]:
    """A machine with an sm89 GPU, whose engines are the graphs."""
    made: list[EngineSessions] = []

    def opened(folder: Path, manifest: Any, variant: str) -> EngineSessions:
        made.append(fake_sessions(folder, manifest, variant))
        return made[-1]

    monkeypatch.setattr(opening, "open_engines", opened)
    monkeypatch.setattr(preflight, "check_engines", lambda entry, name: None)
    yield made


@pytest.mark.usefixtures("here")
def test_every_level_holds_on_a_device(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlv_export.parity.engine.STEPS", 60)
    levels = [each for each in LEVELS if each not in ("L0", "L6")]
    report = check(compiled, ENGINE, levels)
    assert report.verdict == "passed", report.failures()
    assert {level.state for level in report.levels} == {"passed", "not applicable"}
    parts = {each.part for each in report.level("L5").checks}
    assert parts >= {"head", "head.16"}


def test_a_built_engine_is_proved_on_the_golden_file_first(
    compiled: Path, here: list[EngineSessions]
) -> None:
    runtime = Runtime.open(compiled, variant=ENGINE)
    assert runtime.variant == ENGINE
    proof, used = here
    assert {*proof._open} >= {"encoder", "head", "head.16", "condition"}
    assert used is runtime.backend.sessions


def test_an_engine_that_says_other_things_is_refused(
    compiled: Path, tmp_path: Path, here: list[EngineSessions], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(engine: fake_device.FakeEngine, *given: Any) -> None:
        """A device on which caches are not updated where they lie."""
        past = {each.name for each in engine.entry.inputs if each.name.startswith("past.")}
        before = {name: given[0][name] for name in past}
        kept = {
            name: engine.at(address, int(np.prod(shape)) * 2).copy()
            for name, (address, shape) in before.items()
        }
        real(engine, *given)
        for name, (address, _) in before.items():
            engine.at(address, kept[name].nbytes)[:] = kept[name]

    real = fake_device.FakeEngine.run
    monkeypatch.setattr(fake_device.FakeEngine, "run", stale)
    with pytest.raises(ModelError, match=rf"'{ENGINE}' was never proved, .* part 'head'"):
        Runtime.open(compiled, variant=ENGINE)


def test_bytes_that_change_after_preflight_are_not_loaded(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tiny_artefact.copy(compiled, tmp_path)
    loaded: list[bytes] = []

    class Library:
        """Opens nothing."""

        def __init__(self, *given: Any, **named: Any) -> None: ...

        def open(self, data: bytes, *, sha256: str, file: str) -> Any:
            loaded.append(data)

    hardware = pytest.importorskip("vlv_export.runtime.engine._device")
    library = pytest.importorskip("vlv_export.runtime.engine._tensorrt")
    monkeypatch.setattr(hardware, "CudaDevice", FakeDevice)
    facts = DeviceFacts(name="a GPU", sm=89, free_bytes=10**9)
    monkeypatch.setattr(hardware, "find_device", lambda: facts)
    monkeypatch.setattr(library, "TensorRt", Library)
    opened = opening.open_engines(out, read_manifest(out), ENGINE)
    path = opened.file("encoder")
    path.write_bytes(path.read_bytes().replace(b"engine", b"angine"))
    with pytest.raises(ModelError, match=r"encoder\.engine was changed since it was built"):
        opened.session("encoder")
    assert not loaded
    with pytest.raises(AttributeError):
        opened.session("head")
    assert loaded == [b"the engine of head"]


def test_a_device_chooses_the_variant(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(compiled)
    assert choose_variant(manifest, "float32", "cuda") == ENGINE
    assert choose_variant(manifest, "float16", "cuda:0") == ENGINE
    assert choose_variant(manifest, ENGINE, "auto") == ENGINE
    assert choose_variant(manifest, "float32", "cpu") is None
    assert choose_variant(manifest, "float16", "auto") == "onnx-fp16"
    assert choose_variant(manifest, "onnx24-fp16", "cpu") == "onnx24-fp16"
    without = {name: each for name, each in manifest.variants.items() if name != "onnx-fp16"}
    for dtype in ("float16", "fp16", "onnx-fp16"):
        chosen = choose_variant(replace(manifest, variants=without), dtype, "auto")
        assert chosen == "onnx24-fp16", "the graphs that engines are made from, for want of others"
    for dtype in ("float32", ENGINE):
        with pytest.raises(UsageError, match=r"run on the first GPU .* not on 'cuda:1'") as caught:
            choose_variant(manifest, dtype, "cuda:1")
        assert caught.value.hint == "CUDA_VISIBLE_DEVICES=1, and --device cuda"
    with pytest.raises(UsageError, match="no variant of this artefact runs on a GPU in bf16"):
        choose_variant(manifest, "bf16", "cuda")
    with pytest.raises(UsageError, match=f"'{ENGINE}' runs on a GPU, not on 'cpu'"):
        choose_variant(manifest, ENGINE, "cpu")
    with pytest.raises(UsageError, match="run on the CPU, not on 'cuda'"):
        choose_variant(manifest, "onnx24-fp16", "cuda")
    entry = manifest.variant(ENGINE)
    other = replace(entry, compat={**entry.compat, "sm": [120]})
    both = replace(manifest, variants={"rtx-fp16-sm120": other, **manifest.variants})
    assert choose_variant(both, "float32", "cuda") == "rtx-fp16-sm120"
    monkeypatch.setattr(captioner, "gpus", lambda: [DeviceFacts(name="", sm=89, free_bytes=0)])
    assert choose_variant(both, "float32", "cuda") == ENGINE


@pytest.mark.usefixtures("here")
def test_the_opener_takes_an_engine_by_name_or_device(compiled: Path) -> None:
    for options in (OpenOptions(dtype=ENGINE), OpenOptions(device="cuda")):
        assert open_artefact(compiled, options).variant == ENGINE


def test_parity_opens_engines_as_users_do() -> None:
    assert target_module.sessions_of is captioner.sessions_of
    assert engine_graphs.ENGINE.startswith("rtx-")
