"""Latents, prediction and loss are those of diffusers' own pieces."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor

from tests.plugins.stable_diffusion.tiny import VIEW, Published, close, normal
from vlv_core.conformance.base import check_reached
from vlv_core.protocols import Conditioning

PREDICTION = {
    "stable-diffusion": "epsilon",
    "stable-diffusion-v": "v",
    "stable-diffusion-xl": "epsilon",
    "stable-diffusion-3": "flow",
}


def view() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, VIEW, VIEW, 3), generator=generator, dtype=torch.uint8)


def conditioning(published: Published) -> Conditioning:
    z = normal(2, 6, published.condition.embedding_dim, seed=2)
    made: Conditioning = published.condition(z)
    return made


def their_answer(published: Published, noisy: Tensor, t: Tensor, given: Conditioning) -> Tensor:
    """The library's denoiser, called as its pipeline calls it."""
    pipe: Any = published.pipe
    if published.kind == "stable-diffusion-3":
        clip = F.pad(given.context, (0, 80 - given.context.shape[2]))
        context = torch.cat([clip, torch.zeros(2, 256, 80)], dim=1)
        return pipe.transformer(noisy, context, given.pooled, t).sample
    added = None
    if published.kind == "stable-diffusion-xl":
        ids = pipe._get_add_time_ids(
            (VIEW, VIEW), (0, 0), (VIEW, VIEW), torch.float32, text_encoder_projection_dim=16
        )
        added = {"text_embeds": given.pooled, "time_ids": ids.repeat(2, 1)}
    return pipe.unet(noisy, t, given.context, added_cond_kwargs=added).sample


