"""Options and sockets, checked before a model is loaded."""

import socket
from typing import Any

import pytest

from vlv_core.errors import UsageError
from vlv_core.serving import ServeOptions
from vlv_core.serving.listening import bind


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch": 0}, "max_batch is 0, but must be at least 1"),
        ({"max_wait_ms": -1.0}, "max_wait_ms is -1.0, but must be at least 0"),
        ({"max_queue": 0}, "max_queue is 0"),
        ({"timeout_s": 0.0}, "timeout_s is 0.0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"grace_s": -1.0}, "grace_s is -1.0"),
        ({"max_bytes": 0}, "max_bytes is 0"),
        ({"max_pixels": 0}, "max_pixels is 0"),
        ({"decoders": 0}, "decoders is 0"),
        ({"port": -1}, "port is -1"),
        ({"port": 65536}, r"port is 65536; use 0\.\.65535"),
        ({"api_key": " "}, "the API key is empty or not ASCII"),
        ({"api_key": "schlüssel"}, "the API key is empty or not ASCII"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ServeOptions(**options)


def test_the_defaults_are_for_this_machine_alone() -> None:
    assert ServeOptions().host == "127.0.0.1" and ServeOptions().api_key is None


def test_a_taken_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1 port {port}") as caught:
            bind("127.0.0.1", port)
    assert caught.value.hint == "--port 0 takes any free port"


def test_no_such_address_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no address 'no host\.invalid'"):
        bind("no host.invalid", 0)
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1 port 0"):
        bind("192.0.2.1", 0)
