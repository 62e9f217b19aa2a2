"""`POST /v1/chat/completions`: from the headers to the last word, whatever happens between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from secrets import token_hex
from time import perf_counter

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from vlv_core.serving import refusal
from vlv_core.serving._call import Call, Gone
from vlv_core.serving._service import Prepared, Service
from vlv_core.serving._stream import next_words, send_stream
from vlv_core.serving.answers import Answer
from vlv_core.serving.jobs import Finished, Job
from vlv_core.serving.refusal import Refusal


class Completions:
    """The endpoint, as an ASGI application, so that it can tell when a caller hangs up."""

    def __init__(self, service: Service) -> None:
        self.service = service
        # One random number a server and a count are as unique as one each, and cost no system call.
        self._server, self._numbers = token_hex(8), count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, finished = Call(f"chatcmpl-{self._server}{next(self._numbers):08x}"), None
        try:
            with self.service.admission.inside(call.events.put_nowait):
                finished = await self._serve(call, Request(scope, receive), send)
            call.outcome = "ok"
        except (Gone, ClientDisconnect):
            # 499 is how proxies log it; nobody is there to receive it
            call.outcome, call.status = "cancelled", call.status or 499
        except Exception as error:
            refused = call.refusal(error)
            call.outcome = refused.outcome
            if not call.status:
                await call.response(refused.body(), refused)(scope, receive, send)
        finally:
            self.service.metrics.on_end(call.outcome, stream=call.stream)
            call.log(finished)

    async def _serve(self, call: Call, request: Request, send: Send) -> Finished:
        """Answer a request. Raises Refusal, or whatever else goes wrong."""
        service = self.service
        service.admission.check_key(request.headers.get("authorization"))
        with service.admission.arriving():
            prepared = await self._prepare(call, request)
            call.stream = prepared.chat.stream
            call.job = job = service.job(prepared, call.events)
            service.batcher.submit(job)
        answer = Answer(call.identity, call.created, service.name, service.engine.prefix_length)
        with self._watched(call, job, request):
            if call.stream:
                usage = prepared.chat.include_usage
                finished = await send_stream(call, answer, send, include_usage=usage)
            else:
                finished = await _whole(call)
                response = call.response(answer.completion(finished))
                await response(request.scope, request.receive, send)
        service.metrics.on_finished(job, finished, arrived=call.arrived)
        return finished

    async def _prepare(self, call: Call, request: Request) -> Prepared:
        """The body, read and understood, within its limits."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # A page in a browser cannot send this type to another origin without being allowed to.
        if kind != "application/json":
            raise Refusal("the body must be sent as Content-Type: application/json", status=415)
        timeout_s = self.service.options.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                body = await _body(request, self.service.options.max_bytes)
                call.size = len(body)
                return await self.service.prepare(body)
        except TimeoutError:
            raise refusal.too_late(timeout_s, reading=True) from None

    @contextmanager
    def _watched(self, call: Call, job: Job, request: Request) -> Iterator[None]:
        """While the words come: the clock runs, and a caller that hangs up frees its place."""
        timeout_s = self.service.options.timeout_s
        left = call.arrived + timeout_s - perf_counter()
        late = refusal.too_late(timeout_s)
        clock = asyncio.get_running_loop().call_later(left, call.events.put_nowait, late)
        watch = asyncio.create_task(_hang_up(call, request))
        try:
            yield
        finally:
            clock.cancel()
            watch.cancel()
            self.service.batcher.cancel(job)


async def _whole(call: Call) -> Finished:
    while True:
        words = await next_words(call.events)
        if isinstance(words, Finished):
            return words


async def _hang_up(call: Call, request: Request) -> None:
    """Tell when the caller is gone; its body has been read, so that nothing else comes."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    call.events.put_nowait(Gone())


async def _body(request: Request, limit: int) -> bytes:
    """The body, read no further than the limit, whatever its headers promise."""
    promised = request.headers.get("content-length", "")
    if promised.isdecimal() and int(promised[:20]) > limit:
        raise refusal.too_big(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise refusal.too_big(limit)
        chunks.append(chunk)
    return b"".join(chunks)
