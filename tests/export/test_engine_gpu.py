"""What only a GPU can show: its memory behaves as the fake one, engines say what graphs say.

python -m pytest -m gpu tests/export/test_engine_gpu.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export import engine_artefact, engine_graphs, tiny_artefact
from tests.export.conftest import Tiny
from tests.export.fake_device import FakeDevice
from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError, VlvError
from vlv_core.generation import GenerationOptions
from vlv_export import Runtime
from vlv_export.manifest import read_manifest
from vlv_export.parity import LEVELS, check
from vlv_export.runtime.engine.device import Box, Device, DeviceFacts
from vlv_export.tensorrt.caches import cache_root
from vlv_export.tensorrt.gpus import gpus
from vlv_export.tensorrt.libraries import RTX_TARGETS, library

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def facts() -> DeviceFacts:
    """The GPU, or the reason why these tests are skipped."""
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    from vlv_export.runtime.engine._device import find_device

    found = find_device()
    if found is None:
        pytest.skip("no GPU with a working driver")
    return found


@pytest.fixture
def device(facts: DeviceFacts) -> Device:
    from vlv_export.runtime.engine._device import CudaDevice

    del facts
    return CudaDevice()


@pytest.fixture(scope="module")
def library_name(facts: DeviceFacts) -> str:
    """The one that compiles for this GPU, and is installed."""
    if library("rtx").version and facts.sm in RTX_TARGETS:
        return "rtx"
    if library("trt").version:
        return "trt"
    pytest.skip(f"nothing installed compiles engines for sm{facts.sm}")


@pytest.fixture(scope="module")
def built(
    library_name: str,
    facts: DeviceFacts,
    tiny: Tiny,
    captioner: Captioner,
    proven: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An artefact with engines of each dtype for this GPU."""
    from vlv_export.tensorrt._exporter import RtxExporter, TrtExporter

    out = tiny_artefact.copy(proven, tmp_path_factory.mktemp("gpu"))
    exporter: Any = RtxExporter({"sm": str(facts.sm)}) if library_name == "rtx" else TrtExporter({})
    dtypes = [each for each in ("fp32", "fp16", "bf16") if each != "bf16" or facts.sm >= 80]
    engine_artefact.add(out, exporter, *tiny, dtypes=dtypes)
    engine_graphs.add_yardstick(out, captioner)
    return out


def variants(out: Path) -> Iterator[str]:
    return (name for name in read_manifest(out).variants if name.startswith(("rtx-", "trt-")))


def test_the_driver_and_the_runtime_tell_the_same_gpu(facts: DeviceFacts) -> None:
    (first, *_) = gpus()
    assert (first.sm, first.name) == (facts.sm, facts.name)
    assert facts.free_bytes > 0


def test_bytes_come_back_as_they_went(device: Device) -> None:
    given = np.random.default_rng(0).integers(0, 256, 12345, dtype=np.uint8)
    address = device.allocate(given.nbytes)
    device.upload(address, given)
    device.synchronise()
    sent, given[:] = given.copy(), 0
    found = np.empty_like(given)
    device.download(found, address)
    device.synchronise()
    np.testing.assert_array_equal(found, sent)
    device.clear(address, 100)
    device.download(found, address)
    device.synchronise()
    assert not found[:100].any() and (found[100:] == sent[100:]).all()
    device.free(address)


def test_boxes_are_copied_as_by_the_fake_device(device: Device) -> None:
    given = np.random.default_rng(1).integers(0, 256, 4096, dtype=np.uint8)
    found = []
    for each in (FakeDevice(), device):
        address = each.allocate(given.nbytes)
        each.upload(address, given)
        source, target = Box(address + 24, 48, 6), Box(address + 2048, 80, 5)
        each.copy(target, source, width=36, rows=3, slices=4)
        found.append(np.empty_like(given))
        each.download(found[-1], address)
        each.synchronise()
    np.testing.assert_array_equal(found[0], found[1])


def test_too_much_memory_is_a_memory_error(device: Device) -> None:
    with pytest.raises(MemoryError, match="the GPU has no"):
        device.allocate(2**50)
    address = device.allocate(255)
    assert address and address % 256 == 0, "the device goes on"
    device.free(address)


def test_a_wrong_address_is_told(device: Device) -> None:
    with pytest.raises(VlvError, match="CUDA failed: "):
        device.free(12345)


def test_every_level_holds_of_every_engine(built: Path) -> None:
    levels = [each for each in LEVELS if each != "L0"]
    for name in variants(built):
        report = check(built, name, levels)
        assert report.verdict == "passed", (name, report.failures())


def test_engines_say_what_their_graphs_say(built: Path, captioner: Captioner) -> None:
    pictures = list(np.random.default_rng(2).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8))
    name = next(each for each in variants(built) if "fp32" in each)
    engine = Runtime.open(built, variant=name)
    for options in (
        GenerationOptions(max_new_tokens=16, stop_on_repetition=False),
        GenerationOptions(max_new_tokens=16, beams=4, stop_on_repetition=False),
    ):
        found = engine.caption(pictures, options=options)
        wanted = captioner.caption(pictures, options=options)
        assert [each.tokens for each in found] == [each.tokens for each in wanted]


def test_what_was_compiled_on_first_use_is_kept(
    built: Path, library_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if library_name != "rtx":
        pytest.skip("TensorRT compiles nothing on first use")
    name = next(variants(built))
    Runtime.open(built, variant=name)
    digest = read_manifest(built).file(read_manifest(built).variant(name).graph("head").file)
    kept = list(cache_root().rglob(f"{digest.sha256}.cache"))
    assert kept and kept[0].stat().st_size > 100


def test_the_library_refuses_what_is_no_engine(built: Path) -> None:
    name = next(variants(built))
    path = built / read_manifest(built).variant(name).graph("encoder").file
    kept = path.read_bytes()
    path.write_bytes(b"no engine" + kept[9:])
    tiny_artefact.relist(built)
    try:
        with pytest.raises(ModelError, match=r"encoder\.engine (cannot be opened|.*invalid)|calls"):
            Runtime.open(built, variant=name)
    finally:
        path.write_bytes(kept)
        tiny_artefact.relist(built)
