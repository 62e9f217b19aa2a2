"""What a compiler is asked for and what it answers: plain data, which travels between processes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlv_core.config import convert, to_dict
from vlv_export.manifest import TensorEntry

LibraryName = Literal["rtx", "trt"]
Dtype = Literal["fp32", "fp16", "bf16"]
Hardware = Literal["same", "same-sm", "ampere+"]
"""GPUs that an engine runs on: the kind it was built on; all of its compute capability; all from
Ampere on. The wider, the slower it may be."""
Range = tuple[int, int, int]
"""shortest, typical and longest length of an axis"""
Profile = dict[str, Range]
"""axis -> its lengths; an integer input that sizes an output, such as `k` -> its values"""

LAYERS = "layers.json"


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """Engines to build, one for each graph."""

    library: LibraryName
    """rtx: tensorrt-rtx, which needs no GPU; trt: tensorrt, which builds for the GPU it finds"""
    graphs: Mapping[str, Path]
    """part -> its opset-24 graph, with its weights' files beside it"""
    out: Path
    """an existing folder; `<part>.engine` and `layers.json` are written here"""
    dtype: Dtype
    """that of the graphs' matrix products, which the engines must keep"""
    profiles: Mapping[str, tuple[Profile, ...]]
    """part -> optimisation profiles; each covers every dynamic axis of the part"""
    aliases: Mapping[str, Mapping[str, str]]
    """part -> cache input -> the output that must be the same buffer, updated in place"""
    sm: tuple[int, ...] = ()
    """compute capabilities, such as 89 for 8.9; trt: none, or that of the GPU"""
    hardware: Hardware = "same"
    """trt: see `Hardware`"""
    version_compatible: bool = False
    """trt: whether later versions of the library run the engine"""
    workspace_bytes: int | None = None
    """most scratch memory of the GPU that a layer may use; None: all of it"""
    cache: Path | None = None
    """folder of timing caches; None: the user's"""
    check_only: bool = False
    """parse and check the graphs, build nothing"""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One built engine, or one checked network (`check_only`: sizes and times are 0)."""

    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    profiles: tuple[Profile, ...]
    aliases: dict[str, str]
    """cache input -> output that is the same buffer, updated in place"""
    file: str = ""
    """name in the job's folder"""
    bytes: int = 0
    seconds: float = 0.0
    weights_bytes: int = 0
    """of the GPU's memory, as the compiler says; so are the next two, of the hungriest profile"""
    activation_bytes: int = 0
    scratch_bytes: int = 0
    layers: int = 0
    precision: dict[str, float] = field(default_factory=dict)
    """element type as the compiler names it (Half, BFloat16, Float ...) -> share of the constants'
    bytes, as found in the built layers"""


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a build made, and by what."""

    package: str
    """tensorrt or tensorrt-rtx"""
    version: str
    sm: tuple[int, ...]
    """compute capabilities that the engines are for; empty if only the graphs were checked"""
    engines: dict[str, Engine]
    """by part"""
    seconds: float = 0.0
    host_bytes: int = 0
    """peak of the host's memory in the compiler's process"""


def job_to_json(job: BuildJob) -> str:
    """One line; paths are made absolute."""
    graphs = {part: str(path.resolve()) for part, path in job.graphs.items()}
    data = to_dict(job) | {"graphs": graphs, "out": str(job.out.resolve())}
    if job.cache is not None:
        data["cache"] = str(job.cache.resolve())
    return json.dumps(data)


def job_from_json(text: str) -> BuildJob:
    """Inverse of `job_to_json`. Raises ConfigError for what is no job."""
    data: dict[str, Any] = json.loads(text)
    paths = {"out": Path(data.pop("out")), "cache": data.pop("cache", None)}
    graphs = {part: Path(path) for part, path in data.pop("graphs").items()}
    plain = convert(_Plain, data, "build job")
    return BuildJob(
        **{name: getattr(plain, name) for name in data},
        graphs=graphs,
        out=paths["out"],
        cache=Path(paths["cache"]) if paths["cache"] else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Plain:
    """A job without its paths."""

    library: LibraryName
    dtype: Dtype
    profiles: dict[str, tuple[Profile, ...]]
    aliases: dict[str, dict[str, str]]
    sm: tuple[int, ...] = ()
    hardware: Hardware = "same"
    version_compatible: bool = False
    workspace_bytes: int | None = None
    check_only: bool = False
