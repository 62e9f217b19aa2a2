"""Noise depends on (seed, purpose, step, key) alone."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from math import erf, sqrt
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vlv_core.errors import UsageError
from vlv_core.randomness import (
    Purpose,
    generator,
    key_of,
    normal,
    normal_rows,
    uniform,
    uniform_rows,
)

# A busy machine must not fail a test.
PATIENT = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
Address = tuple[int, Purpose, int, int]
"""seed, purpose, step, key"""

words = st.integers(0, 2**64 - 1)
addresses = st.tuples(words, st.sampled_from(Purpose), words, words)


def draw(address: Address, shape: tuple[int, ...] = (5,)) -> NDArray[np.float32]:
    seed, purpose, step, key = address
    return normal(seed, purpose=purpose, step=step, key=key, shape=shape)


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox4x64-10 as its paper gives it: one block of four words."""
    mask, (k0, k1) = 2**64 - 1, key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & mask, (p0 >> 64) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


def test_the_reference_passes_its_authors_known_answer() -> None:
    assert philox([0] * 4, [0] * 2) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


@given(addresses)
@settings(PATIENT, max_examples=25)
def test_the_address_is_the_counter_and_the_key(address: Address) -> None:
    seed, purpose, step, key = address
    raw = generator(seed, purpose=purpose, step=step, key=key).bit_generator.random_raw(8).tolist()
    # numpy counts up before each block, so the first block is number 1.
    assert raw[:4] == philox([1, step, key, 0], [seed, purpose])
    assert raw[4:] == philox([2, step, key, 0], [seed, purpose])


def test_values_are_pinned() -> None:
    """Fails if numpy changes its streams: checkpoints and captions would then not repeat."""
    noise = normal(7, purpose=Purpose.DIFFUSION_NOISE, step=3, key=11, shape=(3,))
    draws = uniform(7, purpose=Purpose.TOKEN, step=3, key=11, shape=(3,))
    np.testing.assert_allclose(noise, [-0.628998, 1.2894212, 0.73344547], rtol=1e-6)
    np.testing.assert_allclose(draws, [0.6955507, 0.93322605, 0.24243098], rtol=1e-6)


def test_purposes_are_pinned() -> None:
    names = (
        "DIFFUSION_NOISE DIFFUSION_TIME CONDITION_DROPOUT LATENT_POSTERIOR RECONSTRUCTION TOKEN "
        "ORDER AUGMENTATION DATA"
    )
    assert [(p.name, p.value) for p in Purpose] == [
        (name, i) for i, name in enumerate(names.split(), start=1)
    ]


