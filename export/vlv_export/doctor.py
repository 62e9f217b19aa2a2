"""Which backends and devices a machine has; nothing is imported that is not asked for devices."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vlv_export.tensorrt.gpus import gpus
from vlv_export.tensorrt.libraries import RTX_TARGETS

QUERY_S = 5
"""how long the graphics driver may take to answer"""
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""of the CPU, that int8, int4 and bf16 profit from"""


@dataclass(frozen=True)
class Backend:
    """Something that exports or runs graphs."""

    name: str
    purpose: str
    version: str
    """empty if it is not installed"""
    devices: tuple[str, ...]
    """that it can run on here"""
    install: str
    """the line that supplies it; empty if it is here"""


@dataclass(frozen=True)
class _Known:
    distributions: tuple[str, ...]
    """any of which supplies it"""
    purpose: str
    install: str
    devices: Callable[[], Sequence[str]]


def backends() -> list[Backend]:
    """All that vlv knows, installed or not."""
    return [_found(name, known) for name, known in _KNOWN.items()]


def machine() -> dict[str, str]:
    """The machine in a few words."""
    facts = {
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpu": f"{_cpu_name()}, {_cores()} cores{_flags()}",
        "gpu": "; ".join(_gpus()) or "none found",
    }
    memory = _memory()
    return facts | ({"memory": f"{memory / 2**30:.0f} GiB"} if memory else {})


def _found(name: str, known: _Known) -> Backend:
    found = next(filter(None, map(_version, known.distributions)), "")
    devices = tuple(known.devices()) if found else ()
    return Backend(name, known.purpose, found, devices, "" if found else known.install)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _onnxruntime() -> Sequence[str]:
    import onnxruntime

    providers: list[str] = onnxruntime.get_available_providers()
    return [name.removesuffix("ExecutionProvider") for name in providers]


def _on_cpu() -> Sequence[str]:
    return ["CPU"]


def _on_gpu() -> Sequence[str]:
    return _gpus() or ["no GPU here"]


_KNOWN = {
    "torch": _Known(("torch",), "exporting", "pip install 'vlv[onnx]'", _on_cpu),
    "onnxscript": _Known(("onnxscript",), "exporting", "pip install 'vlv[onnx]'", _on_cpu),
    "onnxruntime": _Known(
        ("onnxruntime", "onnxruntime-gpu"),
        "running --onnx, parity",
        "pip install 'vlv[runtime]'",
        _onnxruntime,
    ),
    "onnxruntime-genai": _Known(
        ("onnxruntime-genai", "onnxruntime-genai-cuda"),
        "its own packages",
        "pip install 'vlv[genai]'",
        _on_cpu,
    ),
    "tensorrt": _Known(
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "--trt: engines for the GPU that builds them",
        "pip install 'vlv[trt]'",
        _on_gpu,
    ),
    "tensorrt-rtx": _Known(
        ("tensorrt-rtx",),
        f"--rtx: engines for {', '.join(f'sm{sm}' for sm in RTX_TARGETS)}, built anywhere",
        "pip install 'vlv[rtx]'",
        _on_gpu,
    ),
    "cuda-bindings": _Known(
        ("cuda-bindings",), "running engines", "pip install 'vlv[rtx]'", _on_gpu
    ),
}


def _gpus() -> list[str]:
    """Name, driver and compute capability of each, as the driver tells."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [f"{gpu.name}, sm{gpu.sm}" for gpu in gpus()]
    query = "--query-gpu=name,driver_version,compute_cap"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=QUERY_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> str:
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    there = [flag for flag in FLAGS if flag in flags]
    return f" ({', '.join(there)})" if there else ""


def _cpuinfo(key: str) -> str:
    """Of the first core; empty where the kernel does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
