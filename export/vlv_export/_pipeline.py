"""The work of an export, as steps of a workspace. Steps up to `assets` need torch, later ones do
not, and the model is let go of between them."""

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from vlv_core.captioner import Captioner
from vlv_core.config import convert
from vlv_core.errors import UsageError, nearest
from vlv_core.model import VLV
from vlv_core.model_parts import export_parts
from vlv_core.parts import CAPTION_PARTS, RECONSTRUCT_PARTS, ExportPart
from vlv_export._assets import write_assets
from vlv_export._capture import capture
from vlv_export._describe import Built, place_of
from vlv_export._finish import finish
from vlv_export._golden import make_golden
from vlv_export._source import Source, find_source, weights_of
from vlv_export._yardstick import write_yardstick
from vlv_export.exporters import Job, Planned, Request
from vlv_export.fingerprint import code_beside, code_of, files_of, key_of, versions
from vlv_export.golden import GOLDEN, read_golden
from vlv_export.manifest import ENGINES, RUN_HERE, FileEntry, VariantEntry
from vlv_export.pipeline import Order, Outcome, Plan, Watcher, watched
from vlv_export.workspace import Workspace, check_free, open_workspace
from vlv_export.yardstick import YARDSTICK

SEED = 0
"""of golden values' random inputs"""
LIBRARIES = ("torch", "transformers", "diffusers", "onnxscript", "onnx-ir")
"""whose versions decide what is captured"""
CAPTURE_CODE = tuple(f"vlv_export.{name}" for name in ("_capture", "_nodes", "_tidy"))
GOLDEN_CODE = tuple(
    f"vlv_export.{name}"
    for name in ("_golden", "_golden_cases", "golden", "pictures", "parity.meaning")
)
MADE_OF = {
    "encoder": ("encoder", "bottleneck", "condition", "connector"),
    "head": ("head",),
    "condition": ("condition", "connector"),
    "text": ("condition",),
    "denoiser": ("diffusion",),
    "vae_decoder": ("diffusion",),
}
"""graph -> the model's parts whose weights it holds, at most"""


def make_plan(order: Order) -> tuple[Source, Plan]:
    """What the order means; reads no weights.

    Raises UsageError for an order that cannot be met, ModelError for a model that is none.
    """
    source = find_source(
        order.model,
        plugins=order.plugins,
        diffusion=order.reconstruct,
        random_weights=order.random_weights,
    )
    sketch = source.sketch(diffusion=order.reconstruct)
    parts = _names(sketch, reconstruct=order.reconstruct)
    variants: dict[str, tuple[Planned, ...]] = {}
    for flag, exporter in order.exporters.items():
        request = Request(
            model=source.name,
            dtypes=order.dtypes[flag],
            parts=parts,
            weights=weights_of(sketch),
            head=weights_of(sketch.head),
            prefix_length=sketch.bottleneck.num_queries,
            max_length=sketch.head.max_length,
        )
        variants[flag] = _new(exporter.plan(request), variants.values())
    sizes = {name: 4 * sum(p.numel() for p in part.parameters()) for name, part in sketch.parts()}
    plan = Plan(
        model=source.name,
        weights=sum(sizes.values()) // 4,
        parts=parts,
        variants=variants,
        neutral_bytes=sum(sizes[made] for part in parts for made in MADE_OF[part]),
    )
    _check_default(order, plan)
    return source, plan


def export(order: Order, watcher: Watcher) -> Outcome:
    """Make OUT.

    Raises UsageError before any work for an order that cannot be met, NotProved if parity fails,
    with everything that was made in OUT.rejected.
    """
    check_free(order.out, force=order.force)
    source, plan = make_plan(order)
    with open_workspace(order.out, force=order.force) as space:
        space.require_space(plan.peak_bytes)
        with watched(watcher, _steps(plan)):
            return _Export(order, source, plan, space, watcher).run()


