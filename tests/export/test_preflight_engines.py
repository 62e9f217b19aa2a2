"""An engine is refused before it is read where it cannot run: one sentence, with its mend."""

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.export import engine_graphs, tiny_artefact
from tests.export.engine_graphs import ENGINE
from vlv_core.errors import MissingExtra, ModelError
from vlv_export import Runtime, preflight_engines
from vlv_export.manifest import VariantEntry, read_manifest, write_manifest
from vlv_export.preflight import check_artefact
from vlv_export.preflight_engines import check_device, check_host
from vlv_export.runtime.engine.device import DeviceFacts
from vlv_export.tensorrt import libraries

VERSION = "1.7.1.116"
ADA = DeviceFacts(name="a GPU", sm=89, free_bytes=10**9)


@pytest.fixture
def entry(compiled: Path) -> VariantEntry:
    return read_manifest(compiled).variant(ENGINE)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Packages and their versions; what is taken out is absent."""
    known = {"tensorrt-rtx": VERSION, "tensorrt": "11.0.1", "cuda-bindings": "13.5.0"}

    def version(name: str) -> str:
        if name not in known:
            raise preflight_engines.PackageNotFoundError(name)
        return known[name]

    def found(name: Any) -> libraries.LibraryFacts:
        package = {"rtx": "tensorrt-rtx", "trt": "tensorrt"}[name]
        return libraries.LibraryFacts(name, package, "", known.get(package))

    monkeypatch.setattr(preflight_engines, "version", version)
    monkeypatch.setattr(preflight_engines, "library", found)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return known


def with_compat(entry: VariantEntry, **changes: Any) -> VariantEntry:
    return replace(entry, compat={**entry.compat, **changes})


@pytest.mark.usefixtures("installed")
def test_a_fitting_machine_passes(entry: VariantEntry) -> None:
    check_host(entry, name=ENGINE)
    assert check_device(entry, ADA, name=ENGINE) is ADA


def test_an_absent_library_is_named_with_its_pip_line(
    entry: VariantEntry, installed: dict[str, str]
) -> None:
    for package in ("cuda-bindings", "tensorrt-rtx"):
        del installed[package]
        with pytest.raises(MissingExtra, match=f"{package} is not installed") as caught:
            check_host(entry, name=ENGINE)
        assert str(caught.value).startswith(f"variant '{ENGINE}'")
        assert "pip install 'vlv[rtx]'" in str(caught.value.hint)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "fact, value, said",
    [
        ("system", "Windows", "engine built for Linux, found Windows"),
        ("machine", "aarch64", "engine built for x86_64, found aarch64"),
    ],
)
def test_another_system_is_refused(
    fact: str, value: str, said: str, entry: VariantEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, fact, lambda: value)
    with pytest.raises(ModelError, match=said) as caught:
        check_host(entry, name=ENGINE)
    assert caught.value.hint == f"rebuild: vlv-export build OUT --variant {ENGINE}"


def test_another_version_is_refused(entry: VariantEntry, installed: dict[str, str]) -> None:
    for other in ("1.7.1.117", "1.6.0", "2.0"):
        installed["tensorrt-rtx"] = other
        said = f"engine built by tensorrt-rtx {VERSION}, found {other}"
        with pytest.raises(ModelError, match=said) as caught:
            check_host(entry, name=ENGINE)
        assert f"pip install 'tensorrt-rtx=={VERSION}'" in str(caught.value.hint)


def test_an_engine_for_later_versions_runs_on_those_alone(
    entry: VariantEntry, installed: dict[str, str]
) -> None:
    wide = replace(
        with_compat(entry, version_compatible=True, version="11.0.1", runtime="tensorrt"),
        exporter="trt",
    )
    for version in ("11.0.1", "11.2", "12.0"):
        installed["tensorrt"] = version
        check_host(wide, name=ENGINE)
    installed["tensorrt"] = "11.0.0"
    with pytest.raises(ModelError, match=r"built by tensorrt 11\.0\.1, found 11\.0\.0"):
        check_host(wide, name=ENGINE)


@pytest.mark.usefixtures("installed")
def test_a_manifest_that_does_not_tell_is_refused(entry: VariantEntry) -> None:
    silent = replace(entry, compat={})
    with pytest.raises(ModelError, match="built for a system that it does not tell, found Linux"):
        check_host(silent, name=ENGINE)
    with pytest.raises(ModelError, match="built by tensorrt-rtx of unknown version, found 1"):
        check_host(with_compat(entry, version=""), name=ENGINE)
    with pytest.raises(ModelError, match="engine built for no GPU that is known, found sm89"):
        check_device(silent, ADA, name=ENGINE)


def test_no_gpu_is_told(entry: VariantEntry) -> None:
    with pytest.raises(ModelError, match="runs on a GPU, and this machine shows none") as caught:
        check_device(entry, None, name=ENGINE)
    assert "driver" in str(caught.value.hint)


def test_another_gpu_is_refused(entry: VariantEntry) -> None:
    hopper = replace(ADA, sm=90)
    with pytest.raises(ModelError, match=r"engine built for sm89, found sm90 \(a GPU\)") as caught:
        check_device(entry, hopper, name=ENGINE)
    assert caught.value.hint == f"rebuild: vlv-export build OUT --variant {ENGINE}"
    several = with_compat(entry, sm=[86, 89, 120])
    check_device(several, replace(ADA, sm=120), name=ENGINE)
    with pytest.raises(ModelError, match=r"built for sm86\+sm89\+sm120, found sm90"):
        check_device(several, hopper, name=ENGINE)


@pytest.mark.parametrize(
    "hardware, built, sm, runs",
    [
        ("same", 89, 89, True),
        ("same-sm", 89, 89, True),
        ("same-sm", 89, 90, False),
        ("ampere+", 80, 80, True),
        ("ampere+", 80, 90, True),
        ("ampere+", 80, 75, False),
        ("same", 80, 90, False),
    ],
)
def test_hardware_compatibility_is_kept_to(
    hardware: str, built: int, sm: int, runs: bool, entry: VariantEntry
) -> None:
    other = with_compat(entry, hardware=hardware, sm=[built])
    if runs:
        check_device(other, replace(ADA, sm=sm), name=ENGINE)
        return
    with pytest.raises(ModelError, match=f"engine built for sm{built}, found sm{sm}"):
        check_device(other, replace(ADA, sm=sm), name=ENGINE)


def test_too_little_memory_is_told(entry: VariantEntry) -> None:
    large = with_compat(entry, device_bytes=3 * 10**9)
    said = r"needs 3\.0 GB of GPU memory, and 1\.0 GB are free on a GPU"
    with pytest.raises(ModelError, match=said) as caught:
        check_device(large, ADA, name=ENGINE)
    assert "--batch" in str(caught.value.hint)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the engine could run."""
    monkeypatch.setattr("vlv_export.preflight.check_engines", lambda entry, name: None)


