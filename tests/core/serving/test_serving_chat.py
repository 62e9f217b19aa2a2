"""Reading requests: what is understood, and what is refused with which words."""

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.serving.toy_server import chat, data_url, picture
from vlv_core.serving.chat import ChatRequest, read_chat
from vlv_core.serving.data_url import picture_bytes
from vlv_core.serving.refusal import Refusal

PATIENT = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
IMAGE = {"type": "image_url", "image_url": {"url": data_url(b"abc")}}


def read(**fields: Any) -> ChatRequest:
    return read_chat(json.dumps(chat(b"abc", **fields)).encode())


def messages(*contents: Any, role: str = "user") -> dict[str, Any]:
    made = [{"role": role, "content": content} for content in contents]
    return {"model": "toy", "messages": made}


def test_a_plain_request() -> None:
    assert read() == ChatRequest(
        model="toy",
        picture=b"abc",
        max_tokens=None,
        temperature=0.0,
        top_p=1.0,
        seed=None,
        stream=False,
        include_usage=False,
    )


def test_everything_that_is_honoured() -> None:
    asked = read(
        max_completion_tokens=9,
        temperature=0.7,
        top_p=0.9,
        seed=2**64 - 1,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert (asked.max_tokens, asked.temperature, asked.top_p) == (9, 0.7, 0.9)
    assert asked.seed == 2**64 - 1 and asked.stream and asked.include_usage
    assert read(max_tokens=7).max_tokens == read(max_tokens=7, max_completion_tokens=7).max_tokens


def test_values_that_ask_for_nothing_are_taken() -> None:
    neutral = {
        "n": 1,
        "stop": None,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "logprobs": False,
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "user": "somebody",
        "metadata": {"a": "b"},
        "temperature": None,
        "stream_options": None,
    }
    assert read(**neutral) == read()
    # the likeliest word alone is left by every top_p
    assert read(temperature=0, top_p=0.5) == read()


def test_pictures_are_found_among_text_of_other_messages() -> None:
    body: dict[str, Any] = messages([{"type": "text", "text": "hi"}, IMAGE])
    body["messages"].insert(0, {"role": "system", "content": "be brief"})
    body["messages"].append({"role": "assistant", "content": None})
    body["messages"].append({"role": "user", "content": "and now?"})
    assert read_chat(json.dumps(body).encode()).picture == b"abc"


def test_a_url_may_stand_without_its_object() -> None:
    body = messages([{"type": "image_url", "image_url": data_url(b"abc")}])
    assert read_chat(json.dumps(body).encode()).picture == b"abc"


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"n": 2}, "n=2 cannot be honoured by a captioner; leave n out", "n"),
        ({"n": True}, "n=True cannot be honoured", "n"),
        ({"tools": [{}]}, r"tools=\[\{\}\] cannot be honoured", "tools"),
        ({"response_format": {"type": "json_object"}}, "cannot be honoured", "response_format"),
        ({"logprobs": True}, "logprobs=True cannot be honoured", "logprobs"),
        ({"stop": ["."]}, r"stop=\['.'\] cannot be honoured", "stop"),
        ({"presence_penalty": 0.5}, "presence_penalty=0.5 cannot be honoured", "presence_penalty"),
        ({"reasoning_effort": "low"}, "'low' cannot be honoured", "reasoning_effort"),
        (
            {"max_token": 4},
            "unrecognised parameter 'max_token'; did you mean 'max_tok",
            "max_token",
        ),
        ({"temperature": "hot"}, "temperature is 'hot'; use int or float", "temperature"),
        ({"temperature": True}, "temperature is True; use int or float", "temperature"),
        ({"temperature": 2.5}, r"temperature is 2.5; use 0\.\.2", "temperature"),
        ({"temperature": 10**400}, r"temperature is 1000.*; use 0\.\.2", "temperature"),
        ({"top_p": 0}, "top_p is 0, which leaves no token", "top_p"),
        ({"top_p": 0.5}, "top_p acts on sampling only", "top_p"),
        ({"seed": -1}, r"seed is -1; use 0\.\.", "seed"),
        ({"seed": 1.0}, "seed is 1.0; use int", "seed"),
        ({"max_tokens": 0}, "max_tokens is 0; use at least 1", "max_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "differ; give one", "max_tokens"),
        ({"stream": 1}, "stream is 1; use bool", "stream"),
        ({"stream_options": {}}, "stream_options needs stream=true", "stream_options"),
        (
            {"stream": True, "stream_options": {"x": 1}},
            "unrecognised stream option 'x'",
            "stream_options",
        ),
        ({"model": None}, "'model' is missing; GET /v1/models lists it", "model"),
        ({"model": 3}, "model is 3; use str", "model"),
        ({"messages": []}, "messages must be a list of at least one", "messages"),
        ({"messages": "hi"}, "messages must be a list of at least one", "messages"),
        ({"messages": [3]}, r"messages\[0\] must be an object with a role of", "messages[0]"),
        ({"messages": [{"role": "tool"}]}, "with a role of developer, system", "messages[0]"),
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], message: str, param: str) -> None:
    with pytest.raises(Refusal, match=message) as caught:
        read(**fields)
    error = caught.value.body()["error"]
    assert caught.value.status == 400 and error["type"] == "invalid_request_error"
    assert error["param"] == param and len(error["message"]) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("words alone", "hold 0 pictures; this captioner reads exactly one"),
        ([IMAGE, IMAGE], "hold 2 pictures"),
        (None, r"messages\[0\].content must be text or a list of parts"),
        ({}, r"messages\[0\].content must be text or a list of parts"),
        ([{"type": "input_audio"}], r"content\[0\] must be a part of type text or image_url"),
        ([3], r"content\[0\] must be a part of type text or image_url"),
        ([{"type": "text", "text": 3}], "must be a part of type text or image_url"),
        ([{"type": "image_url"}], "image_url must be an object with a url"),
        ([{"type": "image_url", "image_url": {"url": 3}}], "must be an object with a url"),
    ],
)
def test_contents_that_are_refused(content: Any, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        read_chat(json.dumps(messages(content)).encode())


def test_a_picture_belongs_to_the_user() -> None:
    with pytest.raises(Refusal, match="pictures belong in messages of the role user"):
        read_chat(json.dumps(messages([IMAGE], role="system")).encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: Expecting value"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe\xfd", "the body is not JSON"),
        (b"[" * 200_000, "the body is not JSON: nested too deep"),
        (b'{"a":' * 200_000, "the body is not JSON: nested too deep"),
        (b'{"n": NaN}', "the body is not JSON: NaN is no JSON number"),
        (b'{"n": ' + b"9" * 9999 + b"}", "the body is not JSON: Exceeds the limit"),
        (b"[]", "the body is JSON, but not an object"),
        (b"null", "the body is JSON, but not an object"),
    ],
)
def test_bodies_that_are_no_requests(body: bytes, message: str) -> None:
    with pytest.raises(Refusal, match=message) as caught:
        read_chat(body)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,YWJj",
        "DATA:Image/PNG;base64,YWJj",
        "data:;base64,YWJj",
        "data:image/png;charset=utf-8;base64,YWJj",
        "data:application/octet-stream;base64,YWJj",
    ],
)
def test_urls_that_hold_a_picture(url: str) -> None:
    assert picture_bytes(url, param="p") == b"abc"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1/a.png", "http URLs are refused: this server fetches and opens nothing"),
        ("HTTPS://example.org/a.png", "https URLs are refused"),
        ("file:///etc/passwd", "file URLs are refused"),
        ("/etc/passwd", "no URLs are refused"),
        ("gopher://x", "this URLs are refused"),
        ("", "URLs are refused"),
        ("data:image/png,abc", "is not a base64 data: URL; send data:image/png;base64"),
        ("data:image/png;base64", "is not a base64 data: URL"),
        ("data:" + ";a=b" * 9999, "is not a base64 data: URL"),
        ("data:text/html;base64,YWJj", "a text/html is not a picture"),
        ("data:image/png;base64,YWJ", "the picture's base64 is broken"),
        ("data:image/png;base64,YW\nJj", "the picture's base64 is broken"),
        ("data:image/png;base64,YW=Jj", "the picture's base64 is broken"),
        ("data:image/png;base64,YW-_", "the picture's base64 is broken"),
        ("data:image/png;base64,\ud800é", "the picture's base64 is broken"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(Refusal, match=re.escape(message)) as caught:
        picture_bytes(url, param="p")
    assert caught.value.param == "p" and len(caught.value.message) < 250


@PATIENT
@given(st.binary(max_size=200))
def test_base64_brings_every_byte_back(data: bytes) -> None:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    assert picture_bytes(url, param="p") == data


def test_a_value_of_many_small_ones_is_cut_in_the_message() -> None:
    keys = {f"{index:060d}": None for index in range(4)}
    with pytest.raises(Refusal, match=r"model is .*\.\.\.; use str") as caught:
        read(model=[keys, keys, keys])
    assert len(caught.value.message) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
FIELDS = st.sampled_from([*chat(), "n", "seed", "stream", "stream_options", "top_p", "tools", "x"])


@PATIENT
@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_any_value_anywhere_is_read_or_refused(changes: dict[str, Any]) -> None:
    body = json.dumps({**chat(b"abc"), **changes}).encode()
    try:
        asked = read_chat(body)
    except Refusal as refusal:
        assert refusal.status == 400 and json.dumps(refusal.body())
        assert len(refusal.message) < 400
    else:
        assert asked.picture == b"abc"


@PATIENT
@given(JSON, JSON)
def test_any_message_is_read_or_refused(message: Any, part: Any) -> None:
    for made in ([message], [{"role": "user", "content": [part]}]):
        with pytest.raises(Refusal):
            read_chat(json.dumps({"model": "toy", "messages": made}).encode())


@PATIENT
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(Refusal):
        read_chat(body)


def test_half_a_request_is_refused() -> None:
    body = json.dumps(chat(picture(0))).encode()
    for length in range(0, len(body), 37):
        with pytest.raises(Refusal, match="the body is not JSON"):
            read_chat(body[:length])
