"""What is checked of every component, whatever its role."""

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from vlv_core.config import configure
from vlv_core.specs import Near, resolve

Tensors = tuple[Tensor, ...]


class Conformance(ABC):
    """What every component must do. Subclass one of the roles below, not this."""

    spec: ClassVar[Any]
    """what the plugin's hook returned"""
    config: ClassVar[Mapping[str, Any]] = {}
    """options, as a recipe would give them"""
    near: ClassVar[Near] = Near(view_size=64)
    """the neighbours to build against"""
    batch: ClassVar[int] = 3
    tolerance: ClassVar[float] = 1e-4
    """largest difference between two ways to the same number, absolute and relative, float32"""
    sizes: ClassVar[tuple[str, ...]] = ()
    """attributes that must be plain integers above 0"""

    def prepare(self, part: Any) -> None:  # noqa: B027 - most need nothing
        """Give a fresh part what is not in its weights, such as a tokenizer."""

    @abstractmethod
    def inputs(self, part: Any) -> Tensors:
        """Tensors that `outputs` takes, batch first."""

    @abstractmethod
    def outputs(self, part: Any, *inputs: Tensor) -> Tensors:
        """All that the part makes of them, batch first."""

    def reference(self) -> str:
        return self.spec.build

    def surroundings(self) -> Near:
        return self.near

    def construct(self) -> Any:
        """The part as its builder leaves it."""
        config = configure(self.spec.config, self.config, self.spec.name)
        return resolve(self.reference())(config, self.surroundings())

    def build(self, *, seed: int = 0) -> Any:
        """The part in eval mode with random weights; layers that start at zero do not stay so."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            part = self.construct()
            with torch.no_grad():
                for parameter in part.parameters():
                    parameter.add_(0.02 * torch.randn_like(parameter))
        self.prepare(part)
        return part.eval()

    @pytest.fixture
    def part(self) -> Any:
        return self.build()

    def test_importing_the_plugin_loads_no_torch(self) -> None:
        package = self.reference().partition(":")[0].rpartition(".")[0]
        if not package:
            pytest.skip("a single file has no package that could be light")
        code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"importing {package} imports torch, or fails:\n{done.stderr}"

    def test_builds_on_the_meta_device(self) -> None:
        with torch.device("meta"):
            part = self.construct()
        assert isinstance(part, nn.Module), "build must return an nn.Module"
        real = [name for name, parameter in part.named_parameters() if not parameter.is_meta]
        assert not real, f"parameters with storage on the meta device: {real}"
        self.test_sizes_are_plain_integers(part)

    def test_sizes_are_plain_integers(self, part: Any) -> None:
        for name in self.sizes:
            size = getattr(part, name, None)
            assert type(size) is int and size > 0, f"{name} must be an int above 0, got {size!r}"

    def test_outputs_are_finite_and_deterministic(self, part: Any) -> None:
        inputs = self.inputs(part)
        with torch.no_grad():
            first, second = self.outputs(part, *inputs), self.outputs(part, *inputs)
        for one, two in zip(first, second, strict=True):
            assert torch.isfinite(one).all(), "an output is not finite"
            assert torch.equal(one, two), "two calls in eval mode differ"

    def test_a_sample_does_not_depend_on_its_batch(self, part: Any) -> None:
        inputs = self.inputs(part)
        with torch.no_grad():
            together = self.outputs(part, *inputs)
            for row in range(len(inputs[0])):
                alone = self.outputs(part, *(tensor[row : row + 1] for tensor in inputs))
                for one, all_rows in zip(alone, together, strict=True):
                    self.close(one, all_rows[row : row + 1], "a sample alone and in a batch differ")

    def test_all_state_is_in_the_weights(self, part: Any) -> None:
        other = self.build(seed=1)
        other.load_state_dict(part.state_dict(), strict=True)
        inputs = self.inputs(part)
        with torch.no_grad():
            outputs = zip(self.outputs(part, *inputs), self.outputs(other, *inputs), strict=True)
        for mine, loaded in outputs:
            self.close(mine, loaded, "a part that loaded the same weights differs")

    def close(self, left: Tensor, right: Tensor, message: str) -> None:
        """Fail with `message` and the largest difference unless the two agree."""
        assert left.shape == right.shape, f"{message}: {tuple(left.shape)}, {tuple(right.shape)}"
        difference = float((left.float() - right.float()).abs().max()) if left.numel() else 0.0
        agree = torch.allclose(
            left.float(), right.float(), atol=self.tolerance, rtol=self.tolerance
        )
        assert agree, f"{message} by {difference:.3g}"

    def random(self, *shape: int, seed: int = 5) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check_reached(inputs: Tensor) -> None:
    """inputs (B, K, D) after a backward pass: a finite gradient at every position."""
    assert inputs.grad is not None, "no gradient reaches the input"
    assert torch.isfinite(inputs.grad).all(), "the gradient is not finite"
    reached = inputs.grad.abs().sum(dim=2) > 0
    assert reached.all(), f"no gradient at positions {(~reached).nonzero().tolist()}"
