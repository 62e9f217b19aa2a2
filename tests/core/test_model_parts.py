"""A model's parts together are the model, and keep the contracts that they declare."""

from typing import Any

import pytest
import torch

from tests.core import toy_parts
from vlv_core.builtin import vlv_bottlenecks, vlv_connectors
from vlv_core.compose import Choice, compose
from vlv_core.config import configure
from vlv_core.errors import UsageError
from vlv_core.model import VLV
from vlv_core.model_parts import export_parts
from vlv_core.parts import ExportPart, head_part
from vlv_core.specs import View

SIZES = {"batch": 3, "queries": 4, "context": 5}


class Head(toy_parts.ToyHead):
    """A toy that can be exported, in name."""

    def export_part(self) -> ExportPart:
        return head_part(self, dim=self.dim, vocab_size=28, max_length=64, cache=[(2, 8)])


class Condition(toy_parts.ToyCondition):
    """A toy that reads ids."""

    vocab_sizes = (28,)

    def read_ids(self, ids: torch.Tensor) -> Any:
        return self(self.embed(ids))


def model(*, diffusion: bool = True, reads: bool = True) -> VLV:
    near: dict[str, Any] = {"num_queries": 6, "width": 8, "heads": 2, "depth": 1}
    specs = {
        "encoder": (toy_parts.ENCODER, {}),
        "bottleneck": (next(iter(vlv_bottlenecks())), near),
        "decoder": (toy_parts.DECODER, {}),
        "connector": (next(iter(vlv_connectors())), {}),
        "head": (toy_parts.HEAD, {}),
    }
    choices = {
        role: Choice(spec, configure(spec.config, options, role))
        for role, (spec, options) in specs.items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        made = compose(choices, view=View(size=64), diffusion=diffusion).eval()
        made.head = Head(width=made.head.dim)
        if reads:
            made.condition = Condition(width=made.condition.embedding_dim)
    return made


def run(part: ExportPart, **sizes: int) -> dict[str, torch.Tensor]:
    """The outputs by name, for the part's own example."""
    given = part.example({**SIZES, **sizes}, seed=1)
    with torch.no_grad():
        made = part.module(*(torch.from_numpy(each) for each in given.values()))
    return dict(zip((spec.name for spec in part.outputs), made, strict=True))


def test_captioning_needs_two_parts_and_drawing_all() -> None:
    made = model()
    assert [p.name for p in export_parts(made, reconstruct=False)] == ["encoder", "head"]
    drawing = [p.name for p in export_parts(made, reconstruct=True)]
    assert drawing == ["encoder", "head", "condition", "text", "denoiser", "vae_decoder"]


def test_a_condition_that_reads_no_ids_has_no_text_part() -> None:
    names = [part.name for part in export_parts(model(reads=False), reconstruct=True)]
    assert "text" not in names and "condition" in names


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_have_the_declared_shapes(batch: int) -> None:
    for part in export_parts(model(), reconstruct=True):
        if part.name != "head":
            made = run(part, batch=batch)
            for spec in part.outputs:
                assert tuple(made[spec.name].shape) == spec.sizes({**SIZES, "batch": batch})
                assert made[spec.name].dtype == torch.float32


def test_the_encoder_is_the_models_own_forward() -> None:
    made = model()
    part = export_parts(made, reconstruct=False)[0]
    view = torch.from_numpy(part.example(SIZES, seed=1)["view"])
    with torch.no_grad():
        due = made(view)
    for name, tensor in run(part).items():
        assert torch.equal(tensor, getattr(due, name)), name


def test_z_is_read_and_drawn_as_by_the_model() -> None:
    made = model()
    parts = {part.name: part for part in export_parts(made, reconstruct=True)}
    z = torch.from_numpy(parts["condition"].example(SIZES, seed=1)["z"])
    with torch.no_grad():
        due = made.read_z(z)
        given = parts["denoiser"].example({**SIZES, "context": 4}, seed=2)
        latents, t = (torch.from_numpy(given[name]) for name in ("latents", "t"))
        found = parts["denoiser"].module(latents, t, due.context, due.pooled)[0]
        conditioning = type(made.condition(z))(due.context, due.pooled)
        assert torch.equal(found, made.diffusion.predict(latents, t, conditioning))
        pictures = parts["vae_decoder"].module(latents)[0]
        assert torch.equal(pictures, made.diffusion.decode(latents))
    for name, tensor in run(parts["condition"]).items():
        assert torch.equal(tensor, getattr(due, name)), name


def test_what_cannot_be_exported_is_told() -> None:
    made = model()
    made.head = toy_parts.ToyHead(width=made.head.dim)
    with pytest.raises(UsageError, match="the head ToyHead cannot be exported") as told:
        export_parts(made, reconstruct=False)
    assert "export_part()" in str(told.value.hint)
    with pytest.raises(UsageError, match="loaded without its diffusion, so it cannot draw"):
        export_parts(model(diffusion=False), reconstruct=True)
