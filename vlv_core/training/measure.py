"""How well a model still draws pictures again, as one number that stage 1 would minimise."""

import numpy as np
import torch

from vlv_core.data.order import indices
from vlv_core.errors import DataError
from vlv_core.model import VLV
from vlv_core.preprocess import to_pixels, to_view
from vlv_core.protocols import Dataset
from vlv_core.randomness import Purpose, normal_rows

SAMPLES, BATCH, DRAWS = 256, 32, 8
SEED = 0x5EED
"""fixed, so that any two measurements draw the same noise for the same pictures"""


@torch.no_grad()
def denoising_error(
    model: VLV, dataset: Dataset, *, samples: int = SAMPLES, rows: int = BATCH * DRAWS
) -> float:
    """Mean stage-1 loss over the first readable pictures, at DRAWS evenly spaced times each.

    At most `rows` latents, but all draws of one picture, are denoised at once. Leaves every part in
    eval mode. Raises DataError if no picture can be read.
    """
    model.eval()
    total, count, batch = 0.0, 0, max(1, rows // DRAWS)
    for start in range(0, min(samples, len(dataset)), batch):
        views = _views(model, dataset, range(start, min(start + batch, samples, len(dataset))))
        if len(views):
            total += _error(model, views, first=start)
            count += len(views)
    if not count:
        raise DataError("no picture of the dataset can be read, so nothing can be measured")
    return total / count


def _error(model: VLV, views: np.ndarray, *, first: int) -> float:
    """Sum over pictures of the mean over draws."""
    diffusion, device = model.diffusion, model.device
    keys = range(first, first + len(views))
    noise = torch.from_numpy(
        normal_rows(
            SEED,
            purpose=Purpose.DIFFUSION_NOISE,
            step=0,
            keys=keys,
            shape=(DRAWS + 1, *diffusion.latent_shape),
        )
    ).to(device)
    times = (torch.arange(DRAWS, device=device) + 0.5) / DRAWS
    tokens = model.encoder(torch.from_numpy(to_pixels(views, model.encoder.pixels)).to(device))
    moments = diffusion.moments(torch.from_numpy(views).to(device))
    losses = model.stage1_loss(
        tokens,
        diffusion.latents(moments, noise[:, 0]),
        noise=noise[:, 1:].flatten(0, 1),
        t=diffusion.timesteps(times.repeat(len(views))),
    )
    return float(losses.float().sum()) / DRAWS


def _views(model: VLV, dataset: Dataset, positions: range) -> np.ndarray:
    """Those of these positions of a fixed order that can be read, (B, S, S, 3)."""
    views = []
    for index in indices(SEED, len(dataset), positions.start, len(positions)):
        try:
            views.append(to_view(dataset[int(index)].load(), model.view))
        except (DataError, OSError, ValueError):
            continue
    size = model.view.size
    return np.stack(views) if views else np.empty((0, size, size, 3), np.uint8)
