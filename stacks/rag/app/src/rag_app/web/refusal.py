"""What the web process refuses, and every error as the one documented JSON shape.

`{"error": {"reference", "message", "hint", "fault"}}`; never a traceback.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rag_app.errors import DocumentRefused, EngineBusy, RagError, VectorsUnavailable
from rag_app.web.respond import json_response

Fault = Literal["you", "the host", "an upstream tool", "us"]

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that is answered with an error. `hint` says what to do or type next."""

    def __init__(
        self,
        status: int,
        reference: str,
        message: str,
        *,
        hint: str,
        fault: Fault = "you",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reference = reference
        self.message = message
        self.hint = hint
        self.fault = fault
        self.headers = dict(headers or {})

    def as_json(self) -> dict[str, object]:
        """The inside of `error`. In a stream there is no header left to say when to come back."""
        after = self.headers.get("retry-after")
        return {
            "reference": self.reference,
            "message": self.message,
            "hint": self.hint,
            "fault": self.fault,
            **({"retry_after_s": int(after)} if after else {}),
        }

    def as_openai(self) -> dict[str, object]:
        """The same in the shape that OpenAI clients understand, with our fields added."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {**self.as_json(), "type": kind, "code": self.reference, "param": None}


def busy(message: str, retry_after_s: int) -> Refusal:
    """The box has no place for one more answer just now; nothing is wrong with the question."""
    return Refusal(
        503,
        "busy",
        message,
        hint=f"Try again in {retry_after_s} seconds.",
        fault="the host",
        headers={"retry-after": str(retry_after_s)},
    )


def refusal_for(error: Exception) -> Refusal:
    """The refusal that fits any exception; the unknown ones are ours and say nothing more."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, VectorsUnavailable):
        return Refusal(
            503,
            "search-unavailable",
            "Search is not available at the moment, so the question cannot be answered.",
            hint="Wait some seconds and try again; if it stays so, type: aibox status",
            fault="the host",
            headers={"retry-after": "5"},
        )
    if isinstance(error, EngineBusy):
        return busy(str(error), error.retry_after_s)
    if isinstance(error, DocumentRefused):
        return Refusal(422, error.reference, str(error), hint="Type: aibox docs list")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal(
            507,
            "disk-full",
            "The disk of the box is full; nothing was stored.",
            hint="Remove documents or free space, then try again. To see the space type: df -h",
            fault="the host",
        )
    if isinstance(error, RagError):
        return Refusal(500, "failed", str(error), hint="Type: aibox doctor", fault="us")
    return _unexpected()


def _unexpected() -> Refusal:
    return Refusal(
        500,
        "internal",
        "Something unexpected went wrong; the log of the web process says what.",
        hint="Type: aibox support-bundle",
        fault="us",
    )


def respond(refusal: Refusal, *, openai: bool = False) -> Response:
    """The refusal as a response, in OpenAI's shape where the path is theirs."""
    body = refusal.as_openai() if openai else refusal.as_json()
    return json_response({"error": body}, refusal.status, headers=refusal.headers)


async def on_exception(request: Request, error: Exception) -> Response:
    """Starlette's handler for everything a route raises."""
    refusal = _for_routing(error) if isinstance(error, HTTPException) else refusal_for(error)
    if refusal.status >= 500:
        _log(request, refusal, error)
    return respond(refusal, openai=request.url.path.startswith("/v1/"))


def _log(request: Request, refusal: Refusal, error: Exception) -> None:
    """What the application says on purpose is one line; for everything else, where it happened."""
    said = f" ({error})" if isinstance(error, RagError) else ""
    where = None if said else error
    line = f"{request.method} {request.url.path}: {refusal.reference}{said}"
    log.warning("%s", line, exc_info=where)


def _for_routing(error: HTTPException) -> Refusal:
    if error.status_code == 405:
        message, hint = "This address does not take that method.", "See /api and /v1 in the manual."
    else:
        message, hint = "There is nothing at this address.", "The page is at /."
    reference = "method-not-allowed" if error.status_code == 405 else "not-found"
    return Refusal(
        error.status_code, reference, message, hint=hint, headers=dict(error.headers or {})
    )
