"""Calling the model: batches, isolation, patience, and what counts as hopeless."""

import logging
from typing import Any

import numpy as np
import pytest

from tests.core.fake_captioner import FakeCaptioner, words
from vlv_core.errors import ConfigError, DataError, VlvError
from vlv_core.jobs import Input
from vlv_core.jobs.decoding import Decoded, decode
from vlv_core.jobs.model import Model
from vlv_core.specs import View


def pictures(*numbers: int) -> list[Decoded]:
    return [
        Decoded(Input(f"{number}.png", ""), np.full((8, 8, 3), number, np.uint8))
        for number in numbers
    ]


def failing(*numbers: int, error: Exception | None = None) -> FakeCaptioner:
    def trouble(views: Any) -> None:
        calls.append(len(views))
        if any(view[0, 0, 0] in numbers for view in views):
            raise error or ValueError("unknown\nshape")

    calls: list[int] = []
    captioner = FakeCaptioner(trouble=trouble)
    captioner.calls = calls  # type: ignore[attr-defined]
    return captioner


def test_answers_are_in_order_and_share_the_time() -> None:
    batch = pictures(3, 1, 2)
    answers = Model(FakeCaptioner(), None).answer(batch)
    assert [answer.caption.text for answer in answers if answer.caption] == [
        words(picture.view) for picture in batch if picture.view is not None
    ]
    assert len({answer.seconds for answer in answers}) == 1
    assert Model(FakeCaptioner(), None).answer([]) == []


def test_a_failed_batch_is_tried_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    captioner = failing(5)
    with caplog.at_level(logging.WARNING):
        answers = Model(captioner, None).answer(pictures(4, 5, 6))
    assert [answer.error for answer in answers] == [
        None,
        "the model failed: ValueError: unknown shape",
        None,
    ]
    assert captioner.calls == [3, 1, 1, 1]  # type: ignore[attr-defined]
    assert "a batch failed, now one by one: ValueError: unknown shape" in caplog.text


def test_patience_starts_anew_after_each_success() -> None:
    model = Model(failing(1), None)
    for _ in range(5):
        assert [answer.error is None for answer in model.answer(pictures(*[1] * 15, 2))] == [
            *[False] * 15,
            True,
        ]
    with pytest.raises(VlvError, match="failed on 16 pictures in a row, the last time: Value"):
        model.answer(pictures(*[1] * 16))


def test_what_the_captioner_says_of_usage_is_not_the_pictures_fault() -> None:
    with pytest.raises(ConfigError, match="no such beam"):
        Model(failing(1, error=ConfigError("no such beam")), None).answer(pictures(1, 2))
    answers = Model(failing(1, error=DataError("too square")), None).answer(pictures(1, 2))
    assert [answer.error for answer in answers] == ["the model failed: DataError: too square", None]


def test_an_interrupt_is_not_a_failure() -> None:
    def trouble(views: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Model(FakeCaptioner(trouble=trouble), None).answer(pictures(1))


def test_decoding_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Input):
        def read(self) -> bytes:
            raise RuntimeError("two\nlines")

    assert decode(Broken("a", "a"), View(size=8)).error == "RuntimeError: two lines"
    missing = decode(Input("gone.png", "gone.png"), View(size=8))
    assert missing.error == "No such file or directory" and missing.sha256 is None
