"""The command `vlv-export`."""

from vlv_export.cli._app import app, main

__all__ = ["app", "main"]
