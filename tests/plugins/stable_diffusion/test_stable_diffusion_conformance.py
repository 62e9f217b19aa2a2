"""All three decoders keep the contract, with random weights and without a file."""

from typing import Any

from tests.plugins.stable_diffusion.tiny import SPECS, VIEW, architecture
from vlv_core.conformance import ConditionConformance, DiffusionConformance
from vlv_core.specs import Near

SENTENCES = ("a red circle", "two blue squares above")


class _Condition(ConditionConformance):
    captions = SENTENCES


class _Diffusion(DiffusionConformance):
    near = Near(view_size=VIEW)


class TestCondition(_Condition):
    spec = SPECS["stable-diffusion"]
    config: dict[str, Any] = {"architecture": architecture("stable-diffusion")}


class TestConditionXl(_Condition):
    spec = SPECS["stable-diffusion-xl"]
    config: dict[str, Any] = {"architecture": architecture("stable-diffusion-xl")}


class TestCondition3(_Condition):
    spec = SPECS["stable-diffusion-3"]
    config: dict[str, Any] = {"architecture": architecture("stable-diffusion-3")}


class TestDiffusion(_Diffusion):
    spec = SPECS["stable-diffusion"]
    config: dict[str, Any] = {"architecture": architecture("stable-diffusion")}


class TestDiffusionV(_Diffusion):
    spec = SPECS["stable-diffusion"]
    config: dict[str, Any] = {"architecture": architecture("stable-diffusion-v")}


class TestDiffusionXl(_Diffusion):
    spec = SPECS["stable-diffusion-xl"]
    config: dict[str, Any] = {"architecture": architecture("stable-diffusion-xl")}


class TestDiffusion3(_Diffusion):
    spec = SPECS["stable-diffusion-3"]
    config: dict[str, Any] = {"architecture": architecture("stable-diffusion-3")}
