"""The artefact's small files, from the model: preprocessing, generation, tokenizers, the empty
prompt."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from vlv_core.captioner import Captioner
from vlv_core.config import to_dict
from vlv_core.errors import UsageError
from vlv_core.model import VLV
from vlv_export.facts import (
    GENERATION,
    PREPROCESS,
    TOKENIZER,
    UNCONDITIONAL,
    Generation,
    Preprocess,
    PromptFacts,
    ScheduleFacts,
)


def write_assets(captioner: Captioner, folder: Path, *, reconstruct: bool) -> None:
    """Write all of them. Raises UsageError for a head that does not give its tokenizer."""
    model = captioner.backend.model  # type: ignore[attr-defined]
    if not hasattr(model.head, "tokenizer_json"):
        raise UsageError(
            f"the head {type(model.head).__name__} does not give its tokenizer",
            hint="give it tokenizer_json() -> str, the text of a tokenizer.json",
        )
    preprocess = Preprocess(view=model.view, pixels=model.encoder.pixels)
    _write_json(folder / PREPROCESS, asdict(preprocess))
    (folder / TOKENIZER).write_text(model.head.tokenizer_json(), encoding="utf-8")
    prompts = _write_prompts(model, folder) if reconstruct else ()
    _write_json(folder / GENERATION, to_dict(_generation(model, prompts, draws=reconstruct)))
    if reconstruct:
        _write_unconditional(captioner, folder / UNCONDITIONAL)


def _generation(model: VLV, prompts: tuple[PromptFacts, ...], *, draws: bool) -> Generation:
    head, condition = model.head, model.condition
    return Generation(
        eos=tuple(head.eos),
        max_length=head.max_length,
        max_queries=condition.max_queries,
        prefix_length=model.bottleneck.num_queries,
        dim=head.dim,
        vocab_size=head.vocab_size,
        causal=model.bottleneck.causal and condition.causal,
        latent_shape=tuple(model.diffusion.latent_shape) if draws else None,
        schedule=ScheduleFacts(**asdict(model.diffusion.schedule())) if draws else None,
        prompts=prompts,
    )


def _write_prompts(model: VLV, folder: Path) -> tuple[PromptFacts, ...]:
    """The tokenizers of the text encoders; none where there is nothing that reads captions."""
    entries = []
    for index, prompt in enumerate(getattr(model.condition, "prompts", ())):
        name = f"prompts/tokenizer-{index}.json"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(prompt.tokenizer.to_str(), encoding="utf-8")
        entries.append(
            PromptFacts(
                file=name,
                start=prompt.start,
                end=prompt.end,
                pad=prompt.pad,
                length=model.condition.max_queries,
            )
        )
    return tuple(entries)


def _write_unconditional(captioner: Captioner, path: Path) -> None:
    most = captioner.backend.limits.max_queries
    empty = captioner.backend.unconditional(most)
    tensors = {"context": empty.context, "pooled": empty.pooled}
    present = {
        name: np.ascontiguousarray(array, np.float32)
        for name, array in tensors.items()
        if array is not None
    }
    save_file(present, path)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")
