"""What differs between the two compilers, with a thin stand-in for TensorRT.

TensorRT itself is for machines with a GPU. Its stand-in has the calls that only `_Trt` makes, with
the names and meanings of its Python API (TensorRT 11: Builder Config, Timing Cache, Logger).
"""

import ctypes
import hashlib
import logging
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlv_core.errors import MissingExtra, UsageError, VlvError
from vlv_export.tensorrt import _library, gpus
from vlv_export.tensorrt._library import open_library
from vlv_export.tensorrt.caches import cache_file, read_cache, write_cache
from vlv_export.tensorrt.gpus import Gpu
from vlv_export.tensorrt.job import BuildJob, Hardware
from vlv_export.tensorrt.libraries import LibraryFacts, library


class Level(Enum):
    NONE = 0
    AMPERE_PLUS = 1
    SAME_COMPUTE_CAPABILITY = 2


class Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytearray:
        """As IHostMemory: an object with the buffer protocol."""
        return bytearray(self.data + b"+1")


class Config:
    """The part of IBuilderConfig that differs."""

    def __init__(self, *, refuse: bytes | None = None, mismatch: bytes | None = None) -> None:
        self.hardware_compatibility_level = Level.NONE
        self.flags: list[str] = []
        self.num_compute_capabilities = 0
        self.capabilities: dict[int, str] = {}
        self.cache: Cache | None = None
        self.made: list[bytes] = []
        self.refuse, self.mismatch = refuse, mismatch

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def create_timing_cache(self, data: bytes) -> Cache | None:
        self.made.append(data)
        return None if data == self.refuse else Cache(data)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.data == self.mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache | None:
        return self.cache

    def set_compute_capability(self, name: str, index: int) -> bool:
        self.capabilities[index] = name
        return True


FAKE = SimpleNamespace(
    __version__="11.4.1",
    HardwareCompatibilityLevel=Level,
    BuilderFlag=SimpleNamespace(VERSION_COMPATIBLE="version compatible"),
    ComputeCapability=SimpleNamespace(__members__={"NONE": "none", "SM86": "86", "SM120": "120"}),
)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> _library.Library:
    """TensorRT's stand-in on a machine with an sm90 GPU."""
    monkeypatch.setattr(_library, "gpus", lambda: [Gpu("NVIDIA H100", 90)])
    return _library._Trt(FAKE, LibraryFacts("trt", "tensorrt", "tensorrt", "11.4.1"))


def job(
    tmp_path: Path,
    *,
    sm: tuple[int, ...] = (),
    hardware: Hardware = "same",
    version_compatible: bool = False,
) -> BuildJob:
    return BuildJob(
        library="trt", graphs={}, out=tmp_path, dtype="bf16", profiles={}, aliases={}, sm=sm,
        hardware=hardware, version_compatible=version_compatible, cache=tmp_path,
    )  # fmt: skip


def test_tensorrt_builds_for_the_gpu_that_is_there(trt: _library.Library, tmp_path: Path) -> None:
    assert trt.targets(job(tmp_path)) == (90,)
    assert trt.targets(job(tmp_path, sm=(90,))) == (90,)


def test_tensorrt_without_a_gpu_says_where_to_build(
    trt: _library.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_library, "gpus", list)
    with pytest.raises(VlvError, match="this machine shows none") as caught:
        trt.targets(job(tmp_path))
    assert "vlv-export build OUT" in (caught.value.hint or "")


def test_tensorrt_for_another_gpu_is_refused(trt: _library.Library, tmp_path: Path) -> None:
    with pytest.raises(VlvError, match=r"--sm is 89, and the GPU here \(NVIDIA H100\) is sm90"):
        trt.targets(job(tmp_path, sm=(89,)))


def test_bfloat16_on_an_old_gpu_is_refused(
    trt: _library.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_library, "gpus", lambda: [Gpu("Tesla T4", 75)])
    with pytest.raises(UsageError, match="sm75 has no bfloat16"):
        trt.targets(job(tmp_path))


@pytest.mark.parametrize(
    ("hardware", "level"),
    [
        ("same", Level.NONE),
        ("same-sm", Level.SAME_COMPUTE_CAPABILITY),
        ("ampere+", Level.AMPERE_PLUS),
    ],
)
def test_compatibility_reaches_the_compiler(
    hardware: Hardware, level: Level, trt: _library.Library, tmp_path: Path
) -> None:
    config = Config()
    trt.configure(config, job(tmp_path, hardware=hardware), targets=(90,))
    assert config.hardware_compatibility_level is level
    assert config.flags == []


def test_later_versions_run_an_engine_that_is_asked_to_be_so(
    trt: _library.Library, tmp_path: Path
) -> None:
    config = Config()
    trt.configure(config, job(tmp_path, version_compatible=True), targets=(90,))
    assert config.flags == ["version compatible"]


def timings(tmp_path: Path) -> Path:
    key = hashlib.sha256(b"timing bf16").hexdigest()
    return cache_file("tensorrt", "11.4.1", sm=90, sha256=key, root=tmp_path)


def test_timings_are_kept_for_the_next_build(trt: _library.Library, tmp_path: Path) -> None:
    first, second = Config(), Config()
    trt.configure(first, job(tmp_path), targets=(90,))
    trt.finish(first)
    trt.configure(second, job(tmp_path), targets=(90,))
    assert first.made == [b""] and second.made == [b"+1"]
    assert read_cache(timings(tmp_path)) == b"+1"


