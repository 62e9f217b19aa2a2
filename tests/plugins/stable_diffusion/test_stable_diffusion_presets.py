"""The shipped architectures have the published numbers of parameters, at no memory."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from tests.plugins.stable_diffusion.tiny import SPECS, local
from vlv_core.specs import Near, resolve
from vlv_plugins._hub import presets

CLIP_L = 123_060_480
OPENCLIP_H = 340_387_840
"""without its last layer"""
BIG_G = 694_659_840
"""with its projection"""
VAE = 83_653_863
VAE_16 = 83_819_683
"""16 latent channels, no quantisation convolutions"""

PUBLISHED: dict[str, tuple[str, Sequence[int], int, int, tuple[int, int, int]]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (
        *("stable-diffusion", [CLIP_L], 859_520_964, VAE, (4, 48, 48)),
    ),
    "stabilityai/stable-diffusion-2-1-base": (
        *("stable-diffusion", [OPENCLIP_H], 865_910_724, VAE, (4, 48, 48)),
    ),
    "stabilityai/stable-diffusion-2-1": (
        *("stable-diffusion", [OPENCLIP_H], 865_910_724, VAE, (4, 48, 48)),
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": (
        *("stable-diffusion-xl", [CLIP_L, BIG_G], 2_567_463_684, VAE, (4, 48, 48)),
    ),
    "stabilityai/stable-diffusion-3.5-medium": (
        *("stable-diffusion-3", [CLIP_L + 768 * 768, BIG_G], 0, VAE_16, (16, 48, 48)),
    ),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def outline(name: str) -> tuple[Any, Any]:
    """Condition and diffusion on the meta device, for a view of 384 pixels."""
    spec = SPECS[PUBLISHED[name][0]]
    assert spec.config and spec.complete
    config = resolve(spec.complete)(spec.config(model=name), local)
    with torch.device("meta"):
        condition = resolve(spec.build)(config, Near(view_size=384))
        near = Near(view_size=384, context_dim=condition.context_dim)
        return condition, resolve(spec.diffusion)(config, near)


def sd35_medium_by_hand() -> int:
    """Transformer of 24 blocks, 13 of them with a second attention (arXiv 2403.03206, 3.5's card).

    Linear layers have biases; each attention norms queries and keys of one 64-wide head.
    """
    width, blocks, dual, norms = 1536, 24, 13, 2 * 64

    def linear(i: int, o: int) -> int:
        return i * o + o

    attention = 4 * linear(width, width) + norms
    mlp = linear(width, 4 * width) + linear(4 * width, width)
    image = linear(width, 6 * width) + attention + mlp
    last_text = linear(width, 2 * width) + 3 * linear(width, width) + norms
    embeds = linear(16 * 2 * 2, width) + linear(4096, width)
    vectors = linear(256, width) + linear(2048, width) + 2 * linear(width, width)
    out = linear(width, 2 * width) + linear(width, 16 * 2 * 2)
    second = linear(width, 3 * width) + attention
    joint = blocks * image + (blocks - 1) * image + last_text + dual * second
    return embeds + vectors + joint + out


def test_every_preset_is_checked() -> None:
    assert presets("vlv_plugins.stable_diffusion") == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str) -> None:
    _, texts, denoiser, vae, latent = PUBLISHED[name]
    condition, diffusion = outline(name)
    assert [count(encoder) for encoder in condition.text_encoders] == list(texts)
    assert count(diffusion.denoiser) == (denoiser or sd35_medium_by_hand())
    assert count(diffusion.vae) == vae
    assert diffusion.latent_shape == latent
    assert condition.max_queries == 77
    assert condition.embedding_dim == sum(encoder.width for encoder in condition.text_encoders)


def test_predictions_and_paddings() -> None:
    found = {}
    for name in PUBLISHED:
        condition, diffusion = outline(name)
        paddings = [tokenizer.specials["pad_token"] for tokenizer in condition.tokenizers]
        found[name.partition("/")[2]] = (diffusion.prediction, *paddings)
    end = "<|endoftext|>"
    assert found == {
        "stable-diffusion-v1-5": ("epsilon", end),
        "stable-diffusion-2-1-base": ("epsilon", "!"),
        "stable-diffusion-2-1": ("v", "!"),
        "stable-diffusion-xl-base-1.0": ("epsilon", end, "!"),
        "stable-diffusion-3.5-medium": ("flow", end, "!"),
    }


def test_the_scaled_linear_schedule_ends_where_stable_diffusions_does() -> None:
    """0.0047 of the signal's variance is left: the known figure of arXiv 2305.08891, table 1."""
    schedule = outline("stabilityai/stable-diffusion-2-1-base")[1].schedule()
    assert schedule.alphas_cumprod[-1] == pytest.approx(0.004660, abs=1e-6)
    assert (schedule.steps_offset, schedule.set_alpha_to_one) == (1, False)
