"""A server as callers see it: answers, streams, lists, keys, and the log."""

import json
import logging
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.core.serving.toy_server import ROOM, Server, chat, picture, serving, toy, until
from vlv_core.generation import GenerationOptions
from vlv_core.serving import ServeOptions


@pytest.fixture(scope="module")
def server() -> Any:
    with serving() as running:
        yield running


def said(number: int, **options: Any) -> Any:
    """What the toy itself says of a picture."""
    made = GenerationOptions(**{"max_new_tokens": ROOM, **options})
    key = options.pop("key", 0)
    return toy().caption([picture(number)], options=made, keys=[key])[0]


def test_an_answer_has_the_captioners_words(server: Server) -> None:
    answer = server.post(chat(picture(1)))
    caption = said(1)
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == answer.json["id"]
    assert answer.json["object"] == "chat.completion" and answer.json["model"] == "toy"
    assert answer.json["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": caption.text, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop" if caption.finish_reason == "eos" else "length",
            "stop_reason": caption.finish_reason,
        }
    ]
    tokens = len(caption.tokens)
    assert answer.json["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": tokens,
        "total_tokens": tokens + 1,
    }


def test_a_limit_ends_with_length(server: Server) -> None:
    answer = server.post(chat(picture(1), max_tokens=1))
    assert answer.json["choices"][0]["finish_reason"] == "length"
    assert answer.json["usage"]["completion_tokens"] == 1


def test_a_seed_repeats_and_its_absence_does_not(server: Server) -> None:
    drawn = chat(picture(2), temperature=1.0, seed=7)
    texts = {server.post(drawn).text for _ in range(3)}
    options = GenerationOptions(max_new_tokens=ROOM, temperature=1.0)
    assert texts == {toy().caption([picture(2)], options=options, keys=[7])[0].text}
    assert len({server.post(chat(picture(2), temperature=2.0)).text for _ in range(8)}) > 1


def test_a_stream_joins_to_the_answer(server: Server) -> None:
    for number in range(3):
        whole = server.post(chat(picture(number))).json["choices"][0]
        answer = server.post(chat(picture(number), stream=True))
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        first, *rest = answer.events
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert {event["object"] for event in answer.events} == {"chat.completion.chunk"}
        assert {event["id"] for event in answer.events} == {answer.headers["x-request-id"]}
        pieces = [event["choices"][0]["delta"].get("content", "") for event in rest]
        assert "".join(pieces) == whole["message"]["content"]
        last = rest[-1]["choices"][0]
        assert last["delta"] == {} and last["finish_reason"] == whole["finish_reason"]
        assert all("usage" not in event for event in answer.events)


def test_a_stream_tells_usage_if_asked(server: Server) -> None:
    answer = server.post(chat(picture(1), stream=True, stream_options={"include_usage": True}))
    *chunks, usage = answer.events
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"] == server.post(chat(picture(1))).json["usage"]


def test_the_list_of_models(server: Server) -> None:
    [model] = server.get("/v1/models").json["data"]
    assert (model["id"], model["object"], model["full_name"]) == ("toy", "model", "toy@123")
    assert model["domain"] == "made-up words"
    assert server.get("/v1/models/toy").json == model
    assert server.get("/v1/models/toy@123").json == model
    missing = server.get("/v1/models/gpt")
    assert missing.status == 404 and missing.error["code"] == "model_not_found"


def test_both_names_of_the_model_are_taken(server: Server) -> None:
    assert server.post({**chat(), "model": "toy@123"}).status == 200
    answer = server.post({**chat(), "model": "gpt"})
    assert answer.status == 404 and answer.error["param"] == "model"
    assert answer.error["message"] == "no model 'gpt'; this server has 'toy'"


def test_health(server: Server) -> None:
    assert server.get("/health").json == {"status": "ready", "model": "toy", "waiting": 0}
    assert server.get("/health/live").json == {"status": "live"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/v1/models", 405)],
)
def test_other_ways_are_refused(server: Server, method: str, path: str, status: int) -> None:
    answer = server.request(method, path)
    assert answer.status == status
    assert "known: POST /v1/chat/completions" in answer.error["message"]


def test_a_page_of_another_origin_cannot_ask(server: Server) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = server.post(chat(), **{"Content-Type": kind})
        assert answer.status == 415
        assert "sent as Content-Type: application/json" in answer.error["message"]
    assert server.post(chat(), **{"Content-Type": "application/json; charset=utf-8"}).status == 200


def test_a_connection_serves_many(server: Server) -> None:
    connection = server.connect()
    for body, status in ((chat(), 200), (chat(n=2), 400), (chat(), 200)):
        data = json.dumps(body)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", data, headers)
        response = connection.getresponse()
        assert response.status == status and response.read()
    connection.close()


def test_metrics_count_what_happened() -> None:
    with serving() as server:
        texts = [server.post(chat(picture(n))) for n in range(3)]
        server.post(chat(picture(3), stream=True))
        server.post(chat(n=2))
        answer = server.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {
            family.name: family for family in text_string_to_metric_families(answer.body.decode())
        }
        outcomes = {
            (sample.labels["outcome"], sample.labels["stream"]): sample.value
            for sample in families["vlv_requests"].samples
            if sample.name == "vlv_requests_total"
        }
        assert outcomes == {("ok", "false"): 3, ("ok", "true"): 1, ("refused", "false"): 1}
        tokens = sum(each.json["usage"]["completion_tokens"] for each in texts)
        tokens += len(said(3).tokens)
        assert server.metric("vlv_tokens_total") == tokens
        assert server.metric("vlv_images_total") == 4
        assert server.metric("vlv_queue_depth") == 0
        assert server.metric("vlv_batch_size_sum") == 4
        for stage in ("prepare", "queue", "encode", "first_token", "request"):
            assert families[f"vlv_{stage}_seconds"].type == "histogram"
            assert server.metric(f"vlv_{stage}_seconds_count") == 4
            assert server.metric(f"vlv_{stage}_seconds_sum") > 0


def test_a_key_is_asked_for_where_there_is_one() -> None:
    with serving(api_key="sesame") as server:
        for path in ("/v1/models", "/v1/models/toy", "/metrics"):
            assert server.get(path).status == 401
            assert server.get(path, Authorization="Bearer sesame").status == 200
        assert server.get("/health").status == server.get("/health/live").status == 200
        for wrong in ("Bearer", "Bearer wrong", "Basic sesame", "sesame", "Bearer sesam\xe9"):
            answer = server.post(chat(), Authorization=wrong)
            assert answer.status == 401 and answer.error["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "sesame" not in answer.error["message"]
        assert server.post(chat(), Authorization="bearer sesame").status == 200
    assert "sesame" not in repr(ServeOptions(api_key="sesame"))


def test_a_line_a_request(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlv_core.serving")
    identity = server.post(chat(picture(1), max_tokens=1)).json["id"]
    refused = server.post(chat(n=2)).headers["x-request-id"]
    # a line is written after its answer
    until(lambda: any(line.startswith(refused) for line in caplog.messages))
    done, bad = (
        next(line for line in caplog.messages if line.startswith(each))
        for each in (identity, refused)
    )
    assert done.startswith(f"{identity} 200 ok: ")
    assert done.endswith("batch of 1, 1 tokens (length)") and " queued " in done
    assert bad.startswith(f"{refused} 400 refused: ") and bad.endswith(" bytes")
