"""A caption as server-sent events, in OpenAI's chunks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Send

from vlv_core.serving._call import Call, Gone
from vlv_core.serving.answers import Answer
from vlv_core.serving.jobs import Event, Finished, Piece


async def next_words(events: asyncio.Queue[Event]) -> Piece | Finished:
    """The next piece or the end. Raises what else happened."""
    event = await events.get()
    if isinstance(event, Exception):
        raise event
    return event


async def send_stream(call: Call, answer: Answer, send: Send, *, include_usage: bool) -> Finished:
    """Send words as they come, until the end.

    Before the first word nothing is sent, so that errors up to then have a status of their own; a
    later one is sent as an event, as OpenAI does, and raised as a Refusal.
    """
    words = await next_words(call.events)
    await _start(call, send)
    role = answer.chunk({"role": "assistant", "content": ""}, include_usage=include_usage)
    ahead = _event(role)
    try:
        while isinstance(words, Piece):
            chunk = answer.chunk({"content": words.text}, include_usage=include_usage)
            await _send(send, ahead + _event(chunk))
            ahead, words = b"", await next_words(call.events)
    except Gone:
        raise
    except Exception as error:
        refused = call.refusal(error)
        await _send(send, ahead + _event(refused.body()), more=False)
        raise refused from error
    ahead += _event(answer.last_chunk(words, include_usage=include_usage))
    if include_usage:
        ahead += _event(answer.usage_chunk(words))
    await _send(send, ahead + b"data: [DONE]\n\n", more=False)
    return words


async def _start(call: Call, send: Send) -> None:
    call.status = 200
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        # else some proxies keep the words until the stream ends
        "x-accel-buffering": "no",
        "x-request-id": call.identity,
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": encoded})


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()
