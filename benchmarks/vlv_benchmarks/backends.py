"""What can run a captioner: the model in torch, and each variant of each artefact. Rows of it for a
case, and in a row's process the captioner itself."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from vlv_benchmarks.job import Job, Order, Planned, Settings
from vlv_benchmarks.onnx_nodes import node_count
from vlv_benchmarks.record import Row, Value
from vlv_core.captioner import Captioner
from vlv_core.errors import UsageError
from vlv_core.loading import load
from vlv_export.manifest import ENGINES, RUN_HERE, Manifest, VariantEntry, read_manifest
from vlv_export.preflight import needed_files

EAGER, COMPILED, RUNTIME = "torch-eager", "torch-compile", "onnxruntime"
COMPILERS = ("c++", "g++", "clang++")
"""one of which torch.compile needs on a CPU"""
COMPILING_S = 1200.0
"""of a turn of torch.compile: a run's first one compiles all"""
SLOW = "compiling takes longer than a whole quick run"
ARITHMETIC = {"fp32": "float32", "fp16": "float32", "bf16": "bfloat16", "int8": "int8",
              "int4": "int8"}  # fmt: skip
"""what a variant's large products are done in: weights of 4 bits meet activations of 8"""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run the model, before a case says what to run."""

    name: str
    label: str
    dtype: str
    variant: str = ""
    settings: Settings
    refusal: str = ""

    def planned(
        self,
        order: Order,
        case: str,
        *,
        batch: int = 1,
        options: Mapping[str, Value] | None = None,
        settings: Settings | None = None,
        timeout_s: float = 300.0,
    ) -> Planned:
        """Its row in a case. Options tell rows of a case apart that do different work."""
        row = Row(
            case=case,
            backend=self.name,
            label=self.label,
            model=model_name(order.model),
            variant=self.variant,
            dtype=self.dtype,
            batch=batch,
            threads=order.threads,
            reference=self.name == EAGER,
            options=dict(options or {}),
        )
        given = {**self.settings, **(settings or {})}
        if self.name == COMPILED:
            timeout_s = max(timeout_s, COMPILING_S)
        return Planned(row=row, settings=given, refusal=self.refusal, timeout_s=timeout_s)


def model_name(model: str) -> str:
    """As it stands in rows: a folder by its last name."""
    return Path(model).name if Path(model).is_dir() else model


def backends(order: Order, *, draws: bool = False) -> list[Backend]:
    """All of them, those that cannot run with the reason.

    draws: whether the case needs the diffusion
    """
    return [*_torch(order, draws=draws), *_artefacts(order, draws=draws)]


def open_captioner(job: Job) -> Captioner:
    """The captioner of a row, from its settings."""
    settings, threads = job.settings, job.row.threads
    parts: Literal["caption", "all"] = "all" if settings.get("draws") else "caption"
    if "artefact" in settings:
        from vlv_export import Runtime

        return Runtime.open(
            settings["artefact"], variant=settings["variant"], parts=parts, threads=threads
        )
    captioner = load(
        settings["model"], parts=parts, device="cpu", threads=threads, plugins=job.plugins()
    )
    if settings.get("compile"):
        # compiled code is kept for the run's other turns, whose warm-up is then short
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(job.inputs) / "compiled"))
        from vlv_benchmarks._compiled import compile_parts

        compile_parts(captioner)
    return captioner


def _torch(order: Order, *, draws: bool) -> Iterator[Backend]:
    absent = "" if find_spec("torch") else "torch is not installed: pip install 'vlv[train]'"
    settings = {"model": str(order.model), "draws": draws}
    eager = Backend(
        name=EAGER, label="torch eager", dtype="fp32", settings=settings, refusal=absent
    )
    yield eager
    yield replace(
        eager,
        name=COMPILED,
        label="torch.compile",
        settings={**settings, "compile": True},
        refusal=absent or _no_compiler() or (SLOW if order.quick else ""),
    )


def _no_compiler() -> str:
    given = os.environ.get("CXX")
    if any(shutil.which(each) for each in ([given] if given else COMPILERS)):
        return ""
    return f"no C++ compiler is installed (looked for {', '.join(COMPILERS)}, and $CXX)"


def _artefacts(order: Order, *, draws: bool) -> Iterator[Backend]:
    opened = [(folder, read_manifest(folder)) for folder in order.artefacts]
    names = [name for _, manifest in opened for name in manifest.variants]
    for folder, manifest in opened:
        for name, entry in manifest.variants.items():
            shown = name if names.count(name) == 1 else f"{folder.name}:{name}"
            refusal = _refusal(order, manifest, entry, draws=draws)
            yield Backend(
                name=RUNTIME if entry.exporter in RUN_HERE else entry.exporter,
                label=f"vlv {shown}",
                dtype=entry.dtype,
                variant=shown,
                settings={
                    "artefact": str(folder.absolute()),
                    "variant": name,
                    "draws": draws,
                    "proof": str(entry.parity.get("verdict", "not run")),
                    "bytes": _bytes(manifest, entry),
                    "facts": _facts(folder, manifest, entry),
                },
                refusal=refusal,
            )
    if not opened:
        hint = f"no artefact is given: vlv-export {order.model} -o OUT --onnx, then --artefact OUT"
        yield Backend(name=RUNTIME, label="vlv artefact", dtype="", settings={}, refusal=hint)


def _refusal(order: Order, manifest: Manifest, entry: VariantEntry, *, draws: bool) -> str:
    from vlv_benchmarks.environment import gpu_there

    if entry.exporter in ENGINES and not gpu_there():
        return "no GPU"
    if entry.exporter not in (*RUN_HERE, *ENGINES):
        return f"another program runs the variants of {entry.exporter!r}, not vlv"
    if entry.state == "pending":
        return entry.waits or "it waits for its target"
    if draws and "denoiser" not in entry.graphs:
        return "the artefact was exported without --reconstruct"
    made_of, asked = manifest.model.get("name"), model_name(order.model)
    if made_of != asked and not Path(order.model).is_dir():
        return f"the artefact was made of {made_of!r}, and the run's model is {asked!r}"
    return ""


def _bytes(manifest: Manifest, entry: VariantEntry) -> dict[str, float]:
    """part -> bytes of its weights; `token` -> bytes of the cache that a token of a row fills."""
    weights = {
        part: float(sum(manifest.file(path).bytes for path in graph.data))
        for part, graph in entry.graphs.items()
    }
    return {**weights, "token": float(entry.kv.get("bytes_per_token", 0))}


def _facts(folder: Path, manifest: Manifest, entry: VariantEntry) -> dict[str, float | str]:
    """What may not vary between two runs of the same artefact, of what a caption needs."""
    files = needed_files(manifest, entry, parts="caption")
    nodes = {
        f"{part}_nodes": float(node_count((folder / graph.file).read_bytes()))
        for part, graph in entry.graphs.items()
        if graph.file in files and graph.file.endswith(".onnx")
    }
    return {"artefact_bytes": float(sum(manifest.file(path).bytes for path in files)), **nodes}


def chosen(planned: Sequence[Planned], rows: Sequence[str]) -> list[Planned]:
    """Those of the named backends or variants; all if none is named. A row that others are compared
    with stays only if it is named too."""
    return [
        each for each in planned
        if not rows or {each.row.backend, each.row.variant, each.row.label} & set(rows)
    ]  # fmt: skip


def check_rows(planned: Sequence[Planned], rows: Sequence[str]) -> None:
    """Raises UsageError for a name that no row has."""
    there = dict.fromkeys(
        name for each in planned for name in (each.row.backend, each.row.variant) if name
    )
    labels = {each.row.label for each in planned}
    for name in rows:
        if name not in there and name not in labels:
            raise UsageError(
                f"no row named {name!r}; rows: {', '.join(there) or 'none'}",
                hint="the variants of an artefact are rows with --artefact OUT",
            )


def arithmetic(job: Job) -> str:
    """The ceiling's rate that a row's products are bound by."""
    return ARITHMETIC.get(job.row.dtype, "float32")


def facts_of(job: Job) -> dict[str, Any]:
    return dict(job.settings.get("facts", {}))
