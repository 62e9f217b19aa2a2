"""The two halves of a decoder: its condition and its diffusion."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, get_args

import pytest
import torch
from torch import Tensor

from vlv_core.config import configure
from vlv_core.conformance.base import Conformance, Tensors, check_reached
from vlv_core.conformance.tracing import check_traced
from vlv_core.protocols import Conditioning
from vlv_core.sampling import Schedule
from vlv_core.specs import Near, Prediction, resolve


class ConditionConformance(Conformance):
    """z (B, K, Dz) -> Conditioning: context (B, L, Dc), and for some pooled (B, P)."""

    sizes = ("embedding_dim", "context_dim", "max_queries")
    captions: ClassVar[Sequence[str]] = ("a red circle", "two blue squares on a plain background")

    def inputs(self, part: Any) -> Tensors:
        return (self.random(self.batch, min(5, part.max_queries), part.embedding_dim),)

    def outputs(self, part: Any, *inputs: Tensor) -> Tensors:
        made = part(*inputs)
        assert isinstance(made, Conditioning), f"returned {type(made).__name__}, not Conditioning"
        return _present(made)

    def check(self, conditioning: Conditioning, batch: int, part: Any) -> None:
        context, pooled = conditioning
        wanted = f"({batch}, L, {part.context_dim})"
        right = context.ndim == 3 and (len(context), context.shape[2]) == (batch, part.context_dim)
        assert right, f"context is {tuple(context.shape)}, due is {wanted}"
        assert pooled is None or (pooled.ndim, len(pooled)) == (2, batch), "pooled is not (B, P)"

    def test_it_is_traced_for_any_batch(self, part: Any) -> None:
        check_traced(part, partial(self.outputs, part), self.inputs(part), close=self.close)

    def test_ids_are_read_as_their_captions(self, part: Any) -> None:
        """Optional: `prompts`, `vocab_sizes` and `read_ids` let captions be read by a graph."""
        if not hasattr(part, "read_ids"):
            pytest.skip("captions cannot be read by an exported model: no read_ids")
        captions = [*self.captions, ""]
        rows = [prompt(captions, length=part.max_queries)[0] for prompt in part.prompts]
        sizes = part.vocab_sizes
        assert len(sizes) == len(rows), "prompts and vocab_sizes are not of the same encoders"
        for ids, size in zip(rows, sizes, strict=True):
            assert ids.max() < size, f"token {ids.max()} of a text encoder that knows {size}"
        ids = tuple(torch.from_numpy(each) for each in rows)
        with torch.no_grad():
            made, due = part.read_ids(*ids), part.from_text(captions)[0]
        self.close(made.context, due.context, "read_ids and from_text differ")
        check_traced(part, lambda *each: _present(part.read_ids(*each)), ids, close=self.close)

    def test_any_number_of_queries_fits(self, part: Any) -> None:
        for count in sorted({1, min(5, part.max_queries), part.max_queries}):
            with torch.no_grad():
                z = self.random(self.batch, count, part.embedding_dim)
                self.check(part(z), self.batch, part)

    def test_declared_causal_is_causal(self, part: Any) -> None:
        if not part.causal:
            pytest.skip("declared not causal")
        (z,) = self.inputs(part)
        for kept in range(1, z.shape[1]):
            changed = z.clone()
            changed[:, kept:] += self.random(*changed[:, kept:].shape, seed=kept)
            with torch.no_grad():
                whole, other, cut = (part(x).context for x in (z, changed, z[:, :kept]))
            message = f"declared causal, but context[:, :{kept}]"
            self.close(whole[:, :kept], other[:, :kept], f"{message} depends on later z")
            self.close(whole[:, :kept], cut[:, :kept], f"{message} depends on z's length")

    def test_gradient_flows_through_the_frozen_part_to_every_embedding(self, part: Any) -> None:
        part.requires_grad_(False)
        z = self.inputs(part)[0].requires_grad_()
        context = part(z).context
        (context * self.random(*context.shape, seed=6)).sum().backward()
        check_reached(z)

    def test_captions_become_conditioning(self, part: Any) -> None:
        with torch.no_grad():
            conditioning, cut = part.from_text([*self.captions, ""])
        self.check(conditioning, len(self.captions) + 1, part)
        assert cut == [0] * (len(self.captions) + 1), f"short captions were cut: {cut}"

    def test_cut_tokens_are_reported(self, part: Any) -> None:
        long = " ".join(self.captions * part.max_queries)
        with torch.no_grad():
            conditioning, cut = part.from_text([self.captions[0], long, f"{long} {long}"])
        self.check(conditioning, 3, part)
        assert cut[0] == 0, f"a short caption lost {cut[0]} tokens"
        assert 0 < cut[1] < cut[2], f"cut tokens are not counted: {cut}"

    def test_unconditional_is_the_empty_prompts_start(self, part: Any) -> None:
        with torch.no_grad():
            whole = part.unconditional(part.max_queries)
            for count in sorted({1, min(5, part.max_queries), part.max_queries}):
                made = part.unconditional(count)
                self.check(made, 1, part)
                assert made.context.shape[1] == count, f"unconditional({count}) has another length"
                self.close(made.context, whole.context[:, :count], "the first k positions differ")


class DiffusionConformance(Conformance):
    """The frozen denoiser, VAE and schedule, beside the condition that the same spec builds."""

    sizes = ("train_steps",)
    z_length: ClassVar[int] = 5

    def reference(self) -> str:
        return self.spec.diffusion

    def surroundings(self) -> Near:
        condition = self.condition()
        return replace(
            self.near,
            embedding_dim=condition.embedding_dim,
            max_queries=condition.max_queries,
            context_dim=condition.context_dim,
            num_queries=self.z_length,
        )

    def condition(self) -> Any:
        """The condition of the same spec, with weights of its own."""
        config = configure(self.spec.config, self.config, self.spec.name)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(2)
            return resolve(self.spec.build)(config, self.near).eval().requires_grad_(False)

    def inputs(self, part: Any) -> Tensors:
        """view, posterior noise, diffusion noise, u, z."""
        size = self.near.view_size
        generator = torch.Generator().manual_seed(5)
        view = torch.randint(
            0, 256, (self.batch, size, size, 3), generator=generator, dtype=torch.uint8
        )
        posterior, noise = (self.random(self.batch, *part.latent_shape, seed=s) for s in (6, 7))
        z = self.random(self.batch, self.z_length, self.condition().embedding_dim)
        return view, posterior, noise, torch.linspace(0.1, 0.9, self.batch), z

    def outputs(self, part: Any, *inputs: Tensor) -> Tensors:
        """moments, latents, t, prediction, loss, pictures."""
        view, posterior, noise, u, z = inputs
        moments = part.moments(view)
        latents, t = part.latents(moments, posterior), part.timesteps(u)
        conditioning = self.condition()(z)
        prediction = part.predict(latents, t, conditioning)
        loss = part.loss(latents, conditioning, noise=noise, t=t)
        return moments, latents, t, prediction, loss, part.decode(latents)

    def test_shapes(self, part: Any) -> None:
        shape = tuple(part.latent_shape)
        assert len(shape) == 3 and all(type(edge) is int for edge in shape), "latent_shape: 3 ints"
        with torch.no_grad():
            _, latents, t, prediction, loss, pictures = self.outputs(part, *self.inputs(part))
        for made in (latents, prediction):
            assert made.shape == (self.batch, *shape), f"{tuple(made.shape)}: not latent_shape"
        assert t.shape == loss.shape == (self.batch,), "timesteps and loss are one number a sample"
        size = self.near.view_size
        assert pictures.shape == (self.batch, size, size, 3), f"decoded {tuple(pictures.shape)}"
        in_range = pictures.is_floating_point() and 0 <= pictures.min() <= pictures.max() <= 1
        assert in_range, "pictures must be floats in 0..1"

    def test_times_stay_in_the_schedule(self, part: Any) -> None:
        u = torch.linspace(0, 1, 1001)[:-1]
        t = part.timesteps(u)
        assert t.shape == u.shape and torch.isfinite(t).all()
        assert t.min() >= 0 and t.max() <= part.train_steps, f"times {t.min()}..{t.max()}"

    def test_schedule_agrees_with_the_network(self, part: Any) -> None:
        assert part.prediction in get_args(Prediction), f"prediction {part.prediction!r}"
        schedule = part.schedule()
        assert isinstance(schedule, Schedule), "schedule() must return a sampling.Schedule"
        assert schedule.prediction == part.prediction, "the schedule names another prediction"
        assert schedule.train_steps == part.train_steps, "the schedule has another length"

    def test_gradient_flows_through_frozen_parts_to_every_embedding(self, part: Any) -> None:
        part.requires_grad_(False)
        *inputs, z = self.inputs(part)
        z.requires_grad_()
        self.outputs(part, *inputs, z)[4].sum().backward()
        check_reached(z)

    def test_both_networks_are_traced_for_any_batch(self, part: Any) -> None:
        with torch.no_grad():
            view, posterior, _, u, z = self.inputs(part)
            latents = part.latents(part.moments(view), posterior)
            given = _present(self.condition()(z))

        def predict(noisy: Tensor, t: Tensor, *conditioning: Tensor) -> Tensors:
            pooled = conditioning[1] if len(conditioning) > 1 else None
            return (part.predict(noisy, t, Conditioning(conditioning[0], pooled)),)

        check_traced(part, predict, (latents, part.timesteps(u), *given), close=self.close)
        check_traced(part, lambda each: (part.decode(each),), (latents,), close=self.close)

    def test_loss_depends_on_the_conditioning(self, part: Any) -> None:
        *inputs, z = self.inputs(part)
        with torch.no_grad():
            one, other = (self.outputs(part, *inputs, x)[4] for x in (z, z.flip(0) + 1))
        assert (one >= 0).all() and not torch.allclose(one, other), "the conditioning is not read"


def _present(conditioning: Conditioning) -> Tensors:
    context, pooled = conditioning
    return (context,) if pooled is None else (context, pooled)
