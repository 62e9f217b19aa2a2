"""The command `vlv-bench`."""

from vlv_benchmarks.cli._app import app, main

__all__ = ["app", "main"]