def test_another_process_draws_the_same() -> None:
    code = (
        "from vlv_core.randomness import *;"
        "print(normal(1, purpose=Purpose.TOKEN, step=2, key=key_of('b.png'), shape=(2,)).tolist())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout
    here = normal(1, purpose=Purpose.TOKEN, step=2, key=key_of("b.png"), shape=(2,))
    assert printed.strip() == str(here.tolist())


def test_global_state_is_neither_read_nor_written() -> None:
    np.random.seed(0)
    untouched = np.random.random()
    np.random.seed(0)
    first = draw((0, Purpose.TOKEN, 0, 0))
    assert np.random.random() == untouched
    np.testing.assert_array_equal(first, draw((0, Purpose.TOKEN, 0, 0)))


@given(words, st.sampled_from(Purpose), words, st.lists(words, max_size=6), st.randoms())
@settings(PATIENT, max_examples=40)
def test_a_row_is_the_same_alone_and_in_any_batch(
    seed: int, purpose: Purpose, step: int, keys: list[int], shuffler: Random
) -> None:
    shuffled = list(keys)
    shuffler.shuffle(shuffled)
    for rows, one in ((normal_rows, normal), (uniform_rows, uniform)):
        batch = rows(seed, purpose=purpose, step=step, keys=shuffled, shape=(2, 3))
        assert batch.shape == (len(keys), 2, 3) and batch.dtype == np.float32
        for key, row in zip(shuffled, batch, strict=True):
            alone = one(seed, purpose=purpose, step=step, key=key, shape=(2, 3))
            np.testing.assert_array_equal(row, alone)


@given(addresses, addresses)
@settings(PATIENT, max_examples=100)
def test_different_addresses_give_different_noise(one: Address, other: Address) -> None:
    assert np.array_equal(draw(one), draw(other)) == (one == other)


@pytest.mark.parametrize(
    "changed",
    [
        (4, Purpose.TOKEN, 5, 7),
        (3, Purpose.ORDER, 5, 7),
        (3, Purpose.TOKEN, 6, 7),
        (3, Purpose.TOKEN, 5, 8),
    ],
)
def test_each_part_of_the_address_counts(changed: Address) -> None:
    assert not np.isin(draw((3, Purpose.TOKEN, 5, 7), (500,)), draw(changed, (500,))).any()


def test_neighbouring_streams_share_no_block() -> None:
    """A counter that ran from one key into the next would repeat 64-bit words."""
    seen = np.concatenate(
        [
            generator(0, purpose=Purpose.DATA, step=step, key=key).integers(0, 2**63, 1000)
            for step in range(4)
            for key in range(4)
        ]
    )
    assert len(np.unique(seen)) == seen.size


def test_a_longer_shape_starts_alike() -> None:
    short = uniform(1, purpose=Purpose.ORDER, step=0, key=2, shape=(4,))
    long = uniform(1, purpose=Purpose.ORDER, step=0, key=2, shape=(40,))
    np.testing.assert_array_equal(short, long[:4])


def kolmogorov(samples: NDArray[Any], cumulative: Callable[[float], float]) -> float:
    """Kolmogorov-Smirnov distance, scaled: below 1.95 in 999 of 1000 true draws."""
    ordered = np.sort(samples.ravel())
    expected = np.array([cumulative(value) for value in ordered])
    steps = np.arange(ordered.size + 1) / ordered.size
    distance = max(np.abs(expected - steps[:-1]).max(), np.abs(expected - steps[1:]).max())
    return distance * sqrt(ordered.size)


def test_across_keys_the_noise_is_normal_and_uncorrelated() -> None:
    noise = normal_rows(5, purpose=Purpose.RECONSTRUCTION, step=0, keys=range(10000), shape=(2,))
    assert kolmogorov(noise, lambda x: (1 + erf(x / sqrt(2))) / 2) < 1.95
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.03
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.03


def test_across_steps_draws_are_uniform_in_the_half_open_interval() -> None:
    draws = np.concatenate(
        [uniform(5, purpose=Purpose.TOKEN, step=s, key=9, shape=(1,)) for s in range(10000)]
    )
    assert draws.min() >= 0 and draws.max() < 1
    assert kolmogorov(draws, lambda x: x) < 1.95


@pytest.mark.parametrize("name", ["seed", "step", "key"])
@pytest.mark.parametrize("value", [-1, 2**64])
def test_out_of_range_is_refused(name: str, value: int) -> None:
    address = {"seed": 0, "step": 0, "key": 0, name: value}
    with pytest.raises(UsageError, match=rf"{name} {value} is outside 0\.\.2\*\*64 - 1"):
        generator(address["seed"], purpose=Purpose.DATA, step=address["step"], key=address["key"])


def test_numpy_keys_are_taken() -> None:
    keys = np.array([1, 2**64 - 1], np.uint64)
    rows = normal_rows(0, purpose=Purpose.DATA, step=0, keys=keys, shape=())
    assert rows[1] == normal(0, purpose=Purpose.DATA, step=0, key=2**64 - 1, shape=())


def test_key_of_is_blake2b() -> None:
    # printf 'a/b.png' | b2sum -l 64, read as little-endian
    assert key_of("a/b.png").to_bytes(8, "little").hex() == "7ea4fc4732436554"


def test_keys_do_not_collide_in_a_large_folder() -> None:
    assert len({key_of(f"folder/{i:06}.jpg") for i in range(50000)}) == 50000


@given(st.text(st.characters(categories=["L", "Cs", "S"])))
@PATIENT
def test_every_file_name_has_a_key(name: str) -> None:
    assert 0 <= key_of(name) < 2**64
