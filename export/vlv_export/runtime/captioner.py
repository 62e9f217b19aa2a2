"""The captioner of an artefact."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from vlv_core.captioner import Captioner
from vlv_core.errors import ModelError, UsageError
from vlv_export.facts import read_generation, read_preprocess
from vlv_export.golden import GOLDEN
from vlv_export.preflight import Check, Parts, check_artefact, check_file, needed_files
from vlv_export.runtime.backend import ArtefactBackend
from vlv_export.runtime.sessions import Sessions

if TYPE_CHECKING:
    from vlv_core.specs import OpenOptions
    from vlv_export.manifest import Manifest

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


def sessions_of(folder: Path, manifest: Manifest, variant: str, threads: int | None) -> Sessions:
    """What runs the variant's parts. Raises MissingExtra or ModelError where nothing here can."""
    return Sessions(folder, manifest, variant, threads)


def open_checked(sessions: Sessions, manifest: Manifest, *, parts: Parts = "caption") -> Runtime:
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
    """The opener of `manifest.json`. A `dtype` that is not float32 names the variant: int4, or in
    full onnx-int4."""
    if options.device not in ("auto", "cpu"):
        raise UsageError(
            f"artefacts of ONNX graphs run on the CPU, not on {options.device!r}",
            hint="use --device cpu, or the model that was exported",
        )
    short = options.dtype.removeprefix("onnx-")
    named = f"onnx-{_SHORT.get(short, short)}"
    return Runtime.open(
        folder,
        variant=None if options.dtype == "float32" else named,
        parts=options.parts,
        threads=options.threads,
    )


def _prove(folder: Path, manifest: Manifest, variant: str, *, threads: int | None) -> None:
    """Raises ModelError unless the variant says here what the model said when it was exported."""
    from vlv_export import parity

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
