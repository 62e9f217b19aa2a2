"""A server under load and at its end: full queues, late answers, callers that leave, a stop."""

import json
import logging
import threading
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.core.serving.toy_server import (
    PATIENCE_S,
    Answer,
    Server,
    chat,
    picture,
    serving,
    toy,
    until,
)


class Gate:
    """Holds the model while it is shut."""

    def __init__(self) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()

    def __call__(self, *ignored: Any) -> None:
        if not self.open.is_set():
            self.reached.set()
            assert self.open.wait(PATIENCE_S)

    def shut(self) -> None:
        self.open.clear()
        self.reached.clear()


def talkative() -> bytes:
    """A picture of which several words are said, the first one in whole characters."""
    said = ((picture(n), toy().caption([picture(n)])[0]) for n in range(100))
    return next(data for data, it in said if len(it.tokens) > 4 and it.text.startswith("a"))


def cancelled(server: Server, stream: str = "false") -> float:
    return server.metric(f'vlv_requests_total{{outcome="cancelled",stream="{stream}"}}')


def test_requests_that_come_together_share_batches() -> None:
    gate = Gate()
    with serving(toy(trouble=gate), max_batch=8) as server:
        gate.shut()
        first = server.later(chat(picture(0)))
        assert gate.reached.wait(PATIENCE_S)
        answers = [server.later(chat(picture(n), stream=n % 3 == 0)) for n in range(12)]
        until(lambda: server.get("/health").json["waiting"] == 12)
        assert server.metric("vlv_queue_depth") == 12
        gate.open.set()
        first.get(timeout=PATIENCE_S)
        for number, queue in enumerate(answers):
            answer = queue.get(timeout=PATIENCE_S)
            text = toy().caption([picture(number)])[0].text
            assert (joined(answer) if number % 3 == 0 else answer.text) == text
        # the first one of the engine itself, which warms up
        assert server.backend.batches == [1, 1, 8, 4]


def joined(answer: Answer) -> str:
    deltas = [event["choices"][0]["delta"] for event in answer.events]
    return "".join(delta.get("content", "") for delta in deltas)


def test_more_than_the_queue_holds_is_sent_away() -> None:
    gate = Gate()
    with serving(toy(trouble=gate), max_batch=1, max_queue=2) as server:
        gate.shut()
        running = [server.later(chat(picture(0)))]
        assert gate.reached.wait(PATIENCE_S)
        running += [server.later(chat(picture(n))) for n in (1, 2)]
        until(lambda: server.get("/health").json["waiting"] == 2)
        refused = server.post(chat(picture(3)))
        assert refused.status == 429 and refused.headers["retry-after"] == "1"
        assert refused.error["message"] == "2 requests wait already; try again in 1 s"
        assert refused.error["code"] == "queue_full"
        assert refused.error["type"] == "rate_limit_error"
        gate.open.set()
        assert [queue.get(timeout=PATIENCE_S).status for queue in running] == [200] * 3
        assert server.post(chat(picture(3))).status == 200
        assert server.metric('vlv_requests_total{outcome="queue_full",stream="false"}') == 1


def test_bodies_that_are_still_coming_count_as_waiting() -> None:
    with serving(max_queue=1) as server:
        slow = server.connect()
        slow.putrequest("POST", "/v1/chat/completions")
        body = json.dumps(chat(picture(0))).encode()
        slow.putheader("Content-Type", "application/json")
        slow.putheader("Content-Length", str(len(body)))
        slow.endheaders(body[:50])
        until(lambda: server.get("/health").json["waiting"] == 1)
        assert server.post(chat(picture(1))).status == 429
        slow.send(body[50:])
        assert slow.getresponse().status == 200
        slow.close()
        assert server.post(chat(picture(1))).status == 200


def test_a_body_that_never_comes_is_not_waited_for() -> None:
    with serving(timeout_s=0.1) as server:
        slow = server.connect()
        slow.putrequest("POST", "/v1/chat/completions")
        slow.putheader("Content-Type", "application/json")
        slow.putheader("Content-Length", "100")
        slow.endheaders(b"{")
        response = slow.getresponse()
        assert response.status == 408
        assert b"the request did not arrive within 0.1 s" in response.read()
        assert server.get("/health").json["waiting"] == 0
        slow.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_late_answer_is_an_error(stream: bool) -> None:
    gate = Gate()
    with serving(toy(trouble=gate), timeout_s=0.2) as server:
        gate.shut()
        answer = server.post(chat(stream=stream))
        assert answer.status == 504
        assert answer.error["message"] == "the request did not finish within 0.2 s"
        gate.open.set()
        until(lambda: server.post(chat()).status == 200)


