"""The load generator, against a server whose speed is known."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from vlv_benchmarks.load import FINE, GROWTH, Answer, Offered, arrivals, bodies, offer, sweep

SPEED_PER_S = 100.0
"""of the server below: it answers one request after another"""


@asynccontextmanager
async def server(status: int = 200) -> AsyncIterator[str]:
    turn = asyncio.Lock()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        asked = json.loads(await reader.readexactly(length))
        async with turn:
            await asyncio.sleep(1 / SPEED_PER_S)
        said = {"choices": [{"message": {"content": f"of {asked['model']}"}}]}
        writer.write(f"HTTP/1.1 {status} X\r\n\r\n{json.dumps(said)}".encode())
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    async with listening:
        yield f"http://{host}:{port}"


def offered(per_s: float, count: int, status: int = 200) -> Offered:
    async def go() -> Offered:
        async with server(status) as url:
            asked = [b'{"model": "a"}', b'{"model": "b"}']
            return await offer(url, asked, per_s=per_s, count=count, seed=1, timeout_s=20)

    return asyncio.run(go())


def test_arrivals_are_poisson() -> None:
    due = arrivals(20_000, per_s=50, seed=3)
    gaps = np.diff([0.0, *due])
    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.03)
    # an exponential's deviation is its mean, and its median ln 2 of it
    assert np.std(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert np.median(gaps) == pytest.approx(np.log(2) / 50, rel=0.03)
    assert due == arrivals(20_000, per_s=50, seed=3) != arrivals(20_000, per_s=50, seed=4)


def test_a_rate_below_the_servers_is_borne() -> None:
    found = offered(20, 20)
    assert found.borne(1000) and found.good(1000) == 20
    assert {each.text for each in found.answers} == {"of a", "of b"}
    assert all(each.ms >= 1e3 / SPEED_PER_S for each in found.answers)


def test_a_rate_above_it_is_not_and_goodput_stays_below_its_speed() -> None:
    found = offered(800, 80)
    assert not found.borne(200)
    assert found.goodput(60_000) < SPEED_PER_S
    # an open loop: the last requests waited for nearly all before them
    assert max(each.ms for each in found.answers) > 300


def swept(capacity: float, *, most: int = 20) -> list[Offered]:
    """The rates that a sweep tries on a server which bears up to a known one."""

    def level(rate: float) -> Offered:
        late = 10.0 if rate <= capacity else 900.0
        return Offered(rate, (Answer(0, 200, late),), 1.0)

    return sweep(level, first=4.0, limit_ms=500, most=most)


@pytest.mark.parametrize("capacity", [4.0, 7.0, 50.0, 64.0, 100.0, 1000.0])
def test_a_sweep_comes_near_the_servers_rate(capacity: float) -> None:
    found = swept(capacity)
    knee = max(each.per_s for each in found if each.borne(500))
    assert knee <= capacity < FINE * knee
    rates = [each.per_s for each in found]
    assert rates[:2] == [4.0, 4.0 * GROWTH] and len(set(rates)) == len(rates)


def test_a_sweep_ends() -> None:
    assert [each.per_s for each in swept(3.0)] == [4.0]
    assert [each.per_s for each in swept(1e9, most=4)] == [4.0, 16.0, 64.0, 256.0]


def test_every_request_is_counted_once() -> None:
    statuses = [200, 200, 429, 500, 0, 503]
    found = Offered(1.0, tuple(Answer(0, status, 10.0) for status in statuses), 1.0)
    assert found.counts() == {"sent": 6, "answered": 2, "refused": 1, "failed": 3}
    full = offered(100, 5, status=429).counts()
    assert full == {"sent": 5, "answered": 0, "refused": 5, "failed": 0}


def test_refusals_and_silence_are_no_goodput() -> None:
    refused = offered(100, 5, status=429)
    assert {each.status for each in refused.answers} == {429} and refused.good(1e6) == 0
    silent = asyncio.run(
        offer("http://127.0.0.1:9", [b"{}"], per_s=100, count=3, seed=0, timeout_s=2)
    )
    assert [each.status for each in silent.answers] == [0, 0, 0] and not silent.borne(1e6)


def test_one_request_in_a_hundred_may_be_late() -> None:
    answers = [Answer(0, 200, 10.0)] * 99 + [Answer(0, 200, 900.0)]
    assert Offered(1.0, tuple(answers), 10.0).borne(500)
    assert not Offered(1.0, (*answers[1:], answers[-1]), 10.0).borne(500)
    assert Offered(1.0, tuple(answers), 10.0).goodput(500) == pytest.approx(9.9)


def test_a_request_is_as_openais_clients_send_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    (body,) = bodies("mini", [tmp_path / "a.png"])
    (message,) = json.loads(body)["messages"]
    assert message["role"] == "user"
    assert message["content"][0]["image_url"]["url"] == "data:image/png;base64,cG5n"
