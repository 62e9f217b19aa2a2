"""`vlv serve`: any captioner behind an OpenAI-style HTTP interface, on one machine.

A request is read and its picture prepared in a pool of threads (`chat`, `data_url`), waits in the
`batching` queue, and is decoded with its neighbours by the one thread that may use the captioner
(`engine`). `_app` and `_server` hold what needs the web libraries of the extra `serve`.
"""

from vlv_core.serving.options import ServeOptions

__all__ = ["ServeOptions"]
