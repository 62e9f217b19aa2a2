"""The machine, what is installed, and the commit."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vlv_benchmarks.record import Env

LIBRARIES = (
    "vlv", "numpy", "torch", "transformers", "onnx", "onnxruntime", "onnxruntime-genai",
    "openvino", "openvino-genai", "llama-cpp-python", "tensorrt", "tensorrt-rtx", "pillow",
)  # fmt: skip
VARIABLES = ("OMP_", "MKL_", "OPENBLAS_", "KMP_", "ORT_", "TORCH", "CUDA_", "MALLOC_", "LD_PRELOAD")
FLAGS = ("avx", "avx2", "f16c", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
         "avx_vnni", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16", "sve")  # fmt: skip


def environment() -> Env:
    """Of this process."""
    gpu, driver = _gpu()
    facts = _cpuinfo()
    return Env(
        os=f"{platform.system()} {platform.release()}",
        cpu_model=facts.get("model name") or platform.processor() or platform.machine(),
        cpu_isa=tuple(_known(facts.get("flags") or facts.get("Features", ""))),
        cpu_threads=os.cpu_count() or 1,
        memory_mb=_memory_mb(),
        gpu=gpu,
        driver=driver,
        libraries=dict(_versions()),
        variables={
            name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)
        },
    )


def git_state() -> tuple[str, bool]:
    """The commit that this code is at and whether files differ from it; "unknown" outside git."""
    here = Path(__file__).parent
    commit = _said("git", "-C", str(here), "rev-parse", "HEAD")
    if not commit:
        return "unknown", False
    return commit, bool(_said("git", "-C", str(here), "status", "--porcelain"))


def gpu_there() -> bool:
    return _gpu()[0] is not None


def _gpu() -> tuple[str | None, str | None]:
    found = _said("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    name, _, driver = found.partition("\n")[0].partition(", ")
    return (name, driver) if driver else (None, None)


def _said(*command: str) -> str:
    """A command's output; empty where it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _versions() -> Iterable[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _cpuinfo() -> dict[str, str]:
    """The first processor's facts; empty where the system tells none."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (each.partition(":") for each in lines)}


def _known(flags: str) -> Iterable[str]:
    there = set(flags.split())
    return (flag for flag in FLAGS if flag in there)


def _memory_mb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
