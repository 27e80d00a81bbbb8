"""The wire format of OpenAI's chat completions; pure.

Beyond the format: `citations` (structured, as in /api/ask) and `aibox` (grounded, engine,
degraded, route, release, language) at the top level of the response and of the last chunk. The text
itself carries the markers and ends with the list of sources, for clients that show only text.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import orjson

from rag_app.answer import Finished
from rag_app.conversation import Question
from rag_app.model import Answer
from rag_app.web.respond import citation_json

MODEL = "aibox"
DONE = b"data: [DONE]\n\n"
_BYTES_PER_TOKEN = 4
_SOURCES = {"en": "Sources", "ko": "출처"}
_VOID = {
    "en": "The text above is void. {reason} Quotes from the documents instead:",
    "ko": "위의 글은 무효입니다. ({reason}) 대신 문서의 인용문을 보여 드립니다:",
}
_AGAIN = {
    "en": "The text above is void; another model answers anew:",
    "ko": "위의 글은 무효입니다. 다른 모델이 새로 답합니다:",
}


class ImageDefuser:
    """Takes the effect from Markdown images, over the borders of pieces.

    A client that fetches `![](http://…)` on sight would carry words of a document out of the
    house; our own page draws no images, but other clients do.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The text that is safe to send now."""
        text = self._held + piece
        self._held = "!" if text.endswith("!") else ""
        return defuse_images(text[: len(text) - len(self._held)])

    def finish(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held


def defuse_images(text: str) -> str:
    """`text` in which no Markdown image begins; it reads the same once rendered."""
    return text.replace("![", "!\\[")


class Writer:
    """Writes one response. A chunk of text costs two concatenations and one small dump."""

    def __init__(self) -> None:
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._images = ImageDefuser()
        self._wrote = False
        head = orjson.dumps(self._head("chat.completion.chunk"))
        self._prefix = (
            b"data: " + head[:-1] + b',"choices":[{"index":0,"finish_reason":null,"delta":'
        )

    def opening(self) -> bytes:
        """The first chunk."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        """A chunk of text; empty when the text must wait for the next piece."""
        return self._content(self._images.feed(text))

    def void(self, reason: str, language: str) -> bytes:
        """Says that the text so far, which cannot be called back, is replaced by what follows.

        With a `reason` quotes follow, without one the answer of another model.
        """
        text = self._images.finish()
        if self._wrote or text:
            said = _VOID[language].format(reason=reason) if reason else _AGAIN[language]
            text += f"\n\n---\n\n{said}\n\n"
        return self._content(text)

    def ending(self, answer: Answer) -> bytes:
        """The sources as text, then the last chunk with what is structured."""
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        last = {**self._head("chat.completion.chunk"), "choices": [choice], **_extras(answer)}
        return self._content(self._images.finish() + sources_text(answer)) + _data(last)

    def usage(self, usage: dict[str, object]) -> bytes:
        """The chunk that clients ask for with `stream_options.include_usage`."""
        return _data({**self._head("chat.completion.chunk"), "choices": [], "usage": usage})

    def error(self, error: dict[str, object]) -> bytes:
        """An error in the middle of a stream."""
        return _data({"error": error})

    def completion(self, finished: Finished, question: Question) -> dict[str, object]:
        """The whole response of a request that does not stream."""
        answer = finished.answer
        text = defuse_images(answer.answer) + sources_text(answer)
        message = {"role": "assistant", "content": text}
        return {
            **self._head("chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage_json(finished, question),
            **_extras(answer),
        }

    def _content(self, text: str) -> bytes:
        if not text:
            return b""
        self._wrote = True
        return self._chunk({"content": text})

    def _chunk(self, delta: dict[str, str]) -> bytes:
        return self._prefix + orjson.dumps(delta) + b"}]}\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": MODEL}


def sources_text(answer: Answer) -> str:
    """The numbered sources after the answer, or nothing."""
    if not answer.citations:
        return ""
    lines = [
        f"[{number}] {citation.document}" + (f", {citation.locator}" if citation.locator else "")
        for number, citation in enumerate(answer.citations, start=1)
    ]
    return f"\n\n{_SOURCES[answer.language]}:\n" + defuse_images("\n".join(lines))


def usage_json(finished: Finished, question: Question) -> dict[str, object]:
    """Tokens as the engine counted them; without a count, a marked estimate from the bytes."""
    usage = finished.usage
    prompt = usage.prompt_tokens if usage else _estimate(question.text)
    completion = usage.completion_tokens if usage else _estimate(finished.answer.answer)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "estimated": usage is None,
    }


def _estimate(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def _extras(answer: Answer) -> dict[str, object]:
    about = {
        "grounded": answer.grounded,
        "engine": answer.engine,
        "degraded": answer.degraded,
        "route": answer.route,
        "release": answer.release,
        "language": answer.language,
    }
    citations = [citation_json(citation) for citation in answer.citations]
    return {"citations": citations, "aibox": about}


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
