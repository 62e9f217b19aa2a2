"""The routes of a server, as a Starlette application."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vlv_core.serving._call import json_response
from vlv_core.serving._completions import Completions
from vlv_core.serving._service import Service
from vlv_core.serving.refusal import Refusal

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def make_app(service: Service) -> Starlette:
    """The application of a service."""
    plain = _Plain(service)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", Completions(service), methods=["POST"]),
            Route("/v1/models", plain.models),
            Route("/v1/models/{model:path}", plain.model),
            Route("/health", plain.ready),
            Route("/health/live", plain.live),
            Route("/metrics", plain.metrics),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _no_route},
    )


class _Plain:
    """The endpoints that only tell something."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def models(self, request: Request) -> Response:
        self._check_key(request)
        return json_response({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._check_key(request)
        service, asked = self.service, request.path_params["model"]
        service.check_model(asked)
        return json_response(self._model())

    async def ready(self, request: Request) -> Response:
        """Whether new requests are taken, for whoever spreads them."""
        admission = self.service.admission
        status = "stopping" if admission.stopping else "ready"
        body = {"status": status, "model": self.service.name, "waiting": admission.waiting}
        return json_response(body, status=503 if admission.stopping else 200)

    async def live(self, request: Request) -> Response:
        """That the process answers, for whoever would restart it."""
        return json_response({"status": "live"})

    async def metrics(self, request: Request) -> Response:
        self._check_key(request)
        return Response(self.service.metrics.text(), media_type=_METRICS_TYPE)

    def _check_key(self, request: Request) -> None:
        self.service.admission.check_key(request.headers.get("authorization"))

    def _model(self) -> dict[str, Any]:
        service = self.service
        return {
            "id": service.name,
            "object": "model",
            "created": service.created,
            "owned_by": "vlv",
            "full_name": service.full_name,
            "domain": service.domain,
        }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return json_response(error.body(), status=error.status, headers=error.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:80]}: {error.detail}".lower()
    refused = Refusal(
        f"{message}; known: POST /v1/chat/completions, GET /v1/models, /health, /metrics",
        status=error.status_code,
        code="not_found",
    )
    headers = dict(error.headers or {})
    return json_response(refused.body(), status=refused.status, headers=headers)
