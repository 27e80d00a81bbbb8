"""`/healthz`, `/readyz` and `/metrics`: alive, able to answer, and how it goes."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from rag_app.errors import VectorsUnavailable
from rag_app.web.respond import json_response
from rag_app.web.services import services


async def healthz(request: Request) -> Response:
    """GET /healthz: the process is alive; says nothing about whether it can answer.

    `engine_host` gets questions and the passages found, `embedding_host` questions and the text
    of all documents; each is empty where nothing leaves this host.
    """
    config = services(request).config
    engine = config.engine.url if config.engine.kind == "openai" else ""
    embedding = config.embedding.url if config.embedding else ""
    return json_response(
        {
            "status": "ok",
            "release": config.release,
            "engine_host": _other_host(engine),
            "embedding_host": _other_host(embedding),
        }
    )


def _other_host(url: str) -> str:
    """The host of `url`; empty for this host, as far as the address tells."""
    host = urlsplit(url).hostname or ""
    try:
        here = ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost" or host.endswith(".localhost")
    return "" if here else host


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
    text = here.metrics.exposition(documents, passages, here.admission.running)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
