"""The captioner of an artefact."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError, UsageError
from vlv_export.facts import read_generation, read_preprocess
from vlv_export.manifest import ENGINES, read_manifest
from vlv_export.preflight import Check, Parts, check_artefact, check_file, needed_files
from vlv_export.runtime.backend import ArtefactBackend
from vlv_export.runtime.sessions import Sessions
from vlv_export.tensorrt.gpus import gpus

if TYPE_CHECKING:
    from vlv_core.specs import OpenOptions
    from vlv_export.manifest import Manifest
    from vlv_export.runtime.compiled import Compiled

_SHORT = {"float16": "fp16", "bfloat16": "bf16"}
"""element types in the names of variants; float32 is the commands' default and names none"""


class Runtime(Captioner):
    """Captions, embeds, redraws and mixes pictures, as the exported model does, without torch.

    Not safe for use from two threads at once.
    """

    backend: ArtefactBackend
    variant: str
    """name of the variant that runs"""

    @classmethod
    def open(
        cls,
        out: Path | str,
        *,
        variant: str | None = None,
        parts: Parts = "caption",
        threads: int | None = None,
        check: Check = "fast",
    ) -> Runtime:
        """The captioner of the artefact `out`; `variant` None takes the manifest's default.

        `parts="all"` opens the diffusion too, which `reconstruct` needs. `threads` None takes all
        physical cores. `check` "full" hashes the weights too. A variant that was built and never
        proved is proved first, on the golden file (L1).
        Raises ModelError or ConfigError if the artefact is not whole or does not fit this machine;
        MissingExtra if onnxruntime is absent.
        """
        folder = Path(out)
        manifest = check_artefact(folder, variant=variant, parts=parts, check=check)
        if manifest.variant(variant).state == "built":
            _prove(folder, manifest, manifest.named(variant), threads=threads)
        sessions = sessions_of(folder, manifest, manifest.named(variant), threads)
        return open_checked(sessions, manifest, parts=parts)


def sessions_of(folder: Path, manifest: Manifest, variant: str, threads: int | None) -> Compiled:
    """What runs the variant's parts. Raises MissingExtra or ModelError where nothing here can."""
    if manifest.variant(variant).exporter in ENGINES:
        from vlv_export.runtime.engine.opening import open_engines

        return open_engines(folder, manifest, variant)
    return Sessions(folder, manifest, variant, threads)


def open_checked(sessions: Compiled, manifest: Manifest, *, parts: Parts = "caption") -> Runtime:
    """The captioner of an artefact that `check_artefact` passed, proved or not.

    Parity opens variants with it, which nobody has proved yet.
    """
    preprocess = read_preprocess(sessions.folder)
    backend = ArtefactBackend(
        sessions, read_generation(sessions.folder), preprocess.pixels, drawing=parts == "all"
    )
    runtime = Runtime(
        backend,
        name=_name(manifest, sessions.name),
        domain=str(manifest.model.get("domain", "")),
        view=preprocess.view,
    )
    runtime.variant = sessions.name
    return runtime


def open_artefact(folder: Path, options: OpenOptions) -> Runtime:
    """The opener of `manifest.json`.

    A `dtype` that is not float32 names the variant: int4, or in full rtx-bf16-sm89. `device` cuda
    takes an engine of that dtype, auto and cpu take ONNX graphs unless an engine is named.
    Raises UsageError for a device that no variant runs on.
    """
    manifest = read_manifest(folder)
    return Runtime.open(
        folder,
        variant=choose_variant(manifest, options.dtype, options.device),
        parts=options.parts,
        threads=options.threads,
    )


def choose_variant(manifest: Manifest, dtype: str, device: str) -> str | None:
    """The variant that a dtype or a name means on a device; None for the default.

    Raises UsageError if none of the artefact's runs there.
    """
    if dtype in manifest.variants:
        named: str | None = dtype
    elif device.startswith("cuda"):
        named = _engine_of(manifest, None if dtype == "float32" else _SHORT.get(dtype, dtype))
    else:
        named = None if dtype == "float32" else _graphs_of(manifest, dtype.removeprefix("onnx-"))
    if device.startswith("cuda:") and device != "cuda:0":
        raise UsageError(
            f"engines run on the first GPU that is shown, not on {device!r}",
            hint=f"CUDA_VISIBLE_DEVICES={device.removeprefix('cuda:')}, and --device cuda",
        )
    is_engine = named in manifest.variants and manifest.variant(named).exporter in ENGINES
    if not (is_engine or device in ("auto", "cpu")):
        raise UsageError(
            f"artefacts of ONNX graphs run on the CPU, not on {device!r}",
            hint="use --device cpu, or the model that was exported",
        )
    if is_engine and device == "cpu":
        raise UsageError(
            f"variant {named!r} runs on a GPU, not on {device!r}", hint="use --device cuda"
        )
    return named


def _graphs_of(manifest: Manifest, dtype: str) -> str:
    """The portable variant of a dtype; where there is none, the graphs made for engines."""
    portable, for_engines = (f"{kind}-{_SHORT.get(dtype, dtype)}" for kind in ("onnx", "onnx24"))
    there = manifest.variants
    return for_engines if for_engines in there and portable not in there else portable


def _engine_of(manifest: Manifest, dtype: str | None) -> str:
    """The first engine variant of a dtype, of this machine's GPU if there is one."""
    named = [
        name
        for name, entry in manifest.variants.items()
        if entry.exporter in ENGINES and entry.state != "pending" and dtype in (None, entry.dtype)
    ]
    if not named:
        raise UsageError(
            f"no variant of this artefact runs on a GPU{f' in {dtype}' if dtype else ''}; it has "
            f"{', '.join(manifest.variants)}",
            hint="use --device cpu, or export again with --rtx or --trt",
        )
    here = {gpu.sm for gpu in gpus()}
    fits = [each for each in named if here & set(manifest.variant(each).sm)]
    return (fits or named)[0]


def _prove(folder: Path, manifest: Manifest, variant: str, *, threads: int | None) -> None:
    """Raises ModelError unless the variant says here what the model said when it was exported."""
    from vlv_export import parity
    from vlv_export.golden import GOLDEN

    check_file(folder, GOLDEN, manifest.file(GOLDEN), hashed=True)
    report = parity.check(folder, variant, ["L1"], threads=threads)
    if report.verdict != "passed":
        reasons = report.failures() or [each.reason for each in report.levels if each.reason]
        said = "; ".join(reasons) or report.verdict
        raise ModelError(
            f"variant {variant!r} was never proved, and cannot be here: {said}",
            hint="open another variant, or export the model again",
        )


def _name(manifest: Manifest, variant: str) -> str:
    """Model and content: equal for two artefacts whose variant says the same."""
    entry = manifest.variant(variant)
    digest = hashlib.sha256()
    for path in sorted(needed_files(manifest, entry, parts="caption")):
        digest.update(f"{path}\0{manifest.file(path).sha256}\n".encode())
    shown = manifest.model.get("name", "model")
    return f"{shown}@{digest.hexdigest()[:12]}/{variant}"
