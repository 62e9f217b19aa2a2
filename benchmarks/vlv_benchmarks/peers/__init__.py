"""Other people's programs, as rows: what each is called, what it needs, and where it lives."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vlv_core.errors import UsageError, nearest

FOLDER = "vlv-bench-peers"


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
    packages: tuple[str, ...] = ()
    """what `peers setup` installs into an environment of its own; empty: it lives in vlv's own"""
    unwanted: tuple[str, ...] = ()
    """what those bring along and break on: a torchvision that was built for another torch keeps
    transformers from being imported"""
    most_batch: int = 32
    gpu: bool = False


PEERS = (
    Peer(name="transformers", label="transformers generate", dtype="fp32",
         maker="vlv_benchmarks.peers._programs:transformers", requires=("torch", "transformers")),
    Peer(name="onnxruntime-genai", label="ONNX Runtime GenAI int4", dtype="int4",
         maker="vlv_benchmarks.peers._programs:genai", requires=("onnxruntime_genai",)),
    Peer(name="llama-cpp", label="llama.cpp Q4_1", dtype="q4",
         maker="vlv_benchmarks.peers._programs:llama", requires=("llama_cpp",), most_batch=1),
    Peer(name="openvino-genai", label="OpenVINO GenAI int8", dtype="int8",
         maker="vlv_benchmarks.peers._programs:openvino", requires=("openvino_genai",),
         packages=("openvino-genai==2026.4.1.0", "optimum-intel[openvino]==2.2.0", "torch==2.13.0",
                   "transformers==5.5.4"),
         unwanted=("torchvision",)),
    Peer(name="optimum-onnx", label="optimum-onnx", dtype="fp32",
         maker="vlv_benchmarks.peers._programs:optimum", requires=("optimum.onnxruntime",),
         packages=("optimum-onnx==0.1.0", "optimum==2.1.0", "transformers==4.57.6", "torch==2.13.0",
                   "accelerate>=1.2,<2", "onnxruntime==1.31.1", "onnx==1.23.2")),
    Peer(name="vllm", label="vLLM", dtype="bf16",
         maker="vlv_benchmarks.peers._programs:vllm", requires=("vllm",), gpu=True),
)  # fmt: skip


def environments() -> Path:
    """Where peers' own environments are: beside vlv's own."""
    return Path(sys.prefix).parent / FOLDER if sys.prefix != sys.base_prefix else Path(FOLDER)


def python_of(peer: Peer) -> str:
    """The interpreter that runs a peer; empty for this one, and if its own is not set up."""
    path = environments() / peer.name / "bin" / "python"
    return str(path) if peer.packages and path.is_file() else ""


def refusal(peer: Peer) -> str:
    """Why a peer cannot run here, in a sentence; empty if it can."""
    from vlv_benchmarks.environment import gpu_there

    if peer.gpu and not gpu_there():
        return "needs a GPU"
    if peer.packages:
        return "" if python_of(peer) else f"not set up: vlv-bench peers setup {peer.name}"
    missing = [name for name in peer.requires if find_spec(name.partition(".")[0]) is None]
    return f"{', '.join(missing)} is not installed" if missing else ""


def named(name: str, *, among: Sequence[Peer] = PEERS) -> Peer:
    """Raises UsageError for an unknown name."""
    found = next((each for each in among if each.name == name), None)
    if found is None:
        known = [each.name for each in among]
        raise UsageError(f"no peer {name!r}{nearest(name, known)}; peers: {', '.join(known)}")
    return found
