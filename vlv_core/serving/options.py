"""How to serve, checked once."""

from dataclasses import dataclass, field

from vlv_core.errors import UsageError

_AT_LEAST: dict[str, float] = {
    "port": 0,
    "max_batch": 1,
    "max_wait_ms": 0,
    "max_queue": 1,
    "timeout_s": 0.001,
    "grace_s": 0,
    "max_bytes": 1,
    "max_pixels": 1,
    "decoders": 1,
}


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Limits and addresses of a server. Raises UsageError where unusable."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes any free one"""
    max_batch: int = 32
    """pictures given to the model at once"""
    max_wait_ms: float = 5.0
    """longest wait of a request for others to share its batch"""
    max_queue: int = 128
    """requests being read or waiting; more are answered 429"""
    timeout_s: float = 60.0
    """of a request, from its headers to its last word"""
    grace_s: float = 20.0
    """time to finish what was begun when the server is told to stop"""
    max_bytes: int = 20_000_000
    """largest body of a request"""
    max_pixels: int = 50_000_000
    """largest width x height of a picture; decoding takes 3 bytes a pixel and thread"""
    decoders: int = 4
    """threads that read requests and prepare pictures"""
    api_key: str | None = field(default=None, repr=False)
    """what callers must send as `Authorization: Bearer KEY`; None lets everybody in"""

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            if not getattr(self, name) >= least:
                raise UsageError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        if self.port > 65535:
            raise UsageError(f"port is {self.port}; use 0..65535, where 0 is any free one")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.strip()):
            raise UsageError("the API key is empty or not ASCII, so no header can carry it")
