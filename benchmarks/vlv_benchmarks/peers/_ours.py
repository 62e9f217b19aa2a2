"""Our own two ways to decode the head, for the same folder and with the same answer as peers'."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vlv_benchmarks.peers._programs import Decode, Ids, which


def graphs(folder: Path, threads: int, dtype: str) -> Decode:
    """The head's graph in the runtime's loop."""
    from vlv_export.facts import Generation
    from vlv_export.manifest import read_manifest
    from vlv_export.runtime.head import Head, HeadStepper
    from vlv_export.runtime.sessions import Sessions

    told = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    embedded, prompts = np.load(folder / "embedded.npy"), np.load(folder / "prompts.npy")
    facts = Generation(
        eos=tuple(told["eos"]), max_length=told["max_length"], max_queries=embedded.shape[1],
        prefix_length=embedded.shape[1], dim=told["dim"], vocab_size=told["vocab_size"],
        causal=True,
    )  # fmt: skip
    manifest = read_manifest(folder / dtype)
    opened = Head(Sessions(folder / dtype, manifest, dtype, threads), facts)

    def decode(ids: Ids, tokens: int) -> Ids:
        prefix = embedded[which(prompts, ids)]
        return _run(HeadStepper(opened, prefix, prefix.shape[1] + tokens), tokens)

    return decode


def eager(folder: Path, threads: int) -> Decode:
    """The torch stepper of `causal-lm`, in float32."""
    import torch

    from vlv_benchmarks.peers._head import head
    from vlv_core.plugins import load_plugins

    torch.set_num_threads(threads)
    part = head(load_plugins(third_party=False))
    embedded = torch.from_numpy(np.load(folder / "embedded.npy"))
    prompts = np.load(folder / "prompts.npy")

    def decode(ids: Ids, tokens: int) -> Ids:
        prefix = embedded[which(prompts, ids)]
        return _run(part.start(prefix, prefix.shape[1] + tokens), tokens)

    return decode


def _run(stepper: Any, tokens: int) -> Ids:
    """Greedily; no token ends a text, so that all are decoded."""
    from vlv_core.generation import GenerationOptions, generate

    options = GenerationOptions(max_new_tokens=tokens, stop_on_repetition=False)
    return np.array([row.tokens for row in generate(stepper, eos=(), options=options)])
