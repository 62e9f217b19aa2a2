"""An artefact put together by hand from a captioner, its parts and their neutral graphs."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from vlv_core.captioner import Captioner
from vlv_export.lowering._variant import build_variant
from vlv_export.manifest import (
    SCHEMA,
    FileEntry,
    GraphEntry,
    Manifest,
    VariantEntry,
    read_manifest,
    write_manifest,
)

CAPTION = ("encoder", "head", "condition")


def make(
    captioner: Captioner,
    neutral: Mapping[str, Path],
    out: Path,
    *,
    dtypes: Sequence[str] = ("fp32",),
    name: str = "tiny",
) -> Path:
    """Write OUT with variants of the given dtypes; the first one is the default."""
    backend: Any = captioner.backend
    out.mkdir(parents=True)
    _write_facts(captioner, out, drawing="denoiser" in neutral)
    variants = {}
    for dtype in dtypes:
        home = f"variants/onnx-{dtype}"
        graphs = build_variant(neutral, out / home, dtype=dtype)
        variants[f"onnx-{dtype}"] = VariantEntry(
            exporter="onnx",
            dtype=dtype,
            state="proved",
            graphs={part: _within(home, entry) for part, entry in graphs.items()},
            kv={"capacity": backend.limits.max_length},
        )
    manifest = Manifest(
        schema=SCHEMA,
        created="2026-11-22T00:00:00Z",
        tool={},
        packages={},
        host={},
        model={"name": name, "domain": captioner.domain},
        files={},
        variants=variants,
        default=f"onnx-{dtypes[0]}",
    )
    write_manifest(manifest, out)
    relist(out)
    return out


def copy(out: Path, folder: Path) -> Path:
    """A copy to be changed, in a folder."""
    return shutil.copytree(out, folder / "OUT")


def relist(out: Path) -> None:
    """Make the manifest list the files as they are now."""
    files = {
        path.relative_to(out).as_posix(): FileEntry(
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(), bytes=path.stat().st_size
        )
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    write_manifest(replace(read_manifest(out), files=files), out)


def edit(out: Path, **changes: Any) -> None:
    """Change fields of the default variant."""
    manifest = read_manifest(out)
    entry = replace(manifest.variant(None), **changes)
    write_manifest(replace(manifest, variants={**manifest.variants, manifest.default: entry}), out)


def _within(home: str, entry: GraphEntry) -> GraphEntry:
    return replace(
        entry,
        file=f"{home}/{entry.file}",
        data=tuple(f"{home}/{each}" for each in entry.data),
    )


def _write_facts(captioner: Captioner, out: Path, *, drawing: bool) -> None:
    backend: Any = captioner.backend
    model = backend.model
    generation = {
        "eos": list(backend.eos),
        "max_length": backend.limits.max_length,
        "max_queries": backend.limits.max_queries,
        "prefix_length": model.bottleneck.num_queries,
        "dim": model.head.dim,
        "vocab_size": model.head.vocab_size,
        "causal": backend.limits.causal,
        "latent_shape": list(backend.latent_shape) if drawing else None,
        "schedule": asdict(backend.schedule()) if drawing else None,
        "prompts": _write_prompts(model.condition, out) if drawing else [],
        "skip_special_tokens": True,
    }
    preprocess = {"view": asdict(captioner.view), "pixels": asdict(model.encoder.pixels)}
    (out / "generation.json").write_text(json.dumps(generation))
    (out / "preprocess.json").write_text(json.dumps(preprocess))
    model.head.tokenizer.save(str(out / "tokenizer.json"))
    if drawing:
        empty = backend.unconditional(backend.limits.max_queries)
        tensors = {"context": empty.context, "pooled": empty.pooled}
        kept = {key: value for key, value in tensors.items() if value is not None}
        save_file(kept, out / "unconditional.safetensors")


def _write_prompts(condition: Any, out: Path) -> list[dict[str, Any]]:
    facts = []
    for index, prompt in enumerate(condition.prompts):
        name = f"prompts/tokenizer-{index}.json"
        (out / "prompts").mkdir(exist_ok=True)
        prompt.tokenizer.save(str(out / name))
        ends = {"start": prompt.start, "end": prompt.end, "pad": prompt.pad}
        facts.append({"file": name, **ends, "length": condition.max_queries})
    return facts