@dataclass
class _Export:
    order: Order
    source: Source
    plan: Plan
    space: Workspace
    watcher: Watcher
    keys: dict[str, str] = field(default_factory=dict)
    """of steps that are done"""

    def run(self) -> Outcome:
        if self.order.threads is not None:
            torch.set_num_threads(self.order.threads)
        captioner = self.source.open(plugins=self.order.plugins, diffusion=self.order.reconstruct)
        parts = export_parts(_model(captioner), reconstruct=self.order.reconstruct)
        graphs = {part.name: self._capture(part) for part in parts}
        golden = self._golden(captioner, parts)
        assets = self._assets(captioner)
        small = {self.keys["assets"]: assets, self.keys["golden values"]: golden}
        if _measures_bf16(self.plan):
            # Last of what needs the model, which it turns to bfloat16.
            yardstick = self._yardstick(captioner, golden)
            small[self.keys["yardstick"]] = yardstick
        contracts = {part.name: _contract(part) for part in parts}
        del captioner, parts
        gc.collect()
        built: dict[str, Built] = {}
        for flag, variants in self.plan.variants.items():
            for planned in variants:
                job = Job(
                    planned=planned,
                    graphs=self._graphs(built[planned.of]) if planned.of else graphs,
                    of=built[planned.of].entry if planned.of else None,
                    parts=contracts,
                    assets=assets,
                    folder=self.space.folder,
                    tell=self.watcher.tell,
                )
                built[planned.name] = self._build(flag, job)
        return finish(
            self.space,
            self.order,
            self.source,
            built=built,
            small=small,
            watcher=self.watcher,
        )

    def _capture(self, part: ExportPart) -> Path:
        def make(folder: Path) -> None:
            model = capture(part)
            ir.save(model, folder / f"{part.name}.onnx", external_data=f"{part.name}.data")

        key = key_of(
            part=part.name,
            model=self.source.identity,
            reconstruct=self.order.reconstruct,
            libraries=versions(LIBRARIES),
            code=code_of(["vlv_core", *CAPTURE_CODE]),
            model_code=code_beside(type(each) for each in part.module.modules()),
        )
        return self._step(f"capture {part.name}", key, make) / f"{part.name}.onnx"

    def _golden(self, captioner: Captioner, parts: list[ExportPart]) -> Path:
        def make(folder: Path) -> None:
            make_golden(
                _model(captioner),
                parts,
                captioner,
                folder / GOLDEN,
                plugins=self.order.plugins,
                seed=SEED,
                random_weights=self.source.random,
            )

        key = self._model_key(*GOLDEN_CODE)
        return self._step("golden values", key, make)

    def _assets(self, captioner: Captioner) -> Path:
        def make(folder: Path) -> None:
            write_assets(captioner, folder, reconstruct=self.order.reconstruct)

        key = self._model_key("vlv_export._assets", "vlv_export.facts")
        return self._step("assets", key, make)

    def _yardstick(self, captioner: Captioner, golden: Path) -> Path:
        def make(folder: Path) -> None:
            known = read_golden(golden / GOLDEN)
            write_yardstick(_model(captioner), known, folder / YARDSTICK)

        code = [f"vlv_export.{name}" for name in ("_yardstick", "yardstick", "_golden_cases")]
        key = key_of(golden=self.keys["golden values"], code=code_of(code))
        return self._step("yardstick", key, make)

    def _model_key(self, *code: str) -> str:
        """Of what is made from the whole model."""
        return key_of(captured=self._captured(), code=code_of(code))

    def _captured(self) -> list[str]:
        return [key for step, key in self.keys.items() if step.startswith("capture ")]

    def _build(self, flag: str, job: Job) -> Built:
        """`job.folder` becomes that of the step."""
        exporter, planned = self.order.exporters[flag], job.planned

        def make(folder: Path) -> dict[str, Any]:
            entry = exporter.build(replace(job, folder=folder))
            files = {name: asdict(each) for name, each in files_of(folder).items()}
            return {"entry": asdict(entry), "files": files}

        key = key_of(
            variant=[planned.name, planned.dtype, dict(planned.settings), planned.waits],
            made_of=self.keys[f"build {planned.of}"] if planned.of else self._captured(),
            assets=self.keys["assets"],
            code=code_of([*exporter.sources(), "vlv_export.manifest"]),
        )
        step = f"build {planned.name}"
        self._step(step, key, make, at=place_of(planned))
        return _built(planned, key, self.space.note(step))

    def _graphs(self, built: Built) -> dict[str, Path]:
        """The files of a variant that another one is made from."""
        folder = self.space.artefact / place_of(built.planned)
        return {part: folder / graph.file for part, graph in built.entry.graphs.items()}

    def _step(self, name: str, key: str, make: Callable[[Path], Any], *, at: str = "") -> Path:
        self.keys[name] = key
        self.watcher.step(name, kept=self.space.done(name, key, at=at))
        return self.space.step(name, key, make, at=at)


def _steps(plan: Plan) -> list[str]:
    planned = [each for variants in plan.variants.values() for each in variants]
    return [
        *(f"capture {part}" for part in plan.parts),
        "golden values",
        "assets",
        *(["yardstick"] if _measures_bf16(plan) else []),
        *(f"build {each.name}" for each in planned),
        *(f"prove {each.name}" for each in planned if not each.waits),
    ]


def _measures_bf16(plan: Plan) -> bool:
    """Whether numbers of bfloat16 graphs will be judged: by what the eager model's own are."""
    every = (each for variants in plan.variants.values() for each in variants)
    return any(each.dtype == "bf16" and not each.not_run and not each.waits for each in every)


def _new(planned: Sequence[Planned], before: Iterable[Sequence[Planned]]) -> tuple[Planned, ...]:
    """Those that no exporter before has planned: two may need the same variant, made once."""
    known = {each.name: each for variants in before for each in variants}
    for each in planned:
        assert known.get(each.name, each) == each, f"two exporters plan {each.name} differently"
    return tuple(each for each in planned if each.name not in known)


def _built(planned: Planned, key: str, note: Mapping[str, Any]) -> Built:
    """From the note of the step that built it."""
    files = {name: convert(FileEntry, each, name) for name, each in note["files"].items()}
    entry = convert(VariantEntry, note["entry"], planned.name)
    return Built(planned=planned, entry=entry, files=files, key=key)


def _names(model: VLV, *, reconstruct: bool) -> tuple[str, ...]:
    if not reconstruct:
        return CAPTION_PARTS
    drawing = [
        name for name in RECONSTRUCT_PARTS if name != "text" or hasattr(model.condition, "read_ids")
    ]
    return (*CAPTION_PARTS, *drawing)


def _contract(part: ExportPart) -> ExportPart:
    """The part without its weights."""
    return replace(part, module=None)  # type: ignore[arg-type]


def _model(captioner: Captioner) -> VLV:
    model: VLV = captioner.backend.model  # type: ignore[attr-defined]
    return model


def _check_default(order: Order, plan: Plan) -> None:
    names = plan.names()
    if order.default is not None and order.default not in names:
        raise UsageError(
            f"--default {order.default!r} is not among the variants{nearest(order.default, names)}"
            f"; they are {', '.join(names)}"
        )
    ours = [
        each.name
        for flag in (*RUN_HERE, *ENGINES)
        for each in plan.variants.get(flag, ())
        if not each.waits
    ]
    if order.default is not None and order.default not in ours:
        raise UsageError(
            f"--default {order.default!r} is run by another program, so vlv cannot take it; "
            f"it can take {', '.join(ours) or 'none of these variants'}"
        )
