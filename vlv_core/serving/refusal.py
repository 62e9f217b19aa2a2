"""What a caller is told when it gets no caption, in the shape that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

INVALID = "invalid_request_error"


class Refusal(Exception):
    """An answer that is not a caption: HTTP status, and the fields of OpenAI's error object."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        outcome: str = "refused",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.type = message, status, type
        self.param, self.code = param, code
        self.outcome = outcome
        """the label under which metrics and log count it"""
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


def too_many(waiting: int, *, retry_after_s: int) -> Refusal:
    """The queue is full."""
    return Refusal(
        f"{waiting} requests wait already; try again in {retry_after_s} s",
        status=429,
        type="rate_limit_error",
        code="queue_full",
        outcome="queue_full",
        headers={"Retry-After": str(retry_after_s)},
    )


def stopping() -> Refusal:
    """The server was told to stop."""
    return Refusal(
        "the server is stopping and takes no new requests",
        status=503,
        type="server_error",
        code="stopping",
        outcome="stopping",
        headers={"Connection": "close", "Retry-After": "1"},
    )


def too_late(timeout_s: float, *, reading: bool = False) -> Refusal:
    """The request's time is over; `reading`: before its body had come."""
    return Refusal(
        f"the request did not {'arrive' if reading else 'finish'} within {timeout_s:g} s",
        status=408 if reading else 504,
        type=INVALID if reading else "server_error",
        code="timeout",
        outcome="timeout",
        headers={"Connection": "close"} if reading else None,
    )


def too_big(limit: int) -> Refusal:
    """More bytes than a body may have."""
    return Refusal(
        f"the body is larger than {limit} bytes; shrink the picture first",
        status=413,
        code="body_too_large",
        headers={"Connection": "close"},
    )


def unauthorised() -> Refusal:
    """No key, or another one."""
    return Refusal(
        "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'",
        status=401,
        code="invalid_api_key",
        outcome="unauthorised",
        headers={"WWW-Authenticate": "Bearer"},
    )


def broken(identity: str) -> Refusal:
    """A failure of ours. The log has its traceback, and only the log."""
    return Refusal(
        f"the server failed on this request; its log tells more under {identity}",
        status=500,
        type="server_error",
        code="internal_error",
        outcome="failed",
    )
