"""Forward processes: how latents and noise are mixed, and what the denoiser then has to answer.

Shape legend: B batch, C channels, h w latent pixels, T length of the schedule.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from vlv_core.errors import ConfigError
from vlv_core.sampling import Schedule
from vlv_core.specs import Prediction
from vlv_plugins._hub import known_class

Times = Literal["logit-normal", "uniform"]
FLOW = "FlowMatchEulerDiscreteScheduler"
BETAS = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule"),
    *("trained_betas", "rescale_betas_zero_snr"),
)
"""keys that decide alphas_cumprod, with the same defaults in all of diffusers' schedulers"""
PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}


class Process(ABC):
    """Times, mixing and target. Plain data, no module: a cast to bfloat16 must not reach it."""

    prediction: Prediction
    train_steps: int

    @abstractmethod
    def timesteps(self, u: Tensor) -> Tensor:
        """u in [0, 1) (B,) -> times as training draws them (B,)."""

    @abstractmethod
    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """t (B,) -> float32 weights of latents and of noise, each (B, 1, 1, 1)."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the denoiser should answer, (B, C, h, w)."""

    @abstractmethod
    def schedule(self) -> Schedule: ...

    def noisy(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Latents (B, C, h, w) at time t (B,)."""
        signal, weight = self.levels(t)
        return signal * latents + weight * noise


class Discrete(Process):
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, t = 0..T-1 (DDPM, arXiv 2006.11239)."""

    def __init__(self, scheduler: Mapping[str, Any]) -> None:
        name = scheduler.get("prediction_type", "epsilon")
        self.prediction = known_class(name, PREDICTIONS, where="scheduler: prediction_type")
        # On the CPU by name, for a dry run builds everything else on the meta device.
        with torch.device("cpu"):
            betas = {key: scheduler[key] for key in BETAS if key in scheduler}
            library: Any = DDIMScheduler(**betas)
        self.alphas_cumprod: Tensor = library.alphas_cumprod
        self.train_steps = len(self.alphas_cumprod)
        self._drawing: Any = {
            "spacing": "trailing" if scheduler.get("timestep_spacing") == "trailing" else "leading",
            "steps_offset": scheduler.get("steps_offset", 0),
            "set_alpha_to_one": scheduler.get("set_alpha_to_one", True),
        }

    def timesteps(self, u: Tensor) -> Tensor:
        """Uniform over the integers, int64."""
        return (u * self.train_steps).long().clamp(max=self.train_steps - 1)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod.to(t.device)[t.long()].view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The noise; or v = sqrt(a_t) noise - sqrt(1 - a_t) x_0 (arXiv 2202.00512)."""
        if self.prediction == "epsilon":
            return noise
        signal, weight = self.levels(t)
        return signal * noise - weight * latents

    def schedule(self) -> Schedule:
        alphas = self.alphas_cumprod.tolist()
        return Schedule(prediction=self.prediction, alphas_cumprod=alphas, **self._drawing)


class Flow(Process):
    """x_s = (1 - s) x_0 + s noise, s = t / T; the answer is noise - x_0 (arXiv 2403.03206)."""

    prediction: Prediction = "flow"

    def __init__(self, scheduler: Mapping[str, Any], *, times: Times) -> None:
        if scheduler.get("use_dynamic_shifting"):
            raise ConfigError(
                "scheduler: use_dynamic_shifting is not supported",
                hint="name a model whose scheduler has a constant shift, as versions 3 and 3.5 do",
            )
        self.train_steps = scheduler.get("num_train_timesteps", 1000)
        self.shift = float(scheduler.get("shift", 1.0))
        self.times = times

    def timesteps(self, u: Tensor) -> Tensor:
        """Logit-normal (mean 0, deviation 1) or uniform, then shifted towards noise; float32."""
        s = u.double()
        if self.times == "logit-normal":
            s = torch.sigmoid(torch.special.ndtri(s.clamp(1e-6, 1 - 1e-6)))
        return (self.shift * s / (1 + (self.shift - 1) * s) * self.train_steps).float()

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        s = (t.float() / self.train_steps).view(-1, 1, 1, 1)
        return 1 - s, s

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - latents

    def schedule(self) -> Schedule:
        return Schedule(
            prediction="flow",
            train_steps=self.train_steps,
            shift=self.shift,
            spacing="linspace",
        )


_DISCRETE = (
    *("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler"),
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
)
"""samplers of one and the same forward process"""


def process(scheduler: Mapping[str, Any], *, times: Times = "logit-normal") -> Process:
    """The forward process that scheduler_config.json describes.

    Raises ConfigError for a scheduler or prediction type that is not known.
    """
    name = scheduler.get("_class_name", "nothing")
    kinds = {**dict.fromkeys(_DISCRETE, Discrete), FLOW: Flow}
    if known_class(name, kinds, where="scheduler") is Flow:
        return Flow(scheduler, times=times)
    return Discrete(scheduler)
