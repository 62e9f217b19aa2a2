"""The conformance classes accept parts that keep the contract. (`test_conformance_refusals` shows
that each check refuses a part that breaks it.)"""

import pytest

from tests.core import toy_parts
from vlv_core import builtin, conformance
from vlv_core.conformance import (
    BottleneckConformance,
    ConditionConformance,
    ConnectorConformance,
    DiffusionConformance,
    EncoderConformance,
    HeadConformance,
)


class TestToyEncoder(EncoderConformance):
    spec = toy_parts.ENCODER
    config = {"width": 8}


class TestQuery(BottleneckConformance):
    spec = next(iter(builtin.vlv_bottlenecks()))
    config = {"num_queries": 5, "heads": 4, "depth": 2}


class TestQueryOfOneQuery(BottleneckConformance):
    spec = next(iter(builtin.vlv_bottlenecks()))
    config = {"num_queries": 1, "heads": 2, "depth": 1, "width": 8}


class TestMlp(ConnectorConformance):
    spec = next(iter(builtin.vlv_connectors()))


class TestDeepMlp(ConnectorConformance):
    spec = next(iter(builtin.vlv_connectors()))
    config = {"depth": 3, "hidden": 10}


class TestToyCondition(ConditionConformance):
    spec = toy_parts.DECODER
    captions = ("a red circle", "two blue squares on grey")


class TestToyDiffusion(DiffusionConformance):
    spec = toy_parts.DECODER


class TestToyHead(HeadConformance):
    spec = toy_parts.HEAD


def test_every_component_role_has_a_class() -> None:
    roles = ("Encoder", "Bottleneck", "Condition", "Diffusion", "Connector", "Head")
    assert set(conformance.__all__) == {f"{role}Conformance" for role in roles}


def test_a_builder_must_return_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_parts, "build_encoder", lambda config, near: object())
    with pytest.raises(AssertionError, match=r"build must return an nn\.Module"):
        TestToyEncoder().test_builds_on_the_meta_device()