@pytest.fixture
def out(compiled: Path, tmp_path: Path) -> Path:
    return tiny_artefact.copy(compiled, tmp_path)


@pytest.mark.usefixtures("fits")
@pytest.mark.parametrize("check", ["fast", "full"])
def test_a_changed_byte_is_found_by_every_check(check: Any, out: Path) -> None:
    check_artefact(out, variant=ENGINE, check=check)
    path = out / read_manifest(out).variant(ENGINE).graph("head").file
    path.write_bytes(path.read_bytes().replace(b"head", b"heap"))
    with pytest.raises(ModelError, match=r"head\.engine was changed since it was exported"):
        check_artefact(out, variant=ENGINE, check=check)
    path.unlink()
    with pytest.raises(ModelError, match=r"head\.engine is missing"):
        Runtime.open(out, variant=ENGINE)


@pytest.mark.usefixtures("fits")
def test_a_cache_that_holds_no_caption_is_refused(out: Path) -> None:
    manifest = read_manifest(out)
    entry = replace(manifest.variant(ENGINE), kv={"capacity": 3})
    write_manifest(replace(manifest, variants={ENGINE: entry}, default=None), out)
    with pytest.raises(ModelError, match="promises 5 tokens, and the variant's cache holds 3"):
        check_artefact(out, variant=ENGINE)


@pytest.mark.usefixtures("fits")
def test_a_pending_engine_says_how_it_is_built(out: Path) -> None:
    manifest = read_manifest(out)
    entry = replace(manifest.variant(ENGINE), state="pending")
    write_manifest(replace(manifest, variants={**manifest.variants, ENGINE: entry}), out)
    with pytest.raises(ModelError, match="is not built yet") as caught:
        check_artefact(out, variant=ENGINE)
    assert f"vlv-export build OUT --variant {ENGINE}" in str(caught.value.hint)


def test_this_machine_refuses_an_engine_for_a_gpu_that_nobody_has(out: Path) -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    engine_graphs.pretend_engine(out, sm=[30])
    with pytest.raises((ModelError, MissingExtra), match=r"GPU|sm30|not installed|found"):
        Runtime.open(out, variant=ENGINE)
