"""The web application put together: routes, error shape, guards, measurement."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from rag_app.errors import RagError
from rag_app.web import ask, documents, health, openai_compatible, search
from rag_app.web.metrics import MeasureRequests
from rag_app.web.middleware import GuardOrigin, SecureHeaders
from rag_app.web.page import page_routes
from rag_app.web.refusal import Refusal, on_exception
from rag_app.web.services import Services
from rag_app.web.uploads import remove_unfinished

Close = Callable[[], Awaitable[None]]


def api_routes() -> list[Route]:
    """Every route of the API."""
    one = "/api/documents/{id}"
    return [
        Route("/api/ask", ask.ask, methods=["POST"]),
        Route("/api/search", search.search, methods=["POST"]),
        Route("/api/documents", documents.list_documents, methods=["GET"]),
        Route("/api/documents", documents.upload_documents, methods=["POST"]),
        Route(one, documents.get_document, methods=["GET"]),
        Route(one, documents.delete_document, methods=["DELETE"]),
        Route(f"{one}/text", documents.document_text, methods=["GET"]),
        Route(f"{one}/file", documents.document_file, methods=["GET"]),
        Route("/api/usage", health.usage, methods=["GET"]),
        Route("/v1/models", openai_compatible.list_models, methods=["GET"]),
        Route("/v1/models/{id}", openai_compatible.get_model, methods=["GET"]),
        Route("/v1/chat/completions", openai_compatible.chat_completions, methods=["POST"]),
        Route("/healthz", health.healthz, methods=["GET"]),
        Route("/readyz", health.readyz, methods=["GET"]),
        Route("/metrics", health.metrics, methods=["GET"]),
    ]


def build(services: Services, close: Close | None = None) -> ASGIApp:
    """The application over `services`; `close` is awaited when the server stops."""
    routes = [*api_routes(), *page_routes()]
    app = Starlette(
        routes=routes,
        lifespan=_lifespan(services, close),
        exception_handlers={
            Refusal: on_exception,
            RagError: on_exception,
            OSError: on_exception,
            HTTPException: on_exception,
            ClientDisconnect: _nobody_listens,
            Exception: on_exception,
        },
    )
    app.state.services = services
    names = {route.endpoint: route.path for route in routes}
    # Around Starlette and not inside it: its own answer to a bug needs the headers as well.
    server = services.config.server
    guarded = GuardOrigin(app, (*server.allowed_hosts, server.host))
    return MeasureRequests(SecureHeaders(guarded), services.metrics, names)


def _lifespan(
    services: Services, close: Close | None
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        services.uploads.mkdir(parents=True, exist_ok=True)
        await services.in_thread(remove_unfinished, services.uploads)
        yield
        if close:
            await close()
        services.threads.shutdown(cancel_futures=True)

    return lifespan


async def _nobody_listens(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)
