"""The command `vlv`."""

from vlv_core.cli._app import app, main

__all__ = ["app", "main"]
