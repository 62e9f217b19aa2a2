"""Parts: what an exporter compiles, one graph each, with named and typed tensors.

One `ExportPart` object feeds tracing, dynamic shapes, validation, engine profiles and benchmark
inputs. The model composes all parts but the head's, which the head gives itself.

    encoder      view uint8 (B, S, S, 3) -> z, context[, pooled], prefix
    head         prefix (B, M, Dl), tokens (B, T), position (B,), cache -> logits (B, V), cache
    condition    z (B, K, Dz) -> context[, pooled], prefix
    text         ids of each text encoder (B, L) -> context[, pooled]
    denoiser     latents (B, C, h, w), t (B,), context[, pooled] -> the network's answer
    vae_decoder  latents -> pictures float (B, S, S, 3) in 0..1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

TensorType = Literal["float", "uint8", "int64"]
CAPTION_PARTS = ("encoder", "head")
RECONSTRUCT_PARTS = ("condition", "text", "denoiser", "vae_decoder")


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of a graph."""

    name: str
    dtype: TensorType
    """"float" is whatever floating type the variant computes in"""
    shape: tuple[int | str, ...]
    """a number is fixed, a name is an axis of the part"""
    high: int | None = None
    """of integers: what all values lie below"""

    def sizes(self, axes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with its axes filled in."""
        return tuple(axes[size] if isinstance(size, str) else size for size in self.shape)


@dataclass(frozen=True)
class Axis:
    """How long a dynamic axis may be: limits of compiled engines and of validation."""

    low: int
    typical: int
    high: int


@dataclass(frozen=True)
class ExportPart:
    """A tensor-only module and the contract of its graph."""

    name: str
    module: nn.Module
    """takes the inputs in order, answers the outputs in order as a tuple"""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    axes: Mapping[str, Axis]
    state: tuple[tuple[str, str], ...] = ()
    """(input, output) pairs of which the second is the first, updated in place"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """plain values that a runtime needs besides; see the function that makes the part"""

    def example(self, sizes: Mapping[str, int], *, seed: int) -> dict[str, NDArray[Any]]:
        """Random inputs of the given axis lengths, in the shapes and ranges of the contract."""
        generator = np.random.default_rng(seed)
        return {spec.name: _random(spec, spec.sizes(sizes), generator) for spec in self.inputs}


def head_part(
    module: nn.Module,
    *,
    dim: int,
    vocab_size: int,
    max_length: int,
    cache: Sequence[tuple[int, int]],
) -> ExportPart:
    """The part of a language model whose layers keep keys and values of (heads, width) `cache`.

    `module(prefix, tokens, position, *past)` reads prefix (B, M, Dl) and after it tokens (B, T),
    either of which may be empty, from position (B,) on, and answers logits (B, V) of the last
    position and then `past` with them written into it: for each layer keys and values
    (B, heads, C, width). See `ops.cached_attention`.
    """
    past, present = _cache("past", cache), _cache("present", cache)
    return ExportPart(
        name="head",
        module=module,
        inputs=(
            TensorSpec("prefix", "float", ("batch", "prefix", dim)),
            TensorSpec("tokens", "int64", ("batch", "length"), high=vocab_size),
            # Examples start at an empty cache: there is room for what they append.
            TensorSpec("position", "int64", ("batch",), high=1),
            *past,
        ),
        outputs=(TensorSpec("logits", "float", ("batch", vocab_size)), *present),
        axes={
            "batch": Axis(1, 8, 256),
            "prefix": Axis(0, min(77, max_length - 1), max_length),
            "length": Axis(0, 1, max_length),
            "capacity": Axis(2, max_length, max_length),
        },
        state=tuple((a.name, b.name) for a, b in zip(past, present, strict=True)),
        facts={"cache": [list(each) for each in cache], "max_length": max_length},
    )


def _cache(name: str, layers: Sequence[tuple[int, int]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(f"{name}.{index}.{kind}", "float", ("batch", heads, "capacity", width))
        for index, (heads, width) in enumerate(layers)
        for kind in ("key", "value")
    )


def _random(
    spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[Any]:
    if spec.dtype == "float":
        return generator.standard_normal(shape).astype(np.float32)
    high = spec.high or (256 if spec.dtype == "uint8" else 2)
    return generator.integers(0, high, shape).astype(spec.dtype)


def names(specs: Sequence[TensorSpec]) -> Iterator[str]:
    """Their names, in order."""
    return (spec.name for spec in specs)
