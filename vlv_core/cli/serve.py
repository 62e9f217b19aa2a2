"""`vlv serve`: a captioner behind an OpenAI-style HTTP interface."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlv_core.cli._opening import opening_options
from vlv_core.console import Session
from vlv_core.errors import UsageError

if TYPE_CHECKING:
    from vlv_core.serving import ServeOptions
    from vlv_core.serving._server import Running

KEY_VARIABLE = "VLV_API_KEY"

EXAMPLES = """\
\b
Examples:
  vlv serve                                   (the bundled model, this machine only)
  vlv serve --model out/ --dtype int8         (what vlv-export wrote)
  vlv serve --port 0                          (any free port; the first line says which)
  VLV_API_KEY=... vlv serve --host 0.0.0.0
  vlv serve --max-batch 64 --max-wait-ms 20   (more a second, each a little later)
"""


@click.command(name="serve", epilog=EXAMPLES)
@click.option("--model", default="mini", show_default=True, help="Bundled model, or a folder.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="0 takes any free one.")
@click.option("--max-batch", default=32, show_default=True, help="Pictures at once.")
@click.option("--max-wait-ms", default=5.0, show_default=True, help="Longest wait for a batch.")
@click.option("--max-queue", default=128, show_default=True, help="Waiting requests; more get 429.")
@click.option("--timeout-s", default=60.0, show_default=True, help="Of a request, in all.")
@click.option("--grace-s", default=20.0, show_default=True, help="To finish in when stopped.")
@click.option("--max-bytes", default=20_000_000, show_default=True, help="Of a request's body.")
@click.option("--max-pixels", default=50_000_000, show_default=True, help="Of a picture.")
@click.option("--decoders", default=4, show_default=True, help="Threads that prepare pictures.")
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help=f"File with the key that callers must send; or set {KEY_VARIABLE}.",
)
@opening_options
@click.pass_obj
def command(
    session: Session,
    *,
    model: str,
    host: str,
    port: int,
    max_batch: int,
    max_wait_ms: float,
    max_queue: int,
    timeout_s: float,
    grace_s: float,
    max_bytes: int,
    max_pixels: int,
    decoders: int,
    api_key_file: Path | None,
    device: str,
    dtype: str,
    threads: int | None,
) -> None:
    """Caption pictures over HTTP, as OpenAI's clients ask for it.

    POST /v1/chat/completions with one picture as a data: URL; GET /v1/models, /health, /metrics.
    Requests that come together share a batch. The text of a prompt is not read: a captioner
    describes the picture. Nothing is ever fetched. SIGTERM or Ctrl-C finishes what was begun.
    """
    from vlv_core.serving import ServeOptions

    options = ServeOptions(
        host=host,
        port=port,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        max_queue=max_queue,
        timeout_s=timeout_s,
        grace_s=grace_s,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        decoders=decoders,
        api_key=read_key(api_key_file),
    )
    from vlv_core.loading import load
    from vlv_core.serving._server import Host, serve
    from vlv_core.serving.listening import bind

    with bind(host, port) as listener:
        captioner = load(
            model, device=device, dtype=dtype, threads=threads, plugins=session.plugins()
        )

        def started(running: Running) -> None:
            _announce(running, domain=captioner.domain, options=options)

        # Python cannot leave a thread that hangs in foreign code, and a second signal should.
        serve(captioner, options, listener=listener, host=Host(started, abandon=os._exit))
    click.echo("stopped", err=True)


def read_key(file: Path | None) -> str | None:
    """The key of the file, or else of the environment; arguments would show it to everybody."""
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII"
        raise UsageError(f"cannot read the API key in {str(file)!r}: {reason}") from None


def _announce(running: Running, *, domain: str, options: ServeOptions) -> None:
    click.echo(f"serving {running.model} at {running.url}")
    key = "" if options.api_key is None else f' -H "Authorization: Bearer ${KEY_VARIABLE}"'
    click.echo(
        f"""what it has seen: {domain}
try it:
  curl -s {running.url}/v1/chat/completions -H 'Content-Type: application/json'{key} -d @- <<END
  {{"model": "{running.model}", "messages": [{{"role": "user", "content": [{{"type": "image_url",
   "image_url": {{"url": "data:image/png;base64,$(base64 < picture.png | tr -d '\\n')"}}}}]}}]}}
  END""",
        err=True,
    )
    if options.api_key is None and not running.url.startswith(("http://127.", "http://[::1]")):
        warning = f"whoever reaches this address may use it; {KEY_VARIABLE} sets a key"
        click.echo(f"warning: {warning}", err=True)
