"""`/api/ask`: an answer with citations, at once or as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from rag_app.answer import Degraded, Event, Found, Piece, Void
from rag_app.conversation import Question
from rag_app.model import Answer
from rag_app.web.receive import RequestBody, read_json, until_disconnect
from rag_app.web.refusal import refusal_for
from rag_app.web.respond import citation_json, event, json_response, passage_json
from rag_app.web.search import MAX_QUESTION_CHARACTERS
from rag_app.web.services import services
from rag_app.web.stream import AnswerStream, EventStream, start_answer, whole_answer


class AskBody(RequestBody):
    """What POST /api/ask takes."""

    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS)]
    language: Literal["en", "ko"] | None = None
    stream: bool = False


async def ask(request: Request) -> Response:
    """POST /api/ask. A client that leaves ends the work on its answer."""
    here = services(request)
    body = await read_json(request, AskBody)
    question = Question(body.question, body.language)
    if body.stream:
        events = await until_disconnect(request, start_answer(here, question))
        return EventStream(events, _as_server_sent(events))
    finished = await until_disconnect(request, whole_answer(here, question))
    return json_response(answer_json(finished.answer))


async def _as_server_sent(events: AnswerStream) -> AsyncGenerator[bytes, None]:
    try:
        async for happened in events:
            yield _encoded(happened)
    except Exception as error:  # The status is sent already; the stream must say it itself.
        yield event("error", {"error": refusal_for(error).as_json()})


def _encoded(happened: Event) -> bytes:
    if isinstance(happened, Piece):
        return event("token", {"text": happened.text})
    if isinstance(happened, Found):
        return event("passages", {"passages": [passage_json(p) for p in happened.passages]})
    if isinstance(happened, Void):
        return event("void", {"route": happened.route})
    if isinstance(happened, Degraded):
        return event("degraded", {"reason": happened.reason})
    return event("answer", answer_json(happened.answer))


def answer_json(answer: Answer) -> dict[str, object]:
    """The contract of `ask`."""
    return {
        "answer": answer.answer,
        "grounded": answer.grounded,
        "citations": [citation_json(citation) for citation in answer.citations],
        "engine": answer.engine,
        "release": answer.release,
        "language": answer.language,
        "degraded": answer.degraded,
        "route": answer.route,
        "timings": answer.timings,
    }