OLD = b"of another driver"


@pytest.mark.parametrize("config", [Config(refuse=OLD), Config(mismatch=OLD)])
def test_timings_that_the_compiler_refuses_are_measured_again(
    config: Config, trt: _library.Library, tmp_path: Path
) -> None:
    write_cache(timings(tmp_path), OLD)
    trt.configure(config, job(tmp_path), targets=(90,))
    assert config.made == [OLD, b""]
    assert config.cache is not None and config.cache.data == b""


def test_damaged_timings_are_measured_again(
    trt: _library.Library, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_cache(timings(tmp_path), b"timings")
    timings(tmp_path).write_bytes(b"?")
    config = Config()
    with caplog.at_level(logging.WARNING):
        trt.configure(config, job(tmp_path), targets=(90,))
    assert config.made == [b""] and "is damaged" in caplog.text


def rtx() -> _library.Library:
    return _library._Rtx(FAKE, LibraryFacts("rtx", "tensorrt-rtx", "tensorrt_rtx", "1.7.1"))


def test_rtx_is_told_its_targets(tmp_path: Path) -> None:
    config, compiler = Config(), rtx()
    task = BuildJob(
        library="rtx", graphs={}, out=tmp_path, dtype="fp16", profiles={}, aliases={},
        sm=(120, 86, 86),
    )  # fmt: skip
    targets = compiler.targets(task)
    compiler.configure(config, task, targets=targets)
    assert targets == (86, 120)
    assert config.num_compute_capabilities == 2 and config.capabilities == {0: "86", 1: "120"}
    compiler.finish(config)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_this_version_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VlvError, match=r"tensorrt-rtx 11\.4\.1 does not know sm89; it has sm86"):
        rtx().configure(Config(), job(tmp_path), targets=(89,))


def test_an_old_tensorrt_is_refused() -> None:
    old = SimpleNamespace(__version__="10.14.1.48")
    with pytest.raises(
        UsageError, match=r"tensorrt 10\.14\.1\.48 is installed, and .* 11 or later"
    ):
        _library._Trt(old, LibraryFacts("trt", "tensorrt", "tensorrt", "10.14.1.48"))


def test_an_absent_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _library, "library", lambda name: LibraryFacts("trt", "tensorrt", "tensorrt", None)
    )
    with pytest.raises(MissingExtra, match="--trt: tensorrt is not installed"):
        open_library("trt")


def test_two_compilers_never_share_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _library,
        "library",
        lambda name: LibraryFacts(name, *(("a", "a") if name == "rtx" else ("b", "b")), "1"),
    )
    monkeypatch.setitem(_library.sys.modules, "b", SimpleNamespace())
    with pytest.raises(VlvError, match="a cannot be used in a process that has used b"):
        open_library("rtx")


def test_a_compiler_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(
        _library, "library", lambda name: LibraryFacts(name, f"pkg-{name}", f"mod_{name}", "1.7")
    )
    monkeypatch.setattr(_library.importlib, "import_module", fail)
    with pytest.raises(VlvError, match=r"pkg-rtx 1\.7 is installed and does not load: libcudart"):
        open_library("rtx")


@pytest.mark.skipif(library("rtx").version is None, reason="tensorrt-rtx is not installed")
def test_the_real_compiler_has_all_that_is_asked_of_it() -> None:
    """Names that only run on a GPU, or only in TensorRT, are at least there."""
    import tensorrt_rtx as real

    for level in ("NONE", "SAME_COMPUTE_CAPABILITY", "AMPERE_PLUS"):
        assert level in real.HardwareCompatibilityLevel.__members__
    assert {"VERSION_COMPATIBLE", "TF32"} <= set(real.BuilderFlag.__members__)
    for name in ("create_timing_cache", "get_timing_cache", "set_timing_cache"):
        assert hasattr(real.IBuilderConfig, name)
    assert hasattr(real.EngineInspector, "get_engine_information")
    assert "JSON" in real.LayerInformationFormat.__members__


def driver(devices: list[tuple[str, int, int]], *, broken: bool = False) -> Any:
    """libcuda's five functions, which answer through pointers and return 0."""

    def count(pointer: Any) -> int:
        pointer._obj.value = len(devices)
        return 0

    def device(pointer: Any, index: int) -> int:
        pointer._obj.value = index
        return 0

    def name(buffer: Any, size: int, which: ctypes.c_int) -> int:
        buffer.value = devices[which.value][0].encode()
        return 0

    def attribute(pointer: Any, what: int, which: ctypes.c_int) -> int:
        pointer._obj.value = devices[which.value][{75: 1, 76: 2}[what]]
        return 0

    return SimpleNamespace(
        cuInit=lambda flags: 100 if broken else 0, cuDeviceGetCount=count, cuDeviceGet=device,
        cuDeviceGetName=name, cuDeviceGetAttribute=attribute,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("library_", "expected"),
    [
        (driver([("H100", 9, 0), ("RTX 5090", 12, 0)]), [Gpu("H100", 90), Gpu("RTX 5090", 120)]),
        (driver([]), []),
        (driver([("H100", 9, 0)], broken=True), []),
    ],
)
def test_gpus_are_asked_of_the_driver(
    library_: Any, expected: list[Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus.ctypes, "CDLL", lambda name: library_)
    assert gpus.gpus() == expected


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(gpus.ctypes, "CDLL", absent)
    assert gpus.gpus() == []
