"""Counter-based noise: what a sample draws depends on its key alone, never on its neighbours.

Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) is a keyed bijection of
a 256-bit counter. Seed and purpose are its key; step and sample key are counter words of their own.
So streams cannot overlap, and a sample's noise is the same alone or in a batch, in one process or
eight, before and after a resume.
"""

# annotations stay text: numpy imports its generators when they are first named
from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import UsageError

_WORD = 2**64


class Purpose(IntEnum):
    """What noise is for, so that two uses never share a stream. Numbers are never reused."""

    DIFFUSION_NOISE = 1
    """the noise that stage 1 adds to latents"""
    DIFFUSION_TIME = 2
    """the time it is added at"""
    CONDITION_DROPOUT = 3
    LATENT_POSTERIOR = 4
    """a draw from the VAE's posterior"""
    RECONSTRUCTION = 5
    """the latents that denoising starts from"""
    TOKEN = 6
    """the next word, in sampled captions"""
    ORDER = 7
    """shuffles"""
    AUGMENTATION = 8
    DATA = 9
    """choices inside a procedural dataset"""


def key_of(text: str) -> int:
    """A sample's 64-bit key from its name or path: the same on every machine and in every run."""
    # File names may hold bytes that are no UTF-8; Python carries them as lone surrogates.
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def generator(seed: int, *, purpose: Purpose, step: int, key: int) -> np.random.Generator:
    """The stream of one sample at one step, good for 2**64 blocks. About 15 microseconds.

    Raises UsageError unless seed, step and key are in 0..2**64 - 1.
    """
    for name, value in (("seed", seed), ("step", step), ("key", key)):
        if not 0 <= value < _WORD:
            raise UsageError(f"{name} {value} is outside 0..2**64 - 1")
    # Word 0 counts the blocks drawn; words 1 and 2 keep every (step, key) apart.
    counter = np.array([0, step, key, 0], dtype=np.uint64)
    philox_key = np.array([seed, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=philox_key))


def normal(
    seed: int, *, purpose: Purpose, step: int, key: int, shape: Sequence[int]
) -> NDArray[np.float32]:
    """Standard normal noise of one sample, of the given shape."""
    stream = generator(seed, purpose=purpose, step=step, key=key)
    return stream.standard_normal(tuple(shape), dtype=np.float32)


def uniform(
    seed: int, *, purpose: Purpose, step: int, key: int, shape: Sequence[int]
) -> NDArray[np.float32]:
    """Uniform noise in [0, 1) of one sample, of the given shape."""
    stream = generator(seed, purpose=purpose, step=step, key=key)
    return stream.random(tuple(shape), dtype=np.float32)


def normal_rows(
    seed: int, *, purpose: Purpose, step: int, keys: Sequence[int], shape: Sequence[int]
) -> NDArray[np.float32]:
    """(B, *shape): row i is `normal` of keys[i]."""
    rows = np.empty((len(keys), *shape), np.float32)
    for row, key in enumerate(keys):
        rows[row] = normal(seed, purpose=purpose, step=step, key=int(key), shape=shape)
    return rows


def uniform_rows(
    seed: int, *, purpose: Purpose, step: int, keys: Sequence[int], shape: Sequence[int]
) -> NDArray[np.float32]:
    """(B, *shape): row i is `uniform` of keys[i]."""
    rows = np.empty((len(keys), *shape), np.float32)
    for row, key in enumerate(keys):
        rows[row] = uniform(seed, purpose=purpose, step=step, key=int(key), shape=shape)
    return rows
