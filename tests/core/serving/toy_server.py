"""A captioner of made-up languages, and servers of it that run in a thread of the test."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from queue import Queue
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.core.toy_language import EOS, HistoryStepper, random_language
from vlv_core.captioner import Captioner, Limits
from vlv_core.protocols import Encoded, TopK
from vlv_core.serving import ServeOptions
from vlv_core.serving._server import Host, Running, serve
from vlv_core.serving.listening import bind
from vlv_core.specs import View

ROOM = 24
"""tokens that the toy holds beside its prefix"""
PATIENCE_S = 20
"""more than anything here takes, on any machine"""
_BYTES = (b"", b"a", b" b", b" cat", b"\xc3", b"\xa9", b"\xf0\x9f\xa6", b"\x8a")


class Stepper(HistoryStepper):
    """Calls `pause` before each step."""

    pause: Callable[[], None]

    def step(self, tokens: NDArray[np.int64], k: int) -> TopK:
        self.pause()
        return super().step(tokens, k)


@dataclass
class ToyBackend:
    """What it says of a picture is a function of the picture's checksum; `trouble`, given the
    views of a batch, may raise or wait, and so may `pause`, before each step."""

    trouble: Callable[[NDArray[np.uint8]], None] = lambda view: None
    pause: Callable[[], None] = lambda: None
    batches: list[int] = field(default_factory=list)
    limits = Limits(max_length=ROOM + 1, max_queries=1, causal=True)
    eos = (EOS,)
    latent_shape = None

    def encode(self, view: NDArray[np.uint8]) -> Encoded:
        self.trouble(view)
        self.batches.append(len(view))
        prefix = np.array([crc32(row.tobytes()) for row in view], np.float64)[:, None, None]
        return Encoded(prefix, prefix, None, prefix)

    def start(self, prefix: NDArray[Any], capacity: int) -> Stepper:
        stepper = Stepper([int(row) for row in prefix[:, 0, 0]], random_language, capacity)
        stepper.pause = self.pause
        return stepper

    def words(self, tokens: Sequence[int]) -> str:
        return b"".join(_BYTES[token] for token in tokens).decode(errors="replace")


def toy(**backend: Any) -> Captioner:
    made: Any = ToyBackend(**backend)
    return Captioner(made, name="toy@123", domain="made-up words", view=View(size=8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(number: int) -> bytes:
    """An encoded picture of random pixels."""
    rng = np.random.default_rng(number)
    return encoded(Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)))


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def chat(data: bytes = b"", *, url: str | None = None, **fields: Any) -> dict[str, Any]:
    """A request about one picture."""
    part = {"type": "image_url", "image_url": {"url": url or data_url(data or picture(0))}}
    text = {"type": "text", "text": "what is this?"}
    messages = [{"role": "user", "content": [text, part]}]
    return {"model": "toy", "messages": messages, **fields}


@dataclass
class Answer:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        content = self.json["choices"][0]["message"]["content"]
        assert isinstance(content, str)
        return content

    @property
    def error(self) -> Any:
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def events(self) -> list[Any]:
        """A stream's events; the closing one must be there and is left out."""
        lines = [line for line in self.body.decode().split("\n\n") if line]
        assert all(line.startswith("data: ") for line in lines)
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line[6:]) for line in lines[:-1]]


@dataclass
class Server:
    """A running server and ways to talk to it."""

    captioner: Any
    running: Running
    ended: threading.Event
    codes: list[int]
    """with which the process would have been ended around a model that hangs"""

    @property
    def backend(self) -> ToyBackend:
        backend: ToyBackend = self.captioner.backend
        return backend

    def connect(self) -> http.client.HTTPConnection:
        address = urlsplit(self.running.url).netloc
        return http.client.HTTPConnection(address, timeout=PATIENCE_S)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            known = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, known, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, body: Any, **headers: str) -> Answer:
        """Ask for a completion; anything but bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        known = {"Content-Type": "application/json", **headers}
        return self.request("POST", "/v1/chat/completions", data, known)

    def later(self, body: Any) -> Queue[Answer]:
        """Ask in a thread; the queue gets the answer."""
        answers: Queue[Answer] = Queue()
        threading.Thread(target=lambda: answers.put(self.post(body)), daemon=True).start()
        return answers

    def metric(self, sample: str) -> float:
        """A sample's value by its name and labels as they are printed; 0 where there is none."""
        for line in self.get("/metrics").body.decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return 0


@contextmanager
def serving(captioner: Captioner | None = None, **options: Any) -> Iterator[Server]:
    """A server on a free port; stopped at the end, which must be in time."""
    made = ServeOptions(port=0, **{"grace_s": 5.0, "timeout_s": PATIENCE_S, **options})
    captioner = captioner or toy()
    started: Queue[Running] = Queue()
    ended, codes = threading.Event(), []

    def abandon(code: int) -> None:
        codes.append(code)
        ended.set()

    def run() -> None:
        with bind("127.0.0.1", 0) as listener:
            serve(captioner, made, listener=listener, host=Host(started.put, abandon))
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    running = started.get(timeout=PATIENCE_S)
    try:
        yield Server(captioner, running, ended, codes)
    finally:
        running.stop()
        assert ended.wait(PATIENCE_S)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    tick = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("it never happened")
