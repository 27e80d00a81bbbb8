"""`/api/documents`: list, upload, remove, read a passage in its document, fetch the original."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from rag_app.errors import VectorsUnavailable
from rag_app.interfaces import Library
from rag_app.model import Document, Origin
from rag_app.web.refusal import Refusal
from rag_app.web.respond import json_response
from rag_app.web.services import Services, services
from rag_app.web.uploads import MultipartToDisk, Upload, check_room, upload_too_large

log = logging.getLogger(__name__)

# Headers and boundaries of the form around the files.
FORM_OVERHEAD_BYTES = 64 * 1024
WRITE_BLOCK_BYTES = 512 * 1024
UPLOAD_SILENCE_S = 60.0
CONTEXT_CHARACTERS = 1500
MAX_CONTEXT_CHARACTERS = 50_000
MAX_SPAN_CHARACTERS = 100_000

# An uploaded page of HTML must not run as if it were ours, even when opened directly.
_FILE_HEADERS = {"content-security-policy": "default-src 'none'; sandbox"}


async def list_documents(request: Request) -> Response:
    """GET /api/documents."""
    here = services(request)
    documents = await here.in_thread(here.library.documents)
    limit = here.config.server.max_upload_bytes
    return json_response({"documents": documents, "max_upload_bytes": limit})


async def get_document(request: Request) -> Response:
    """GET /api/documents/{id}."""
    return json_response(await _document(request))


async def upload_documents(request: Request) -> Response:
    """POST /api/documents: 202, because reading and indexing happen in the ingest process."""
    here = services(request)
    receiver = await _start(request, here)
    try:
        await _receive(request, here, receiver)
        uploads = await here.in_thread(receiver.finish)
        documents = await here.in_thread(_register, here.library, uploads)
    except BaseException:
        await asyncio.shield(here.in_thread(receiver.discard))
        raise
    return json_response({"documents": documents}, 202)


async def _start(request: Request, here: Services) -> MultipartToDisk:
    """Refuse by the declared length, before anything is written."""
    limit = here.config.server.max_upload_bytes
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdecimal() else 0
    if size > limit + FORM_OVERHEAD_BYTES:
        raise upload_too_large(limit)
    await here.in_thread(check_room, here.uploads, size)
    return MultipartToDisk(request.headers.get("content-type", ""), here.uploads, limit)


async def _receive(request: Request, here: Services, receiver: MultipartToDisk) -> None:
    block = bytearray()
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(UPLOAD_SILENCE_S):
                block += await anext(stream)
        except StopAsyncIteration:
            break
        except TimeoutError as error:
            raise Refusal(
                408, "too-slow", "The upload came to a standstill.", hint="Send the file again."
            ) from error
        if len(block) >= WRITE_BLOCK_BYTES:
            await here.in_thread(receiver.feed, bytes(block))
            block.clear()
    await here.in_thread(receiver.feed, bytes(block))


def _register(library: Library, uploads: list[Upload]) -> list[Document]:
    return [
        library.add(upload.name, Origin.USER, upload.path, upload.sha256, upload.size)
        for upload in uploads
    ]


async def delete_document(request: Request) -> Response:
    """DELETE /api/documents/{id}: forgotten at once, also while the vectors cannot be reached."""
    here = services(request)
    document = await _document(request)
    if document.origin is Origin.RELEASE:
        raise Refusal(
            409,
            "release-document",
            f"{document.name} belongs to the release and cannot be removed alone.",
            hint="Upload a document of your own; to see both kinds type: aibox docs list",
        )
    await here.in_thread(here.library.remove, document.id)
    # The ingest process drops what the library has forgotten, so the points go in any case.
    with suppress(VectorsUnavailable):
        await here.vectors.delete(document.id)
    return Response(status_code=204)


async def document_text(request: Request) -> Response:
    """GET /api/documents/{id}/text?start=&end=&context=: a span with the text around it."""
    here = services(request)
    document = await _document(request)
    text = await here.in_thread(here.library.text, document.id)
    if text is None:
        raise Refusal(
            409,
            "not-read-yet",
            f"{document.name} has no text yet: {document.reason or document.state.value}.",
            hint="Wait until it is ready; type: aibox docs list",
        )
    start, end = _span(request, len(text))
    context = _number(request, "context", CONTEXT_CHARACTERS, MAX_CONTEXT_CHARACTERS)
    return json_response(
        {
            "document": document,
            "text": text[start:end],
            "start": start,
            "end": end,
            "before": text[max(0, start - context) : start],
            "after": text[end : end + context],
            "length": len(text),
        }
    )


async def document_file(request: Request) -> Response:
    """GET /api/documents/{id}/file: the original, always as a download."""
    here = services(request)
    document = await _document(request)
    source = await here.in_thread(here.library.source, document.id)
    if source is None or not await here.in_thread(source.is_file):
        raise _unknown(document.id)
    return FileResponse(
        source,
        media_type="application/octet-stream",
        filename=Path(document.name).name,
        headers=_FILE_HEADERS,
    )


async def _document(request: Request) -> Document:
    here = services(request)
    document_id: str = request.path_params["id"]
    document = await here.in_thread(here.library.get, document_id)
    if document is None:
        raise _unknown(document_id)
    return document


def _unknown(document_id: str) -> Refusal:
    return Refusal(
        404,
        "unknown-document",
        f"There is no document {document_id[:80]!r}.",
        hint="Type: aibox docs list",
    )


def _span(request: Request, length: int) -> tuple[int, int]:
    """The asked span, by default to the end; at most `MAX_SPAN_CHARACTERS`.

    Clipped to the text: a document may have become shorter since it was cited.
    """
    start = min(_number(request, "start", 0), length)
    end = min(_number(request, "end", length), length)
    return start, max(start, min(end, start + MAX_SPAN_CHARACTERS))


def _number(request: Request, name: str, default: int, limit: int = 2**53) -> int:
    value = request.query_params.get(name, str(default))
    if not value.isdecimal() or len(value) > 16:
        raise Refusal(
            422, "bad-request", f"{name}: must be a whole number from 0.", hint=f"Example: {name}=0"
        )
    return min(int(value), limit)
