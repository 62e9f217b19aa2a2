"""What is summed on the device between two log rows, and requests to stop."""

import os
import signal
import threading

import pytest
import torch

from vlv_core.interrupt import StopRequest
from vlv_core.training.window import Window


def window(*steps: tuple[float, float, float], first: int = 0) -> Window:
    """(summed loss, weight, norm) of each step, with two keys each."""
    made = Window(torch.device("cpu"))
    for step, (loss, weight, norm) in enumerate(steps, start=first):
        made.add(
            step,
            keys=(f"{step}a", f"{step}b"),
            total=torch.tensor([loss, weight]),
            norm=torch.tensor(norm),
        )
    return made


def test_the_mean_is_over_the_weight_of_all_steps() -> None:
    reading = window((6.0, 2.0, 1.0), (4.0, 8.0, 3.0)).read()
    assert reading.loss == pytest.approx(10 / 10)
    assert reading.grad_norm == 3.0 and reading.samples == 4
    assert reading.bad_step is None and reading.bad_keys == ()


def test_reading_starts_anew() -> None:
    made = window((6.0, 2.0, 1.0))
    made.read()
    made.add(1, keys=("x",), total=torch.tensor([3.0, 1.0]), norm=torch.tensor(2.0))
    reading = made.read()
    assert (reading.loss, reading.samples) == (3.0, 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["loss", "norm"])
def test_the_first_bad_step_is_kept_with_its_keys(bad: float, where: str) -> None:
    broken = (bad, 1.0, 1.0) if where == "loss" else (1.0, 1.0, bad)
    reading = window((1.0, 1.0, 1.0), broken, broken, (1.0, 1.0, 1.0), first=40).read()
    assert reading.bad_step == 41 and reading.bad_keys == ("41a", "41b")


def test_no_weight_is_no_division_by_zero() -> None:
    reading = window((0.0, 0.0, 0.0)).read()
    assert reading.loss == 0.0 and reading.bad_step is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested and stop.number == number
        assert signal.getsignal(number) == before, "a second one acts as it always does"
    assert signal.getsignal(number) == before


def test_handlers_come_back_without_a_signal() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopRequest() as stop:
        assert signal.getsignal(signal.SIGINT) == stop._request
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert not stop.requested and stop.number is None


def test_another_thread_may_train_without_handlers() -> None:
    seen: list[bool] = []

    def body() -> None:
        with StopRequest() as stop:
            seen.append(stop.requested)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [False] and signal.getsignal(signal.SIGTERM) == before
