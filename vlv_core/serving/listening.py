"""Taking an address before a model is loaded, so that a taken one is found at once."""

import socket

from vlv_core.errors import UsageError


def bind(host: str, port: int) -> socket.socket:
    """A socket at the address, on which nobody listens yet.

    Raises UsageError if there is no such address, or it is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"no address {host!r}: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="--port 0 takes any free port",
        ) from None
    return listener
