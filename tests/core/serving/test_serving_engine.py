"""Running batches: the captioner's own words for each job, whatever stands beside it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.core.serving.toy_server import ROOM, toy
from tests.core.test_captioner import tiny
from vlv_core.captioner import Captioner
from vlv_core.generation import GenerationOptions
from vlv_core.serving.engine import Engine
from vlv_core.serving.jobs import Event, Finished, Job, Piece


def view(number: int, edge: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (edge, edge, 3), dtype=np.uint8)


class Asked:
    """A job and what it was told."""

    def __init__(
        self,
        engine: Engine,
        picture: NDArray[np.uint8],
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        key: int = 0,
        stream: bool = False,
    ) -> None:
        self.events: list[Event] = []
        self.job = Job(
            view=picture,
            options=engine.options(temperature=temperature, top_p=top_p),
            limit=engine.limit(max_tokens),
            emit=self.events.append,
            key=key,
            stream=stream,
        )

    @property
    def finished(self) -> Finished:
        last = self.events[-1]
        assert isinstance(last, Finished) and self.job.over
        return last

    @property
    def pieces(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Piece)]


def alone(captioner: Captioner, asked: Asked) -> Finished:
    """What the captioner itself says of the job's picture."""
    options = replace(asked.job.options, max_new_tokens=asked.job.limit)
    [said] = captioner.caption(asked.job.view, options=options, keys=[asked.job.key])
    return Finished(said.text, len(said.tokens), said.finish_reason)


@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, ROOM + 9), st.booleans()), min_size=1))
def test_neighbours_and_their_limits_change_no_word(rows: list[tuple[int, int, bool]]) -> None:
    engine = Engine(toy())
    every = [Asked(engine, view(n), max_tokens=most, stream=stream) for n, most, stream in rows]
    engine.run([asked.job for asked in every])
    for asked, (_, _, stream) in zip(every, rows, strict=True):
        assert asked.finished == alone(engine.captioner, asked)
        assert "".join(asked.pieces) == (asked.finished.text if stream else "")


def test_every_reason_occurs() -> None:
    engine = Engine(toy())
    every = [Asked(engine, view(n), max_tokens=6) for n in range(40)]
    engine.run([asked.job for asked in every])
    assert {asked.finished.reason for asked in every} == {"eos", "length"}


def test_sampled_words_hang_on_the_key_alone() -> None:
    engine = Engine(toy())
    drawn = {"temperature": 1.0, "top_p": 0.9}
    every = [Asked(engine, view(0), key=key, **drawn) for key in range(12)]
    engine.run([asked.job for asked in every])
    assert all(asked.finished == alone(engine.captioner, asked) for asked in every)
    assert len({asked.finished.text for asked in every}) > 3


def test_real_graphs_say_the_same_in_a_batch() -> None:
    captioner = tiny(diffusion=False)
    engine = Engine(captioner)
    every = [Asked(engine, view(n, 64), max_tokens=4 + 6 * n, stream=n % 2 == 0) for n in range(5)]
    engine.run([asked.job for asked in every])
    assert all(asked.finished == alone(captioner, asked) for asked in every)


def test_without_a_limit_the_models_own_holds() -> None:
    captioner = toy()
    engine = Engine(captioner)
    assert engine.prefix_length == 1
    assert engine.limit(None) == ROOM and engine.limit(7) == 7
    # an upper bound that is higher than the model's is kept too
    assert engine.limit(10**9) == ROOM
    blank = captioner.encode(view(0))
    assert engine.options(temperature=0, top_p=1) == captioner.options(blank, None)


def test_half_a_character_is_not_sent() -> None:
    engine = Engine(toy())
    every = [Asked(engine, view(n), stream=True) for n in range(60)]
    engine.run([asked.job for asked in every])
    assert any("é" in asked.finished.text for asked in every)
    assert any(len(asked.pieces) > 3 for asked in every)
    for asked in every:
        assert "".join(asked.pieces) == asked.finished.text
        # only the last piece may be what never became a character
        assert not any(piece.endswith("\ufffd") for piece in asked.pieces[:-1])


def test_a_picture_on_which_the_model_fails_takes_no_other_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = view(1)

    def trouble(views: NDArray[np.uint8]) -> None:
        if any(np.array_equal(each, bad) for each in views):
            raise RuntimeError("planted")

    engine = Engine(toy(trouble=trouble))
    every = [Asked(engine, view(n)) for n in range(3)]
    engine.run([asked.job for asked in every])
    assert [asked.finished for asked in every[::2]] == [
        alone(engine.captioner, asked) for asked in every[::2]
    ]
    [failed] = every[1].events
    assert isinstance(failed, RuntimeError) and str(failed) == "planted"
    assert "a batch of 3 failed, now one by one: RuntimeError('planted')" in caplog.text


def test_words_that_went_out_are_not_sent_again_after_a_failure() -> None:
    steps = iter(range(1000))

    def pause() -> None:
        if next(steps) == 3:
            raise RuntimeError("planted")

    engine = Engine(toy(pause=pause))
    every = [Asked(engine, view(n), stream=True) for n in range(8)]
    engine.run([asked.job for asked in every])
    assert all(asked.finished == alone(engine.captioner, asked) for asked in every)
    assert all("".join(asked.pieces) == asked.finished.text for asked in every)


def test_a_batch_that_nobody_waits_for_ends() -> None:
    stops: list[Any] = []
    engine = Engine(toy(pause=lambda: [stop() for stop in stops]))
    every = [Asked(engine, view(n)) for n in range(4)]
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1
        for asked in every:
            asked.job.cancelled = steps == 2

    stops.append(count)
    engine.run([asked.job for asked in every])
    assert steps == 2
    assert not any(isinstance(event, Finished) for asked in every[:1] for event in asked.events)


def test_a_batch_whose_jobs_all_reached_their_limit_ends() -> None:
    steps: list[int] = []
    engine = Engine(toy(pause=lambda: steps.append(1)))
    every = [Asked(engine, view(n), max_tokens=3) for n in range(4)]
    engine.run([asked.job for asked in every])
    assert len(steps) <= 2


def test_batches_are_told() -> None:
    told: list[tuple[int, float]] = []
    engine = Engine(toy(), on_batch=lambda rows, seconds: told.append((rows, seconds)))
    engine.run([Asked(engine, view(n)).job for n in range(3)])
    [(rows, seconds)] = told
    assert rows == 3 and seconds > 0


def test_defaults_are_greedy() -> None:
    engine = Engine(toy())
    assert engine.defaults == GenerationOptions(max_new_tokens=ROOM)
