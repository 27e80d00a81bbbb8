"""`/v1/models` and `/v1/chat/completions`, so that any OpenAI client can ask the box.

Several turns: the last user message is the question, the earlier turns are its context.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from rag_app.answer import Degraded, Finished, Piece, Void
from rag_app.conversation import Question, Turn, recent
from rag_app.text.language import detect
from rag_app.web.openai_format import DONE, MODEL, Writer, usage_json
from rag_app.web.receive import RequestBody, read_json, until_disconnect
from rag_app.web.refusal import Refusal, refusal_for
from rag_app.web.respond import json_response
from rag_app.web.search import MAX_QUESTION_CHARACTERS
from rag_app.web.services import Services, services
from rag_app.web.stream import AnswerStream, EventStream, start_answer, whole_answer


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: str
    text: str = ""


class _Message(BaseModel):
    # Clients send names, tool calls and more; what is not understood is not needed.
    model_config = ConfigDict(extra="ignore")
    role: str
    content: str | list[_Part] | None = None

    def text(self) -> str:
        """The text of the message; refuses images and other media."""
        if not isinstance(self.content, list):
            return self.content or ""
        if any(part.type != "text" for part in self.content):
            raise Refusal(
                400, "text-only", "This model reads text only.", hint="Send parts of type `text`."
            )
        return "\n".join(part.text for part in self.content)


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatBody(RequestBody):
    """The part of the request that matters; sampling values are the release's, not the caller's."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    model: str = MODEL
    messages: Annotated[list[_Message], Field(min_length=1, max_length=1000)]
    stream: bool = False
    stream_options: _StreamOptions | None = None
    n: Literal[1] | None = None


async def list_models(request: Request) -> Response:
    """GET /v1/models: one model; `aibox.engine` names what stands behind it."""
    here = services(request)
    return json_response({"object": "list", "data": [_model(here)]})


async def get_model(request: Request) -> Response:
    """GET /v1/models/{id}."""
    _check_model(request.path_params["id"])
    return json_response(_model(services(request)))


def _model(here: Services) -> dict[str, object]:
    about = {"engine": here.answerer.engine, "release": here.config.release}
    return {"id": MODEL, "object": "model", "created": 0, "owned_by": MODEL, "aibox": about}


def _check_model(model: str) -> None:
    if model != MODEL:
        raise Refusal(
            404,
            "model_not_found",
            f"The model {model[:80]!r} does not exist; this box has one model, {MODEL!r}.",
            hint=f'Set "model": "{MODEL}".',
        )


async def chat_completions(request: Request) -> Response:
    """POST /v1/chat/completions."""
    here = services(request)
    body = await read_json(request, ChatBody)
    _check_model(body.model)
    question = conversation(body.messages)
    writer = Writer()
    if body.stream:
        beginning = start_answer(here, question, passages=False)
        events = await until_disconnect(request, beginning)
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(events, _chunks(events, writer, question, with_usage))
    finished = await until_disconnect(request, whole_answer(here, question))
    return json_response(writer.completion(finished, question))


def conversation(messages: Sequence[_Message]) -> Question:
    """The last user message is the question; earlier turns are its context.

    System and tool messages are left out: the system text is the release's, tested and locked.
    """
    turns = [
        Turn("user" if message.role == "user" else "assistant", message.text())
        for message in messages
        if message.role in {"user", "assistant"}
    ]
    if not turns or turns[-1].role != "user" or not turns[-1].text.strip():
        raise Refusal(
            400,
            "no-question",
            "The last message must be a user message with the question.",
            hint='Example: {"messages": [{"role": "user", "content": "..."}]}',
        )
    text = turns[-1].text
    if len(text) > MAX_QUESTION_CHARACTERS:
        raise Refusal(
            400,
            "question-too-long",
            f"A question may have {MAX_QUESTION_CHARACTERS} characters.",
            hint="Put long material into a document and upload it.",
        )
    return Question(text, history=recent([turn for turn in turns[:-1] if turn.text]))


async def _chunks(
    events: AnswerStream, writer: Writer, question: Question, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    yield writer.opening()
    try:
        async for happened in events:
            if isinstance(happened, Piece):
                yield writer.piece(happened.text)
            elif isinstance(happened, Degraded):
                yield writer.void(happened.reason, detect(question.text))
            elif isinstance(happened, Void):
                yield writer.void("", detect(question.text))
            elif isinstance(happened, Finished):
                yield writer.ending(happened.answer)
                if with_usage:
                    yield writer.usage(usage_json(happened, question))
    except Exception as error:  # The status is sent already; the stream must say it itself.
        yield writer.error(refusal_for(error).as_openai())
    else:
        yield DONE
