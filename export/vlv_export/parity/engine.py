"""L5: facts of the engine: what unused cache holds changes nothing, writes are in place, memory
stays flat, and no number is lost.

Precision is proved by L0, from the weights themselves.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlv_core.generation.options import MAX_CANDIDATES
from vlv_export.parity.figures import distribution, relative_l2
from vlv_export.parity.parts import (
    capacity_of,
    cases_of,
    counted,
    head_calls,
    head_parts,
    run_head,
)
from vlv_export.parity.report import Check, Level, judged
from vlv_export.parity.target import Target
from vlv_export.runtime.cache import KvCache
from vlv_export.runtime.head import cache_layers, fed

POISON = 1000.0
"""scale of the garbage in unused cache: far above any key or value, finite in float16"""
STEPS, SECONDS = 2000, 20.0
"""of decoding under watch, after as much to warm up: whichever ends first"""
MOST_GROWTH = 8 * 2**20
"""bytes of the process; a leak of one answer a step would be more"""
_STATUS = Path("/proc/self/statm")


def check_engine(target: Target) -> Level:
    """The level's outcome."""
    notes, checks = [], []
    for part in head_parts(target):
        checks.append(_poisoned(target, part))
        if target.entry.graph(part).shared_cache:
            checks += _in_place(target, part)
    if not target.entry.graph("head").shared_cache:
        notes.append("writes in place: not applicable, this head's cache has two sides")
    if _STATUS.is_file():
        checks += _flat(target)
    else:
        notes.append("memory over many steps: not run, this system does not tell it")
    return judged("L5", checks, notes=tuple(notes))


def _poisoned(target: Target, part: str) -> Check:
    """Logits with garbage in all cache positions that are not in use, against zeros there."""
    case = cases_of(target, part)[-1]
    prefix, tokens = case.inputs["prefix"], case.inputs["tokens"]
    clean, poisoned = (
        run_head(target, prefix, tokens, part=part, beyond=fill) for fill in (np.zeros, _garbage)
    )
    values = np.array([
        np.inf if not np.isfinite(found).all() else relative_l2(found[None], wanted[None])[0]
        for found, wanted in zip(poisoned, clean, strict=True)
    ])  # fmt: skip
    return Check(
        part=part,
        output="logits",
        figure="change by a poisoned cache, relative L2",
        value=float(values.max()),
        most=1e-6,
        worst=f"{case.title}, row {int(values.argmax())}",
        distribution=dict(distribution(values)),
    )


def _garbage(shape: tuple[int, ...]) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal(shape)
    return (POISON * noise).astype(np.float32)


def _in_place(target: Target, part: str) -> list[Check]:
    """One buffer bound as past and as present: steps write their own position and no other."""
    case = cases_of(target, part)[0]
    prefix, tokens = case.inputs["prefix"], case.inputs["tokens"]
    wanted = run_head(target, prefix, tokens, part=part)
    cache = _Cache(
        target, part, rows=len(prefix), capacity=capacity_of(target, part, prefix, tokens)
    )
    strayed, errors, position = [], [], 0
    for step, (given, words) in enumerate(head_calls(prefix, tokens)):
        before = cache.held()
        logits = cache.logits(given, words, position)
        end = position + given.shape[1] + words.shape[1]
        for name, array in cache.held().items():
            kept = np.r_[0:position, end : array.shape[2]]
            if not np.array_equal(array[:, :, kept], before[name][:, :, kept]):
                strayed.append(f"step {step}: {name} changed outside {position}..{end}")
            if np.array_equal(array[:, :, position:end], before[name][:, :, position:end]):
                strayed.append(f"step {step}: {name} was not written at {position}..{end}")
        errors.append(relative_l2(logits[None], wanted[None, :, step])[0])
        position = end
    return [
        counted(part, "cache", "writes elsewhere than in place", strayed),
        Check(part=part, output="logits", figure="change by one shared buffer, relative L2",
              value=float(max(errors)), most=1e-6, worst=f"step {int(np.argmax(errors))}"),
    ]  # fmt: skip


class _Cache:
    """A head's cache where the runtime would keep it, bound as its past and its present."""

    def __init__(self, target: Target, part: str, *, rows: int, capacity: int) -> None:
        self.sessions, self.part = target.backend.sessions, part
        self.vocab_size = target.backend.facts.vocab_size
        layers, memory = cache_layers(self.sessions.graph(part)), self.sessions.memory
        cache = KvCache(layers, rows=rows, capacity=capacity, sides=1, memory=memory)
        self.tensors = cache.tensors(rows, side=0)

    def held(self) -> dict[str, NDArray[Any]]:
        """A copy of what each tensor holds."""
        read = self.sessions.memory.read
        return {name: read(tensor).copy() for name, tensor in self.tensors.items()}

    def logits(
        self, prefix: NDArray[np.float32], tokens: NDArray[np.int64], position: int
    ) -> NDArray[np.float32]:
        """Logits (B, V) of one call that reads and writes these very tensors."""
        rows = len(prefix)
        bound = self.sessions.bind(
            self.part,
            {
                **fed(
                    self.sessions.graph(self.part),
                    np.ascontiguousarray(prefix),
                    np.ascontiguousarray(tokens),
                ),
                "position": np.full(rows, position, np.int64),
                "k": np.array([1], np.int64),
                **{f"past.{name}": tensor for name, tensor in self.tensors.items()},
            },
            {
                "logits": np.empty((rows, self.vocab_size), np.float32),
                **{f"present.{name}": tensor for name, tensor in self.tensors.items()},
            },
            varying=(),
        )
        bound.run()
        return bound.outputs["logits"]


def _flat(target: Target) -> list[Check]:
    """The process's memory over many steps of the decode that users run."""
    lost: list[str] = []
    _decode(target, lost)
    before = _resident()
    steps = _decode(target, lost)
    growth = max(0, _resident() - before)
    return [
        Check(part="head", output="memory", figure=f"growth over {steps} steps, bytes",
              value=growth, most=MOST_GROWTH),
        counted("head", "top_log_probs", "steps that gave no numbers", lost),
    ]  # fmt: skip


def _decode(target: Target, lost: list[str]) -> int:
    """Greedy words to the end of the cache, again and again; how many steps there were."""
    prefix, limits = target.encoded.prefix[:2], target.backend.limits
    capacity = min(limits.max_length, prefix.shape[1] + target.golden.facts.max_new_tokens)
    done, end = 0, time.monotonic() + SECONDS
    while done < STEPS and time.monotonic() < end:
        stepper = target.backend.start(prefix, capacity)
        top = stepper.prefill(MAX_CANDIDATES)
        for _ in range(capacity - prefix.shape[1] - 1):
            top = stepper.step(top.ids[:, 0], MAX_CANDIDATES)
            if not np.isfinite(top.log_probs[:, 0]).all():
                lost.append(f"step {done}")
            done += 1
        done += 1
    return done


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(_STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
