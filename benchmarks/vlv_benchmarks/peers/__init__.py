"""Other people's programs, as rows: what each is called, what it needs, and where it lives."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vlv_core.errors import UsageError, nearest

FOLDER = "vlv-bench-peers"
MARK = "vlv-peer.json"
"""what stands in an environment that was made to its end: the packages asked for, and versions"""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A program that decodes the same head from the same weights. Its decoder, `maker`, is
    `module:function`: `(folder of the head, threads) -> decode(ids (B, T), new tokens) -> ids`."""

    name: str
    label: str
    dtype: str
    maker: str
    requires: tuple[str, ...]
    """import names"""
    shows: tuple[str, ...]
    """distributions whose versions stand beside a figure; the first is the peer itself"""
    install: str = ""
    """what pip is given where it lives in vlv's own environment"""
    packages: tuple[str, ...] = ()
    """what `peers setup` installs into an environment of its own; empty: it lives in vlv's own"""
    unwanted: tuple[str, ...] = ()
    """what those bring along and break on: a torchvision that was built for another torch keeps
    transformers from being imported"""
    most_batch: int = 32
    gpu: bool = False


PEERS = (
    Peer(name="transformers", label="transformers generate", dtype="fp32",
         maker="vlv_benchmarks.peers._programs:transformers", requires=("torch", "transformers"),
         shows=("transformers", "torch"), install="'vlv[train]'"),
    Peer(name="onnxruntime-genai", label="ONNX Runtime GenAI int8", dtype="int8",
         maker="vlv_benchmarks.peers._programs:genai", requires=("onnxruntime_genai",),
         shows=("onnxruntime-genai", "onnxruntime"), install="'vlv[genai]'"),
    Peer(name="onnxruntime-genai-int4", label="ONNX Runtime GenAI int4", dtype="int4",
         maker="vlv_benchmarks.peers._programs:genai_int4", requires=("onnxruntime_genai",),
         shows=("onnxruntime-genai", "onnxruntime"), install="'vlv[genai]'"),
    Peer(name="llama-cpp", label="llama.cpp Q4_1", dtype="q4",
         maker="vlv_benchmarks.peers._programs:llama", requires=("llama_cpp",),
         shows=("llama-cpp-python",), install="llama-cpp-python", most_batch=1),
    Peer(name="openvino-genai", label="OpenVINO GenAI int8", dtype="int8",
         maker="vlv_benchmarks.peers._programs:openvino", requires=("openvino_genai",),
         shows=("openvino-genai", "openvino"),
         packages=("openvino-genai==2026.4.1.0", "optimum-intel[openvino]==2.2.0", "torch==2.13.0",
                   "transformers==5.5.4"),
         unwanted=("torchvision",)),
    Peer(name="optimum-onnx", label="optimum-onnx", dtype="fp32",
         maker="vlv_benchmarks.peers._programs:optimum", requires=("optimum.onnxruntime",),
         shows=("optimum-onnx", "onnxruntime", "transformers"),
         packages=("optimum-onnx==0.1.0", "optimum==2.1.0", "transformers==4.57.6", "torch==2.13.0",
                   "accelerate>=1.2,<2", "onnxruntime==1.31.1", "onnx==1.23.2")),
    Peer(name="vllm", label="vLLM", dtype="bf16",
         maker="vlv_benchmarks.peers._programs:vllm", requires=("vllm",), shows=("vllm", "torch"),
         packages=("vllm==0.33.0",), gpu=True),
)  # fmt: skip


def environments() -> Path:
    """Where peers' own environments are: beside vlv's own."""
    return Path(sys.prefix).parent / FOLDER if sys.prefix != sys.base_prefix else Path(FOLDER)


def python_of(peer: Peer) -> str:
    """The interpreter that runs a peer; empty for this one, and if its own is not set up."""
    path = environments() / peer.name / "bin" / "python"
    return str(path) if peer.packages and not _unready(peer) and path.is_file() else ""


def versions(peer: Peer) -> dict[str, str]:
    """Of what a peer's figure depends on, where it would run; empty if it is not there."""
    if peer.packages:
        return {} if _unready(peer) else dict(_mark(peer)["versions"])
    found = {}
    for name in peer.shows:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def refusal(peer: Peer) -> str:
    """Why a peer cannot run here, and what would help, in a sentence; empty if it can."""
    from vlv_benchmarks.environment import gpu_there

    if peer.gpu and not gpu_there():
        return "needs a GPU"
    if peer.packages:
        return _unready(peer)
    missing = [name for name in peer.requires if find_spec(name.partition(".")[0]) is None]
    if not missing:
        return ""
    return f"{', '.join(missing)} not installed: pip install {peer.install}"


def _unready(peer: Peer) -> str:
    """Why its own environment cannot be used; empty if it can."""
    command = f"vlv-bench peers setup {peer.name}"
    folder = environments() / peer.name
    if not folder.is_dir():
        return f"not set up: {command}"
    asked = _mark(peer).get("packages")
    if asked is None:
        return f"its setting up was not finished: {command}"
    if asked != list(peer.packages):
        return f"set up with other versions than are due now: {command}"
    return ""


def _mark(peer: Peer) -> dict[str, Any]:
    path = environments() / peer.name / MARK
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def named(name: str, *, among: Sequence[Peer] = PEERS) -> Peer:
    """Raises UsageError for an unknown name."""
    found = next((each for each in among if each.name == name), None)
    if found is None:
        known = [each.name for each in among]
        raise UsageError(f"no peer {name!r}{nearest(name, known)}; peers: {', '.join(known)}")
    return found
