"""The latents that the denoiser is pretrained on, computed once by the frozen VAE."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vlv_plugins.mini._diffusion import MiniDiffusion

CHUNK = 256


def latent_means(
    diffusion: MiniDiffusion, dataset: Any, *, count: int, path: Path
) -> NDArray[np.float16]:
    """Posterior means of the first `count` pictures, (count, C, h, w), kept at `path`."""
    if path.is_file():
        return np.load(path, mmap_mode="r", allow_pickle=False)
    rows = np.empty((count, *diffusion.latent_shape), np.float16)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        samples = dataset.samples(range(start, stop))
        view = torch.from_numpy(np.stack([sample.load() for sample in samples]))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            moments = diffusion.moments(view)
        rows[start:stop] = moments.chunk(2, dim=1)[0].float().numpy()
    partial = path.with_suffix(".partial.npy")
    np.save(partial, rows)
    partial.rename(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


@torch.no_grad()
def standardise(diffusion: MiniDiffusion, means: NDArray[np.float16]) -> None:
    """Set scale and shift so that each latent channel has mean 0 and deviation 1."""
    some = np.asarray(means[:20000], np.float32)
    shift, deviation = some.mean((0, 2, 3)), some.std((0, 2, 3))
    diffusion.shift.copy_(torch.from_numpy(shift)[:, None, None])
    diffusion.scale.copy_(1.0 / torch.from_numpy(deviation)[:, None, None])
