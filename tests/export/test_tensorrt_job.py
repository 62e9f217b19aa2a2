"""Jobs of the engine compilers: their data, what is installed, targets, profiles, caches, sizes."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vlv_core.errors import ConfigError, MissingExtra, ModelError, UsageError, VlvError
from vlv_core.parts import Axis
from vlv_export.tensorrt import caches, libraries, memory
from vlv_export.tensorrt.job import BuildJob, Profile, job_from_json, job_to_json
from vlv_export.tensorrt.libraries import LibraryFacts, check_targets, default_targets, library
from vlv_export.tensorrt.profiles import check_profiles, plan_profiles


def job(tmp_path: Path) -> BuildJob:
    return BuildJob(
        library="trt",
        graphs={"head": tmp_path / "head.onnx"},
        out=tmp_path,
        dtype="bf16",
        profiles={"head": ({"batch": (1, 8, 32)}, {"batch": (1, 1, 1)})},
        aliases={"head": {"past.0.key": "present.0.key"}},
        sm=(90,),
        hardware="same-sm",
        version_compatible=True,
        workspace_bytes=2**30,
        cache=tmp_path / "cache",
    )


def test_a_job_survives_its_journey(tmp_path: Path) -> None:
    assert job_from_json(job_to_json(job(tmp_path))) == job(tmp_path)


def test_a_job_on_its_way_is_one_line(tmp_path: Path) -> None:
    assert "\n" not in job_to_json(job(tmp_path))


def test_a_job_of_another_version_is_refused(tmp_path: Path) -> None:
    text = job_to_json(job(tmp_path)).replace('"dtype"', '"typ"')
    with pytest.raises(ConfigError, match="build job: no key 'typ'"):
        job_from_json(text)


def test_an_absent_library_is_named_with_its_extra() -> None:
    absent = LibraryFacts("trt", "tensorrt", "tensorrt", None)
    with pytest.raises(MissingExtra, match="--trt: tensorrt is not installed") as caught:
        absent.needed()
    assert caught.value.hint == "pip install 'vlv[trt]' supplies it"


def test_facts_are_found_without_importing_a_compiler() -> None:
    before = set(sys.modules)
    assert library("rtx").module == "tensorrt_rtx"
    assert library("trt").package == "tensorrt"
    assert not {"tensorrt", "tensorrt_rtx"} & (set(sys.modules) - before)


def test_a_package_for_one_cuda_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "tensorrt-cu13":
            return "11.4.1"
        raise libraries.PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(libraries, "version", version)
    assert library("trt").version == "11.4.1"


def test_the_usual_targets_know_the_dtype() -> None:
    assert default_targets("bf16") == (80, 86, 89, 120)
    for dtype in ("fp32", "fp16", "bf16"):
        check_targets("rtx", default_targets(dtype), dtype)


def test_an_unknown_target_is_named_with_those_that_are_known() -> None:
    with pytest.raises(
        UsageError, match=r"does not build for sm90; .*sm75, sm80, sm86, sm89, sm120"
    ):
        check_targets("rtx", (86, 90), "fp16")


def test_what_rtx_cannot_build_for_trt_may() -> None:
    with pytest.raises(UsageError) as caught:
        check_targets("rtx", (90,), "fp16")
    assert "--trt" in (caught.value.hint or "")


def test_bfloat16_needs_a_gpu_that_has_it() -> None:
    with pytest.raises(UsageError, match="sm75 has no bfloat16; sm80 and later have it"):
        check_targets("rtx", (75, 86), "bf16")
    check_targets("rtx", (75, 86), "fp16")


def test_gpus_older_than_the_first_are_refused() -> None:
    with pytest.raises(UsageError, match="tensorrt does not build for sm70; sm75 is the first"):
        check_targets("trt", (70,), "fp16")
    check_targets("trt", (75,), "fp16")


def test_tensorrt_builds_for_one_gpu() -> None:
    with pytest.raises(UsageError, match="tensorrt builds for one GPU, and --sm names 2"):
        check_targets("trt", (89, 90), "fp16")


AXES = {
    "encoder": {"batch": Axis(1, 8, 64)},
    "head": {"batch": Axis(1, 8, 256), "prefix": Axis(0, 16, 160), "length": Axis(0, 1, 160)},
    "head.96": {"batch": Axis(1, 8, 256), "prefix": Axis(0, 16, 160), "length": Axis(0, 1, 160)},
    "denoiser": {"batch": Axis(1, 4, 16), "context": Axis(1, 16, 77)},
}


def test_profiles_of_every_part() -> None:
    made = plan_profiles(AXES, batches=[32], prefix_length=16)
    assert list(made) == list(AXES)
    assert made["encoder"] == ({"batch": (1, 8, 32)},)
    assert made["denoiser"] == ({"batch": (1, 4, 16), "context": (1, 16, 77)},)
    assert made["head"] == made["head.96"]


def test_a_head_reads_its_prefix_by_one_profile_and_a_token_by_the_other() -> None:
    prefill, step = plan_profiles(AXES, batches=[4], prefix_length=16)["head"]
    assert prefill == {"batch": (1, 4, 4), "length": (1, 16, 16), "k": (1, 4, 256)}
    assert step == {"batch": (1, 4, 4), "length": (1, 1, 1), "k": (1, 4, 256)}


def test_each_batch_has_a_profile_of_its_own() -> None:
    made = plan_profiles(AXES, batches=[1, 8, 32], prefix_length=16)
    rows = [(1, 1, 1), (1, 8, 8), (1, 32, 32)]
    assert [each["batch"] for each in made["encoder"]] == rows
    assert [each["batch"] for each in made["head"]] == [each for each in rows for _ in range(2)]
    # What the part's own limit makes equal is one.
    assert [each["batch"] for each in made["denoiser"]] == [(1, 1, 1), (1, 8, 8), (1, 16, 16)]


def test_an_engine_for_no_rows_is_refused() -> None:
    with pytest.raises(UsageError, match="--batch is 8,0; use 1 or more"):
        plan_profiles(AXES, batches=[8, 0], prefix_length=16)


NEEDED = {"batch": False, "length": False, "k": True}


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ((), "has dynamic axes batch, length, k and no profile"),
        (
            ({"batch": (1, 2, 4), "k": (1, 1, 1)},),
            "profile 0 of part 'head' gives no range for length",
        ),
        (
            ({"batch": (1, 2, 4), "length": (1, 1, 1), "k": (1, 1, 1), "width": (1, 1, 1)},),
            "names width; the graph's axes are batch, length, k",
        ),
        (
            ({"batch": (1, 8, 4), "length": (1, 1, 1), "k": (1, 1, 1)},),
            "batch is 1, 8, 4; give shortest, typical and longest",
        ),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(profiles: tuple[Profile, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_profiles("head", profiles, NEEDED)


def test_a_part_of_fixed_sizes_needs_no_profile() -> None:
    check_profiles("encoder", (), {})


def test_a_cache_lies_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    path = caches.cache_file("tensorrt-rtx", "1.7.1", sm=89, sha256="ab")
    assert path == Path("/somewhere/vlv/tensorrt-rtx-1.7.1-sm89/ab.cache")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert caches.cache_root() == Path.home() / ".cache" / "vlv"


def test_a_cache_comes_back_as_it_was(tmp_path: Path) -> None:
    path = caches.cache_file("tensorrt", "11.4", sm=90, sha256="ab", root=tmp_path)
    assert caches.read_cache(path) == b""
    caches.write_cache(path, b"timings")
    assert caches.read_cache(path) == b"timings"
    assert [each.name for each in path.parent.iterdir()] == ["ab.cache"]


@pytest.mark.parametrize("harm", ["cut", "flip", "foreign"])
def test_a_damaged_cache_is_ignored_aloud(
    harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.cache"
    caches.write_cache(path, b"timings of kernels")
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[:-3], "flip": data[:-1] + b"?", "foreign": b"timings of kernels"}[harm]
    )
    assert caches.read_cache(path) == b""
    assert f"cache {path} is damaged, and is ignored" in caplog.text


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    caches.write_cache(tmp_path / "file" / "x.cache", b"timings")
    assert "cannot be written" in caplog.text


def graph_of(tmp_path: Path, elements: int) -> Path:
    """A graph with one weight of float32, in a file beside it."""
    weight = numpy_helper.from_array(np.zeros(elements, np.float32), "weight")
    graph = onnx.helper.make_graph([], "one", [], [], [weight])
    path = tmp_path / "one.onnx"
    onnx.save(
        onnx.helper.make_model(graph), path, save_as_external_data=True, location="one.data",
        size_threshold=0,
    )  # fmt: skip
    return path


def test_a_graph_weighs_what_its_files_weigh(tmp_path: Path) -> None:
    path = graph_of(tmp_path, 1000)
    assert memory.weight_bytes(path) == path.stat().st_size + 4000


def test_absent_weights_are_named(tmp_path: Path) -> None:
    path = graph_of(tmp_path, 1000)
    (tmp_path / "one.data").unlink()
    with pytest.raises(ModelError, match=r"one\.onnx: .*one\.data: No such file"):
        memory.weight_bytes(path)


def test_memory_grows_with_the_largest_graph(tmp_path: Path) -> None:
    path = graph_of(tmp_path, 10**6)
    one = memory.needed_bytes({"a": path})
    assert one == memory.needed_bytes({"a": path, "b": path}) > memory.BASE_BYTES + 4 * 10**6


def test_too_little_memory_is_said_before_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = graph_of(tmp_path, 1000)
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000_000)
    with pytest.raises(
        VlvError, match=r"needs about .* GB of memory, and 0\.1 GB are available"
    ) as e:
        memory.check_memory({"a": path})
    assert "larger machine" in (e.value.hint or "")


def test_where_nobody_says_how_much_memory_there_is_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.check_memory({"a": graph_of(tmp_path, 10)})


def test_too_little_room_is_said_before_work_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = graph_of(tmp_path, 1000)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(VlvError, match=r"engines need about 0\.0 GB, and .* has 0\.0 GB left"):
        memory.check_disk({"a": path}, tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_this_machine_has_memory() -> None:
    there = memory.available_bytes()
    assert there is not None and there > 10**8
