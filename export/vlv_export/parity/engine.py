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
from vlv_export.parity.parts import counted, run_head
from vlv_export.parity.report import Check, Level, judged
from vlv_export.parity.target import Target

POISON = 1000.0
"""scale of the garbage in unused cache: far above any key or value, finite in float16"""
STEPS, SECONDS = 2000, 20.0
"""of decoding under watch, after as much to warm up: whichever ends first"""
MOST_GROWTH = 8 * 2**20
"""bytes of the process; a leak of one answer a step would be more"""
_STATUS = Path("/proc/self/statm")


def check_engine(target: Target) -> Level:
    """The level's outcome."""
    notes = []
    checks = [_poisoned(target)]
    if target.entry.graph("head").shared_cache:
        checks += _in_place(target)
    else:
        notes.append("writes in place: not applicable, this head's cache has two sides")
    if _STATUS.is_file():
        checks += _flat(target)
    else:
        notes.append("memory over many steps: not run, this system does not tell it")
    return judged("L5", checks, notes=tuple(notes))


def _poisoned(target: Target) -> Check:
    """Logits with garbage in all cache positions that are not in use, against zeros there."""
    case = target.golden.of("head")[-1]
    prefix, tokens = case.inputs["prefix"], case.inputs["tokens"]
    clean, poisoned = (
        run_head(target, prefix, tokens, beyond=fill) for fill in (np.zeros, _garbage)
    )
    values = np.array([
        np.inf if not np.isfinite(found).all() else relative_l2(found[None], wanted[None])[0]
        for found, wanted in zip(poisoned, clean, strict=True)
    ])  # fmt: skip
    return Check(
        part="head",
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


def _in_place(target: Target) -> list[Check]:
    """One buffer bound as past and as present: steps write their own position and no other."""
    case = target.golden.of("head")[0]
    prefix, tokens = case.inputs["prefix"], case.inputs["tokens"]
    wanted = run_head(target, prefix, tokens)
    cache = _buffers(target, prefix, tokens.shape[1])
    strayed, errors, position = [], [], 0
    empty, nothing = prefix[:, :0], tokens[:, :0]
    calls = [(prefix, nothing), *((empty, column[:, None]) for column in tokens.T)]
    for step, (given, words) in enumerate(calls):
        before = {name: array.copy() for name, array in cache.items()}
        logits = _bound(target, cache, given, words, position)
        end = position + given.shape[1] + words.shape[1]
        for name, array in cache.items():
            kept = np.r_[0:position, end : array.shape[2]]
            if not np.array_equal(array[:, :, kept], before[name][:, :, kept]):
                strayed.append(f"step {step}: {name} changed outside {position}..{end}")
            if np.array_equal(array[:, :, position:end], before[name][:, :, position:end]):
                strayed.append(f"step {step}: {name} was not written at {position}..{end}")
        errors.append(relative_l2(logits[None], wanted[None, :, step])[0])
        position = end
    return [
        counted("head", "cache", "writes elsewhere than in place", strayed),
        Check(part="head", output="logits", figure="change by one shared buffer, relative L2",
              value=float(max(errors)), most=1e-6, worst=f"step {int(np.argmax(errors))}"),
    ]  # fmt: skip


def _buffers(target: Target, prefix: NDArray[np.float32], steps: int) -> dict[str, NDArray[Any]]:
    """Name without "past." -> a cache tensor with room for prefix and steps."""
    capacity = prefix.shape[1] + steps + 5
    return {
        each.name.removeprefix("past."): np.zeros(
            (len(prefix), int(each.shape[1]), capacity, int(each.shape[3])), np.dtype(each.dtype)
        )
        for each in target.entry.graph("head").inputs
        if each.name.startswith("past.")
    }


def _bound(
    target: Target,
    cache: dict[str, NDArray[Any]],
    prefix: NDArray[np.float32],
    tokens: NDArray[np.int64],
    position: int,
) -> NDArray[np.float32]:
    """Logits (B, V) of one call whose past and present are the very same arrays."""
    from vlv_export.runtime._onnxruntime import Bound

    rows = len(prefix)
    logits = np.empty((rows, target.backend.facts.vocab_size), np.float32)
    bound = Bound(
        target.backend.sessions.session("head"),
        {
            "prefix": np.ascontiguousarray(prefix),
            "tokens": np.ascontiguousarray(tokens),
            "position": np.full(rows, position, np.int64),
            "k": np.array([1], np.int64),
            **{f"past.{name}": array for name, array in cache.items()},
        },
        {"logits": logits, **{f"present.{name}": array for name, array in cache.items()}},
    )
    bound.run()
    return logits


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
