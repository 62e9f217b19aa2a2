"""What the model in torch says of the run's pictures, and the least work that it takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vlv_benchmarks._operations import operations
from vlv_benchmarks.backends import open_captioner
from vlv_benchmarks.job import Job, Measured
from vlv_core.captioner import Captioner
from vlv_core.protocols import Encoded

BATCH = 16
DRAWN = 4
"""pictures that are drawn for each pair of steps and guidance"""


def run(job: Job) -> Measured:
    """Write reference.json, z.npy and drawn-STEPS-GUIDANCE.npy into the folder of reference."""
    captioner = open_captioner(job)
    paths = job.pictures(job.settings["count"])
    said = [
        caption
        for start in range(0, len(paths), BATCH)
        for caption in captioner.caption(paths[start : start + BATCH])
    ]
    encoded = [captioner.encode(paths[start : start + BATCH])
               for start in range(0, len(paths), BATCH)]  # fmt: skip
    job.reference.mkdir(exist_ok=True)
    np.save(job.reference / "z.npy", np.concatenate([each.z for each in encoded]))
    for steps, guidance in job.settings["pairs"]:
        drawn = captioner.reconstruct(
            paths[:DRAWN], seed=job.seed, steps=steps, guidance=guidance,
            keys=range(min(DRAWN, len(paths))),
        )  # fmt: skip
        np.save(job.reference / drawn_name(steps, guidance), drawn)
    found = {
        "captions": [each.text for each in said],
        "tokens": [list(each.tokens) for each in said],
        "work": counted(captioner, paths[0]),
    }
    (job.reference / "reference.json").write_text(json.dumps(found), encoding="utf-8")
    return Measured(stages={"total": [1.0]})


def drawn_name(steps: int, guidance: float) -> str:
    return f"drawn-{steps}-{guidance:g}.npy"


def counted(captioner: Captioner, path: Path) -> dict[str, float]:
    """Operations of one picture's encoding, of reading its prefix, of a step at the start of a
    caption and of a step of the denoiser; bytes of weights as float32 and of a token's cache."""
    backend: Any = captioner.backend
    model, encoded = backend.model, captioner.encode([path])
    length = encoded.prefix.shape[1]
    stepper = backend.start(encoded.prefix, length + 8)
    found = {"encode": operations(captioner.encode, [path])}
    found["prefill"] = operations(stepper.prefill, 1)
    found["decode"] = operations(stepper.step, np.array([model.head.eos[0]]), 1)
    sizes = {name: sum(4.0 * each.numel() for each in part.parameters())
             for name, part in model.parts()}  # fmt: skip
    found["encoder bytes"] = sum(
        sizes[name] for name in ("encoder", "bottleneck", "condition", "connector")
    )
    found["head bytes"] = sizes["head"]
    found["token bytes"] = _cache_bytes(model.head)
    if model.diffusion is not None:
        found["denoise"] = operations(_predict, captioner, encoded)
        found["denoiser bytes"] = sizes["diffusion"]
    return found


def _predict(captioner: Captioner, encoded: Encoded) -> Any:
    from vlv_core.protocols import Conditioning

    shape = captioner.backend.latent_shape
    assert shape is not None
    latents, t = np.zeros((1, *shape), np.float32), np.ones(1, np.int64)
    return captioner.backend.predict(latents, t, Conditioning(encoded.context, encoded.pooled))


def _cache_bytes(head: Any) -> float:
    """Of a token of a row, as float32; 0 where the head cannot say."""
    if not hasattr(head, "export_part"):
        return 0.0
    past = [spec for spec in head.export_part().inputs if spec.name.startswith("past.")]
    return float(sum(4 * spec.shape[1] * spec.shape[3] for spec in past))
