"""The backend that runs a `VLV` in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlv_core.captioner import Limits
from vlv_core.errors import UsageError
from vlv_core.model import VLV, EncoderOutput
from vlv_core.preprocess import to_pixels
from vlv_core.protocols import Conditioning, Encoded, Stepper
from vlv_core.sampling import Schedule

if TYPE_CHECKING:
    from vlv_core.protocols import Array

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchBackend:
    """Runs the parts eagerly, in inference mode, one call at a time."""

    def __init__(self, model: VLV) -> None:
        self.model = model
        self.limits = Limits(
            max_length=model.head.max_length,
            max_queries=model.condition.max_queries,
            causal=model.bottleneck.causal and model.condition.causal,
        )
        self.eos = tuple(model.head.eos)
        self.latent_shape = None if model.diffusion is None else model.diffusion.latent_shape

    @torch.inference_mode()
    def encode(self, view: NDArray[np.uint8]) -> Encoded:
        resized = to_pixels(view, self.model.encoder.pixels)
        return _encoded(self.model(torch.from_numpy(resized).to(self.model.device)))

    @torch.inference_mode()
    def read(self, z: Array) -> Encoded:
        return _encoded(self.model.read_z(self._tensor(z)))

    def start(self, prefix: Array, capacity: int) -> Stepper:
        return self.model.head.start(self._tensor(prefix), capacity)

    def words(self, tokens: Sequence[int]) -> str:
        return self.model.head.decode(tokens)

    @torch.inference_mode()
    def from_text(self, captions: Sequence[str]) -> Conditioning:
        return _numpy(self.model.condition.from_text(captions)[0])

    @torch.inference_mode()
    def unconditional(self, length: int) -> Conditioning:
        return _numpy(self.model.condition.unconditional(length))

    def schedule(self) -> Schedule:
        return self.model.diffusion.schedule()

    @torch.inference_mode()
    def predict(self, latents: Array, t: Array, conditioning: Conditioning) -> Array:
        rows = len(latents)
        context = self._tensor(conditioning.context).expand(rows, -1, -1)
        pooled = conditioning.pooled
        if pooled is not None:
            pooled = self._tensor(pooled).expand(rows, -1)
        times = torch.from_numpy(np.asarray(t)).to(self.model.device)
        answer = self.model.diffusion.predict(
            self._tensor(latents), times, Conditioning(context, pooled)
        )
        return answer.float().cpu().numpy()

    @torch.inference_mode()
    def decode(self, latents: Array) -> NDArray[np.uint8]:
        pictures = self.model.diffusion.decode(self._tensor(latents))
        return (pictures.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()

    def _tensor(self, array: Array) -> Tensor:
        parameter = next(self.model.parameters())
        return torch.from_numpy(np.ascontiguousarray(array)).to(parameter.device, parameter.dtype)


def _encoded(output: EncoderOutput) -> Encoded:
    z, context, pooled, prefix = (_array(tensor) for tensor in output)
    return Encoded(z, context, pooled, prefix)  # type: ignore[arg-type]


def _numpy(conditioning: Conditioning) -> Conditioning:
    return Conditioning(_array(conditioning.context), _array(conditioning.pooled))


def _array(tensor: Any) -> NDArray[np.float32] | None:
    return None if tensor is None else tensor.float().cpu().numpy()


def pick_device(device: str) -> torch.device:
    """`auto` takes CUDA where there is one. Raises UsageError for a device that is absent."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {device!r} is not there", hint="use --device cpu")
    try:
        return torch.device(device)
    except RuntimeError:
        raise UsageError(f"no device named {device!r}; use auto, cpu, cuda or cuda:N") from None


def pick_dtype(dtype: str) -> torch.dtype:
    """A dtype by name. Raises UsageError for others than DTYPES."""
    if dtype not in DTYPES:
        raise UsageError(f"no dtype named {dtype!r}; use {', '.join(DTYPES)}")
    return DTYPES[dtype]
