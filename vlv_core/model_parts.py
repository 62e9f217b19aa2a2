"""The parts of a whole model, as its exporters see them: `parts.ExportPart`, one graph each.

Encoders, bottlenecks, conditions, connectors and diffusions hold no export code: they are composed
here. Shape legend: B batch, K queries, L context length, S view edge, C h w latent.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vlv_core.errors import UsageError
from vlv_core.model import VLV
from vlv_core.parts import Axis, ExportPart, TensorSpec
from vlv_core.protocols import Conditioning

BATCH = Axis(1, 8, 64)
DRAWN = Axis(1, 4, 16)
"""rows of a denoiser's or VAE's batch"""


class Encode(nn.Module):
    """view uint8 (B, S, S, 3) -> z, context[, pooled], prefix."""

    def __init__(self, model: VLV) -> None:
        super().__init__()
        self.model = model

    def forward(self, view: Tensor) -> tuple[Tensor, ...]:
        return _present(self.model(view))


class Read(nn.Module):
    """z (B, K, Dz) -> context[, pooled], prefix."""

    def __init__(self, model: VLV) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        return _present(self.model.read_z(z)[1:])


class ReadText(nn.Module):
    """ids (B, L) of each text encoder -> context[, pooled]."""

    def __init__(self, condition: Any) -> None:
        super().__init__()
        self.condition = condition

    def forward(self, *ids: Tensor) -> tuple[Tensor, ...]:
        return _present(self.condition.read_ids(*ids))


class Denoise(nn.Module):
    """latents (B, C, h, w), t (B,), context (B, L, Dc)[, pooled] -> the network's answer."""

    def __init__(self, diffusion: Any) -> None:
        super().__init__()
        self.diffusion = diffusion

    def forward(
        self, latents: Tensor, t: Tensor, context: Tensor, pooled: Tensor | None = None
    ) -> tuple[Tensor]:
        return (self.diffusion.predict(latents, t, Conditioning(context, pooled)).float(),)


class Decode(nn.Module):
    """latents (B, C, h, w) -> pictures float (B, S, S, 3) in 0..1."""

    def __init__(self, diffusion: Any) -> None:
        super().__init__()
        self.diffusion = diffusion

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        return (self.diffusion.decode(latents).float(),)


def export_parts(model: VLV, *, reconstruct: bool) -> list[ExportPart]:
    """All parts, in the order of the forward pass.

    Raises UsageError if the head cannot be exported, or the diffusion is wanted and not loaded.
    """
    parts = [_encoder(model), _head(model)]
    if not reconstruct:
        return parts
    if model.diffusion is None:
        raise UsageError("the model was loaded without its diffusion, so it cannot draw")
    given = _conditioning(model)
    parts.append(_condition(model, given))
    if hasattr(model.condition, "read_ids"):
        parts.append(_text(model, given))
    return [*parts, _denoiser(model, given), _vae_decoder(model)]


def _head(model: VLV) -> ExportPart:
    if not hasattr(model.head, "export_part"):
        raise UsageError(
            f"the head {type(model.head).__name__} cannot be exported",
            hint="give it export_part() -> vlv_core.parts.head_part(...)",
        )
    return model.head.export_part()


def _encoder(model: VLV) -> ExportPart:
    size = model.encoder.pixels.size
    return ExportPart(
        name="encoder",
        module=Encode(model),
        inputs=(TensorSpec("view", "uint8", ("batch", size, size, 3), high=256),),
        outputs=(
            TensorSpec("z", "float", ("batch", model.bottleneck.num_queries, model.bottleneck.dim)),
            *_read_outputs(model, _conditioning(model), queries=model.bottleneck.num_queries),
        ),
        axes={"batch": BATCH},
    )


def _condition(model: VLV, given: Conditioning) -> ExportPart:
    most = model.condition.max_queries
    return ExportPart(
        name="condition",
        module=Read(model),
        inputs=(TensorSpec("z", "float", ("batch", "queries", model.condition.embedding_dim)),),
        outputs=_read_outputs(model, given, queries="queries"),
        axes={"batch": BATCH, "queries": Axis(1, min(model.bottleneck.num_queries, most), most)},
    )


def _text(model: VLV, given: Conditioning) -> ExportPart:
    length = model.condition.max_queries
    tables = model.condition.vocab_sizes
    return ExportPart(
        name="text",
        module=ReadText(model.condition),
        inputs=tuple(
            TensorSpec(f"ids.{index}", "int64", ("batch", length), high=size)
            for index, size in enumerate(tables)
        ),
        outputs=_conditioning_specs(given, length=length),
        axes={"batch": BATCH},
    )


def _denoiser(model: VLV, given: Conditioning) -> ExportPart:
    diffusion, most = model.diffusion, model.condition.max_queries
    latents = ("batch", *diffusion.latent_shape)
    flow = diffusion.prediction == "flow"
    time = TensorSpec("t", "float" if flow else "int64", ("batch",), high=diffusion.train_steps)
    return ExportPart(
        name="denoiser",
        module=Denoise(diffusion),
        inputs=(
            TensorSpec("latents", "float", latents),
            time,
            *_conditioning_specs(given, length="context"),
        ),
        outputs=(TensorSpec("answer", "float", latents),),
        axes={"batch": DRAWN, "context": Axis(1, min(model.bottleneck.num_queries, most), most)},
    )


def _vae_decoder(model: VLV) -> ExportPart:
    size = model.view.size
    return ExportPart(
        name="vae_decoder",
        module=Decode(model.diffusion),
        inputs=(TensorSpec("latents", "float", ("batch", *model.diffusion.latent_shape)),),
        outputs=(TensorSpec("pictures", "float", ("batch", size, size, 3)),),
        axes={"batch": DRAWN},
    )


@torch.no_grad()
def _conditioning(model: VLV) -> Conditioning:
    """One row's conditioning, for its widths."""
    parameter = next(model.condition.parameters())
    shape = 1, model.bottleneck.num_queries, model.condition.embedding_dim
    return model.condition(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device))


def _read_outputs(model: VLV, given: Conditioning, *, queries: int | str) -> tuple[TensorSpec, ...]:
    prefix = TensorSpec("prefix", "float", ("batch", queries, model.head.dim))
    return (*_conditioning_specs(given, length=queries), prefix)


def _conditioning_specs(given: Conditioning, *, length: int | str) -> tuple[TensorSpec, ...]:
    specs = [TensorSpec("context", "float", ("batch", length, given.context.shape[-1]))]
    if given.pooled is not None:
        specs.append(TensorSpec("pooled", "float", ("batch", given.pooled.shape[-1])))
    return tuple(specs)


def _present(tensors: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in tensors if tensor is not None)