def test_a_stream_that_is_cut_says_so() -> None:
    gate = Gate()
    with serving(toy(pause=gate), timeout_s=0.3) as server:
        gate.shut()
        answer = server.post(chat(talkative(), stream=True))
        gate.open.set()
    assert answer.status == 200
    *words, error = [line for line in answer.body.decode().split("\n\n") if line]
    assert words and "did not finish within 0.3 s" in json.loads(error[6:])["error"]["message"]


def test_who_hangs_up_loses_the_place() -> None:
    gate = Gate()
    with serving(toy(trouble=gate), max_batch=1) as server:
        gate.shut()
        first = server.later(chat(picture(0)))
        assert gate.reached.wait(PATIENCE_S)
        for stream in (False, True):
            leaving = server.connect()
            body = json.dumps(chat(picture(1), stream=stream))
            headers = {"Content-Type": "application/json"}
            leaving.request("POST", "/v1/chat/completions", body, headers)
            until(lambda: server.get("/health").json["waiting"] == 1)
            leaving.close()
            until(lambda: server.get("/health").json["waiting"] == 0)
        assert cancelled(server) == cancelled(server, "true") == 1
        gate.open.set()
        assert first.get(timeout=PATIENCE_S).status == 200
        assert server.backend.batches == [1, 1]


def test_a_batch_whose_callers_all_left_ends() -> None:
    gate, steps = Gate(), []

    def pause() -> None:
        steps.append(1)
        gate()

    with serving(toy(pause=pause)) as server:
        gate.shut()
        leaving = server.connect()
        body = json.dumps(chat(talkative(), stream=True))
        leaving.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        assert leaving.getresponse().status == 200 and gate.reached.wait(PATIENCE_S)
        leaving.close()
        until(lambda: cancelled(server, "true") == 1)
        steps.clear()
        gate.open.set()
        assert server.post(chat(picture(1), max_tokens=1)).status == 200
        assert not steps


def test_a_failure_of_ours_has_a_number_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def trouble(view: NDArray[np.uint8]) -> None:
        if view.any():
            raise RuntimeError("secret detail")

    with serving(toy(trouble=trouble)) as server:
        answer = server.post(chat())
        assert answer.status == 500 and answer.error["code"] == "internal_error"
        identity = answer.headers["x-request-id"]
        assert answer.error["message"].endswith(f"its log tells more under {identity}")
        assert b"secret" not in answer.body and b"Traceback" not in answer.body
        assert f"{identity} failed" in caplog.text and "secret detail" in caplog.text
        assert server.metric('vlv_requests_total{outcome="failed",stream="false"}') == 1


def test_a_stop_finishes_what_was_begun(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlv_core.serving")
    gate = Gate()
    with serving(toy(trouble=gate), max_batch=1, grace_s=PATIENCE_S) as server:
        gate.shut()
        begun = [server.later(chat(picture(0)))]
        assert gate.reached.wait(PATIENCE_S)
        begun.append(server.later(chat(picture(1), stream=True)))
        until(lambda: server.get("/health").json["waiting"] == 1)
        server.running.stop()
        until(lambda: server.get("/health").status == 503)
        assert server.get("/health").json["status"] == "stopping"
        assert server.get("/health/live").status == 200
        refused = server.post(chat())
        assert refused.status == 503 and refused.headers["connection"] == "close"
        assert refused.error["message"] == "the server is stopping and takes no new requests"
        assert not server.ended.is_set()
        gate.open.set()
        assert [queue.get(timeout=PATIENCE_S).status for queue in begun] == [200, 200]
        assert server.ended.wait(PATIENCE_S)
        assert not server.codes
    with pytest.raises(ConnectionRefusedError):
        server.get("/health")
    assert "stopping: 1 requests wait" in caplog.text


def test_a_stop_does_not_wait_longer_than_its_grace(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with serving(toy(trouble=gate), grace_s=0.6) as server:
        gate.shut()
        begun = server.later(chat(picture(0)))
        assert gate.reached.wait(PATIENCE_S)
        started = perf_counter()
        server.running.stop()
        assert begun.get(timeout=PATIENCE_S).status == 503
        assert server.ended.wait(PATIENCE_S) and perf_counter() - started < 5
        # the model still hangs: the command then ends the process around it
        assert server.codes == [0]
        gate.open.set()
    assert "requests were cut off after 0.6 s of grace" in caplog.text


def test_an_idle_server_stops_at_once() -> None:
    with serving(grace_s=1000.0) as server:
        idle = server.connect()
        idle.request("GET", "/health")
        assert idle.getresponse().read()
        started = perf_counter()
        server.running.stop()
        assert server.ended.wait(PATIENCE_S) and perf_counter() - started < 5
        idle.close()
