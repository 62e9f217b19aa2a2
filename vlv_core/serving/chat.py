"""Reading a chat completion request: what a captioner can honour is read, the rest is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import Repr
from typing import Any

from vlv_core.errors import nearest
from vlv_core.serving.data_url import picture_bytes
from vlv_core.serving.refusal import Refusal

# fmt: off
_READ = frozenset({
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed",
    "stream", "stream_options",
})
_WITHOUT_EFFECT = frozenset({
    "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls",
})
"""what changes no answer, here or elsewhere"""
# fmt: on
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stop": ([],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}
"""what a captioner cannot honour, and the values (beside null) that ask for nothing"""
_ROLES = ("developer", "system", "user", "assistant")
_short = Repr()
_short.maxstring = _short.maxother = 60
_SHOWN = 160
"""most characters of a caller's value in a message"""


@dataclass(frozen=True)
class ChatRequest:
    """What a request asks of a captioner. The text of its messages is not kept: no one reads it."""

    model: str
    picture: bytes
    """an encoded file"""
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int | None
    stream: bool
    include_usage: bool


def read_chat(body: bytes) -> ChatRequest:
    """The request that a body holds. Raises Refusal for what is malformed or cannot be honoured."""
    payload = _parse(body)
    _refuse_what_cannot_be(payload)
    stream = bool(_typed(payload, "stream", bool))
    temperature, top_p = _sampling(payload)
    model = _typed(payload, "model", str)
    if model is None:
        raise Refusal("'model' is missing; GET /v1/models lists it", param="model")
    return ChatRequest(
        model=model,
        picture=_picture(payload.get("messages")),
        max_tokens=_max_tokens(payload),
        temperature=temperature,
        top_p=top_p,
        seed=_typed(payload, "seed", int, low=0, high=2**64 - 1),
        stream=stream,
        include_usage=_include_usage(payload, stream),
    )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise Refusal(f"the body is not JSON: {reason[:100]}", code="invalid_json") from None
    if not isinstance(payload, dict):
        raise Refusal("the body is JSON, but not an object", code="invalid_json")
    return payload


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _refuse_what_cannot_be(payload: Mapping[str, Any]) -> None:
    for name, value in payload.items():
        if name in _READ or name in _WITHOUT_EFFECT or value is None:
            continue
        if name not in _NEUTRAL:
            raise Refusal(
                f"unrecognised parameter {_shown(name)}{nearest(name[:60], _READ)}",
                param=name[:60],
                code="unknown_parameter",
            )
        # type() too, because True == 1 in Python and not in JSON
        if not any(type(value) is type(same) and value == same for same in _NEUTRAL[name]):
            raise Refusal(
                f"{name}={_shown(value)} cannot be honoured by a captioner; leave {name} out",
                param=name,
                code="unsupported_parameter",
            )


def _typed(
    payload: Mapping[str, Any],
    name: str,
    kind: type | tuple[type, ...],
    *,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """The value of `name`, None where it is absent or null. Raises Refusal for another type."""
    value = payload.get(name)
    if value is None:
        return None
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if type(value) not in kinds:
        known = " or ".join(each.__name__ for each in kinds)
        raise Refusal(f"{name} is {_shown(value)}; use {known}", param=name)
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"{low}..{high}"
        raise Refusal(f"{name} is {_shown(value)}; use {bounds}", param=name)
    return value


def _sampling(payload: Mapping[str, Any]) -> tuple[float, float]:
    temperature = _typed(payload, "temperature", (int, float), low=0, high=2)
    top_p = _typed(payload, "top_p", (int, float), low=0, high=1)
    if top_p == 0:
        raise Refusal("top_p is 0, which leaves no token; use more", param="top_p")
    if temperature is None and top_p is not None and top_p < 1:
        raise Refusal(
            "top_p acts on sampling only, and without temperature the likeliest words are taken; "
            "set temperature above 0 too",
            param="top_p",
        )
    # of the likeliest token alone, every top_p keeps all
    return float(temperature or 0), float(top_p or 1) if temperature else 1.0


def _max_tokens(payload: Mapping[str, Any]) -> int | None:
    old = _typed(payload, "max_tokens", int, low=1)
    new = _typed(payload, "max_completion_tokens", int, low=1)
    if old and new and old != new:
        raise Refusal(
            "max_tokens and max_completion_tokens differ; give one of them", param="max_tokens"
        )
    return new or old


def _include_usage(payload: Mapping[str, Any], stream: bool) -> bool:
    given = _typed(payload, "stream_options", dict)
    if given is None:
        return False
    if not stream:
        raise Refusal("stream_options needs stream=true", param="stream_options")
    for name in given:
        if name not in ("include_usage", "include_obfuscation"):
            raise Refusal(f"unrecognised stream option {_shown(name)}", param="stream_options")
    return bool(_typed(given, "include_usage", bool))


def _picture(messages: Any) -> bytes:
    """The one picture of all messages."""
    if not isinstance(messages, list) or not messages:
        raise Refusal("messages must be a list of at least one message", param="messages")
    found = [
        pair for i, message in enumerate(messages) for pair in _urls(message, f"messages[{i}]")
    ]
    if len(found) != 1:
        raise Refusal(
            f"the messages hold {len(found)} pictures; this captioner reads exactly one a request, "
            "as a content part of type image_url",
            param="messages",
        )
    where, url = found[0]
    return picture_bytes(url, param=where)


def _urls(message: Any, where: str) -> list[tuple[str, str]]:
    """(place, URL) of each picture of a message."""
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise Refusal(f"{where} must be an object with a role of {', '.join(_ROLES)}", param=where)
    content = message.get("content")
    if isinstance(content, str) or (content is None and message["role"] == "assistant"):
        return []
    if not isinstance(content, list):
        raise Refusal(f"{where}.content must be text or a list of parts", param=f"{where}.content")
    places = [(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
    urls = [(place, _url(part, place)) for part, place in places]
    pictures = [(place, url) for place, url in urls if url is not None]
    if pictures and message["role"] != "user":
        raise Refusal("pictures belong in messages of the role user", param=pictures[0][0])
    return pictures


def _url(part: Any, where: str) -> str | None:
    """The URL of a part, None for one of text."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return None
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if isinstance(url, str):
            return url
        raise Refusal(f"{where}.image_url must be an object with a url", param=where)
    raise Refusal(f"{where} must be a part of type text or image_url", param=where)


def _shown(value: Any) -> str:
    """A caller's value in few words; one of many small ones is cut as well."""
    text = _short.repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
