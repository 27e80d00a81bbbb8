"""`/healthz`, `/readyz`, `/metrics`, `/api/usage`: alive, able to answer, and how it goes."""

from __future__ import annotations

from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from rag_app.config import Embedding, Engine, is_loopback
from rag_app.errors import VectorsUnavailable
from rag_app.web.respond import json_response
from rag_app.web.services import services


async def healthz(request: Request) -> Response:
    """GET /healthz: the process is alive; says nothing about whether it can answer.

    `engine_host` gets questions and the passages found, `embedding_host` questions and the text
    of all documents; each is empty where nothing leaves this box.
    """
    config = services(request).config
    engine = config.engine if config.engine.kind == "openai" else None
    return json_response(
        {
            "status": "ok",
            "release": config.release,
            "engine_host": _other_host(engine),
            "embedding_host": _other_host(config.embedding),
        }
    )


def _other_host(endpoint: Engine | Embedding | None) -> str:
    """The host of an endpoint; empty for this box, as far as the settings tell."""
    if endpoint is None or endpoint.in_box:
        return ""
    host = urlsplit(endpoint.url).hostname or ""
    return "" if is_loopback(host) else host


async def readyz(request: Request) -> Response:
    """GET /readyz: 200 only when a question can be answered from the release's own documents."""
    here = services(request)
    readiness = await here.searcher.ready(here.config.corpus_id)
    if readiness.ready:
        return json_response({"ready": True})
    body = {"ready": False, "reason": readiness.reason, "pending": readiness.pending}
    return json_response(body, 503)


async def metrics(request: Request) -> Response:
    """GET /metrics."""
    here = services(request)
    documents = await here.in_thread(here.library.documents)
    try:
        passages: int | None = await here.vectors.count()
    except VectorsUnavailable:
        passages = None
    admission = here.admission
    text = here.metrics.exposition(documents, passages, admission.running, admission.waiting)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def usage(request: Request) -> Response:
    """GET /api/usage: answers and tokens since the start, sums only; `aibox tco` reads it."""
    return json_response(services(request).metrics.usage())
