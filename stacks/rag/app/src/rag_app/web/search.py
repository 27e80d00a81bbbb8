"""`/api/search`: the passages alone, for programs and for "why this answer"."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from rag_app.web.receive import RequestBody, read_json
from rag_app.web.respond import json_response, passage_json
from rag_app.web.services import services

MAX_QUESTION_CHARACTERS = 4000


class SearchBody(RequestBody):
    """What POST /api/search takes."""

    query: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS)]
    limit: Annotated[int, Field(ge=1, le=50)] | None = None


async def search(request: Request) -> Response:
    """POST /api/search."""
    here = services(request)
    body = await read_json(request, SearchBody)
    started = time.perf_counter()
    ranked = await here.ranking.search(body.query, body.limit or here.config.tuning.top_k)
    took_ms = (time.perf_counter() - started) * 1000
    return json_response(
        {
            "results": [passage_json(passage) for passage in ranked.passages],
            "degraded": ranked.degraded,
            "took_ms": round(took_ms, 2),
        }
    )
