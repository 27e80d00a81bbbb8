"""Responses: JSON by orjson, server-sent events, and the JSON of passages and citations."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from rag_app.model import Citation, Passage


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`value` (also dataclasses and enums) as JSON; answers of this API are never cached."""
    return Response(
        orjson.dumps(value),
        status,
        headers={"cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def event(name: str, value: object) -> bytes:
    """One server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), orjson.dumps(value))


def passage_json(passage: Passage) -> dict[str, object]:
    """A search result as `/api/search` and the `passages` event show it."""
    return {
        "document": passage.document,
        "document_id": passage.document_id,
        "locator": passage.locator,
        "text": passage.text,
        "score": passage.score,
        "evidence": passage.evidence,
        "start": passage.start,
        "end": passage.end,
    }


def citation_json(citation: Citation) -> dict[str, object]:
    """A citation as `/api/ask` and `/v1/chat/completions` show it."""
    return {
        "document": citation.document,
        "document_id": citation.document_id,
        "locator": citation.locator,
        "quote": citation.quote,
        "score": citation.score,
        "start": citation.start,
        "end": citation.end,
    }