def their_loss(published: Published, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """As diffusers' training scripts compute it."""
    given = conditioning(published)
    if published.kind == "stable-diffusion-3":
        sigmas = (t / 1000).view(-1, 1, 1, 1)
        noisy = (1.0 - sigmas) * latents + sigmas * noise
        target = noise - latents
    else:
        scheduler = DDPMScheduler.from_config(published.pipe.scheduler.config)
        noisy = scheduler.add_noise(latents, noise, t)
        target = noise
        if published.kind == "stable-diffusion-v":
            target = scheduler.get_velocity(latents, noise, t)
    answer = their_answer(published, noisy, t, given)
    return F.mse_loss(answer, target, reduction="none").flatten(1).mean(dim=1)


def test_latents_are_the_posteriors_shifted_and_scaled(published: Published) -> None:
    diffusion, model = published.diffusion, published.pipe.vae
    noise = normal(2, *diffusion.latent_shape)
    with torch.no_grad():
        pixels = published.pipe.image_processor.preprocess(view().numpy().astype("f4") / 255)
        posterior = model.encode(pixels).latent_dist
        moments = diffusion.moments(view())
        made = diffusion.latents(moments, noise)
    close(moments, posterior.parameters)
    shift = model.config.shift_factor or 0
    close(made, (posterior.mean + posterior.std * noise - shift) * model.config.scaling_factor)


def test_scale_and_shift_are_both_used(published: Published) -> None:
    """Fails where one is forgotten, on the way in or out."""
    diffusion = published.diffusion
    moments = diffusion.moments(view())
    mean = moments.chunk(2, dim=1)[0]
    latents = diffusion.latents(moments, torch.zeros_like(mean))
    scale, shift = {
        "stable-diffusion-xl": (0.13025, 0.0),
        "stable-diffusion-3": (1.5305, 0.0609),
    }.get(published.kind, (0.18215, 0.0))
    close(latents / scale + shift, mean)
    assert bool(shift) is not torch.allclose(latents / scale, mean, atol=1e-4)
    pictures = published.pipe.vae.decode(mean).sample.permute(0, 2, 3, 1)
    close(diffusion.decode(latents), (pictures / 2 + 0.5).clamp(0, 1))
    if shift:
        unshifted = published.pipe.vae.decode(latents / scale).sample.permute(0, 2, 3, 1)
        assert not torch.allclose(diffusion.decode(latents), (unshifted / 2 + 0.5).clamp(0, 1))


def test_prediction_equals_the_librarys(published: Published) -> None:
    noisy, t = normal(2, *published.diffusion.latent_shape), torch.tensor([3, 777])
    given = conditioning(published)
    assert published.diffusion.prediction == PREDICTION[published.kind]
    close(
        published.diffusion.predict(noisy, t, given),
        their_answer(published, noisy, t, given),
    )


def test_loss_equals_the_librarys(published: Published) -> None:
    latents, noise = (normal(2, *published.diffusion.latent_shape, seed=s) for s in (3, 4))
    t = torch.tensor([0, 999])
    made = published.diffusion.loss(latents, conditioning(published), noise=noise, t=t)
    close(made, their_loss(published, latents, noise, t))


def test_flow_mixes_as_the_scheduler_does(published: Published) -> None:
    if published.kind != "stable-diffusion-3":
        pytest.skip("not a flow")
    scheduler, process = published.pipe.scheduler, published.diffusion.process
    scheduler.set_timesteps(1000)
    latents, noise = (normal(2, 4, 8, 8, seed=s) for s in (3, 4))
    t = scheduler.timesteps[torch.tensor([40, 700])]
    close(process.noisy(latents, noise, t), scheduler.scale_noise(latents, t, noise))


def test_gradient_reaches_every_embedding_and_no_weight_moves(published: Published) -> None:
    condition, diffusion = published.condition, published.diffusion
    before = {n: p.clone() for m in (condition, diffusion) for n, p in m.named_parameters()}
    z = normal(2, 6, condition.embedding_dim).requires_grad_()
    latents, noise = (normal(2, *diffusion.latent_shape, seed=s) for s in (3, 4))
    t = diffusion.timesteps(torch.tensor([0.2, 0.8]))
    diffusion.loss(latents, condition(z), noise=noise, t=t).sum().backward()
    check_reached(z)
    for module in (condition, diffusion):
        for name, parameter in module.named_parameters():
            assert parameter.grad is None and torch.equal(parameter, before[name])


def gradient(diffusion: Any, published: Published) -> tuple[Tensor, int]:
    """Of z, and how often the denoiser's blocks were entered; recomputing stops inside them."""
    calls: list[int] = []
    layers = ("ResnetBlock2D", "JointTransformerBlock")
    handles = [
        module.register_forward_pre_hook(lambda *_: calls.append(1))
        for module in diffusion.denoiser.modules()
        if type(module).__name__ in layers
    ]
    z = normal(2, 6, published.condition.embedding_dim).requires_grad_()
    latents, noise = (normal(2, *diffusion.latent_shape, seed=s) for s in (3, 4))
    loss = diffusion.loss(latents, published.condition(z), noise=noise, t=torch.tensor([200, 800]))
    loss.sum().backward()
    for handle in handles:
        handle.remove()
    assert z.grad is not None
    return z.grad, len(calls)


def test_gradient_checkpointing_recomputes_and_changes_nothing(published: Published) -> None:
    plain, once = gradient(published.diffusion, published)
    saving, twice = gradient(published.build_diffusion(gradient_checkpointing=True), published)
    close(plain, saving)
    assert twice > once, "nothing was recomputed"


def test_bfloat16_is_close(published: Published) -> None:
    diffusion = published.diffusion
    latents, noise = (normal(2, *diffusion.latent_shape, seed=s) for s in (3, 4))
    given, t = conditioning(published), torch.tensor([200, 800])
    exact = diffusion.loss(latents, given, noise=noise, t=t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = diffusion.loss(latents, given, noise=noise, t=t)
    cast = published.build_diffusion().to(torch.bfloat16)
    for rough in (autocast, cast.loss(latents, given, noise=noise, t=t)):
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02)
    made = cast.latents(cast.moments(view()), noise)
    close(made, diffusion.latents(diffusion.moments(view()), noise), 0.1)
    assert torch.isfinite(cast.decode(made)).all()


def test_a_cast_leaves_the_schedule_alone(published: Published) -> None:
    cast = published.build_diffusion().to(torch.bfloat16)
    assert cast.schedule() == published.diffusion.schedule()
    t = torch.tensor([3, 500])
    for mine, plain in zip(
        cast.process.levels(t), published.diffusion.process.levels(t), strict=True
    ):
        assert torch.equal(mine, plain)
