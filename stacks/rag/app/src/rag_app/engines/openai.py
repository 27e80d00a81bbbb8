"""A language model behind any OpenAI-compatible URL (vLLM, NIM, Ollama, LM Studio), streamed.

Every failure, before or in the middle of an answer, is an `EngineFailed` whose text is fit for
the reader of the answer: it names no key and no header.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson

from rag_app.authority import trusting
from rag_app.config import Engine, Tuning
from rag_app.conversation import Turn
from rag_app.errors import ConfigError, EngineBusy, EngineFailed
from rag_app.key_file import read_key
from rag_app.model import Passage
from rag_app.prompts import PromptTexts

CONNECT_TIMEOUT_S = 5.0
# A part of the box is connected at once or not at all; the name of one that is stopped is unknown,
# and asking for it would take all the time there is, for each question.
IN_BOX_CONNECT_TIMEOUT_S = 1.0
# A line of a stream holds one token, an error or the usage; a longer one is not this protocol.
MAX_LINE_BYTES = 1024 * 1024
# No tokenizer makes more characters of a token on average; beyond this the limit was ignored.
MAX_CHARACTERS_PER_TOKEN = 32
# The end of the response follows its last event at once; reading it keeps the connection usable.
DRAIN_TIMEOUT_S = 0.25
# For each kept one that is idle the pool looks at all connections, with every request.
KEPT_CONNECTIONS = 16
# An endpoint that is full is asked again within this time; then the question is given back.
BUSY_PATIENCE_S = 10.0
BUSY_RETRY_S = 1
MAX_BUSY_RETRY_S = 60
MAX_ERROR_BYTES = 4096
REFUSED_KEY = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
# How vLLM and NIM, llama-server, OpenAI and others say that a request is longer than their context.
TOO_LONG = ("context length", "context size", "context_length_exceeded")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class _Progress:
    """What has been learnt from the stream so far."""

    max_characters: int
    max_silence_s: float
    done: bool = False
    complete: bool = False
    usage: Usage | None = None
    pieces: list[str] = field(default_factory=list)
    thought: int = 0
    has_thought: bool = False
    has_answered: bool = False
    characters: int = 0
    heard: float = field(default_factory=time.monotonic)

    def take(self) -> str:
        """The text of the last batch; raises `EngineFailed` for endless silence or text.

        Silence is measured here as well, because keep-alive comments reset the socket's timeout.
        A model that thinks before it answers is not silent; the length holds for both together.
        """
        text = "".join(self.pieces)
        self.pieces.clear()
        now = time.monotonic()
        self.has_answered |= bool(text)
        self.has_thought |= bool(self.thought)
        if said := len(text) + self.thought:
            self.heard, self.thought = now, 0
            self.characters += said
        if self.characters > self.max_characters:
            raise EngineFailed("The language model did not stop at the agreed length.")
        if now - self.heard > self.max_silence_s:
            raise EngineFailed(_silent(self.max_silence_s))
        return text


class OpenAIEngine:
    """Streams chat completions. One shared client; `close` it at the end.

    `timeout_s` of the settings is the longest silence that is borne: before the first piece,
    and between two pieces. For `patience_s` an endpoint that is full is asked again.
    """

    def __init__(
        self,
        settings: Engine,
        tuning: Tuning,
        prompts: PromptTexts,
        *,
        connections: int,
        patience_s: float = BUSY_PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not settings.url or not settings.model:
            raise ConfigError("engine: kind `openai` needs `url` and `model`")
        self.name = settings.model
        self._url = f"{settings.url.rstrip('/')}/chat/completions"
        self._tuning = tuning
        self._prompts = prompts
        self._timeout_s = settings.timeout_s
        self._patience_s = patience_s
        self._key_file = settings.api_key_file
        self._client = httpx.AsyncClient(
            headers=_headers(settings.api_key_file),
            timeout=httpx.Timeout(settings.timeout_s, connect=_connect_timeout_s(settings)),
            limits=httpx.Limits(
                max_connections=connections,
                max_keepalive_connections=min(connections, KEPT_CONNECTIONS),
            ),
            verify=_authority(settings.ca_file),
            # No proxy and no key out of the environment: what rag.toml says is all that counts.
            trust_env=False,
            follow_redirects=False,
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def stream(
        self,
        question: str,
        passages: Sequence[Passage],
        language: str,
        history: Sequence[Turn] = (),
    ) -> AsyncGenerator[str | Usage, None]:
        """Yield the answer in pieces, then its `Usage` if the endpoint counts.

        What arrived together is yielded together. Closing the iterator ends the request.
        Raises `EngineBusy` before the first piece, when the endpoint is full for longer, and
        `EngineFailed`; an answer that breaks off is a failure even after many pieces.
        """
        del language  # The prompt asks for the language of the question.
        body = orjson.dumps(self._request(question, passages, history))
        progress = _Progress(
            max_characters=self._tuning.max_answer_tokens * MAX_CHARACTERS_PER_TOKEN,
            max_silence_s=self._timeout_s,
        )
        try:
            async with (
                self._taken(body) as response,
                aclosing(_texts(response, progress)) as texts,
            ):
                async for text in texts:
                    yield text
        except httpx.HTTPError as error:
            raise EngineFailed(self._sentence(error)) from error
        if not progress.complete:
            raise EngineFailed("The language model's answer broke off before its end.")
        if progress.has_thought and not progress.has_answered:
            raise EngineFailed("The language model thought for the whole length of an answer.")
        if progress.usage:
            yield progress.usage

    @asynccontextmanager
    async def _taken(self, body: bytes) -> AsyncGenerator[httpx.Response, None]:
        """The response of an endpoint that took it; raises `EngineBusy` and `EngineFailed`."""
        patience = time.monotonic() + self._patience_s
        while True:
            async with self._client.stream("POST", self._url, content=body) as response:
                after = await _busy_for(response)
                if response.status_code in REFUSED_KEY and self._has_other_key():
                    continue
                if not after:
                    if response.status_code != httpx.codes.OK:
                        raise EngineFailed(await self._refusal(response))
                    yield response
                    return
            if time.monotonic() + after > patience:
                raise EngineBusy("The language model takes no more questions just now.", after)
            await asyncio.sleep(after)

    def _request(
        self, question: str, passages: Sequence[Passage], history: Sequence[Turn]
    ) -> dict[str, object]:
        messages = [{"role": "system", "content": self._prompts.system}]
        messages += [{"role": turn.role, "content": turn.text} for turn in history]
        messages.append({"role": "user", "content": self._prompts.user_turn(question, passages)})
        return {
            "model": self.name,
            "messages": messages,
            "temperature": self._tuning.temperature,
            "max_tokens": self._tuning.max_answer_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _has_other_key(self) -> bool:
        """Whether the key file holds another key than the last one; that is sent from now on."""
        with suppress(ConfigError):
            headers = _headers(self._key_file)
            if headers.get("authorization") != self._client.headers.get("authorization"):
                self._client.headers.update(headers)
                return True
        return False

    async def _refusal(self, response: httpx.Response) -> str:
        """Why the endpoint did not take the request, for who reads the answer and who mends it."""
        status = response.status_code
        if status in REFUSED_KEY:
            return f"The language model does not take the key, or wants one (HTTP {status})."
        told = await _told_error(response)
        said = f"{told.get('code')} {told.get('message')}"
        if status == httpx.codes.NOT_FOUND:
            lacks = f"model {self.name}" if "model" in said.casefold() else "chat"
            return f"There is no {lacks} at the address of the language model (HTTP 404)."
        if any(sign in said for sign in TOO_LONG):
            return f"The passages are longer than the language model can read (HTTP {status})."
        return f"The language model refused with HTTP {status}."

    def _sentence(self, error: httpx.HTTPError) -> str:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return "The language model's certificate is vouched for by nobody who is trusted here."
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return "The language model cannot be reached."
        if isinstance(error, httpx.PoolTimeout):
            return "The language model is busy with other answers."
        if isinstance(error, httpx.TimeoutException):
            return _silent(self._timeout_s)
        return "The connection to the language model broke."


def _connect_timeout_s(settings: Engine) -> float:
    return IN_BOX_CONNECT_TIMEOUT_S if settings.in_box else CONNECT_TIMEOUT_S


def _authority(ca_file: Path | None) -> ssl.SSLContext | bool:
    return trusting(ca_file, "engine.ca_file") if ca_file else True


def _silent(seconds: float) -> str:
    return f"The language model was silent for {seconds:g} seconds."


def _headers(api_key_file: Path | None) -> dict[str, str]:
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if api_key_file:
        headers["authorization"] = f"Bearer {read_key(api_key_file, 'engine.api_key_file')}"
    return headers


async def _busy_for(response: httpx.Response) -> int:
    """For how many seconds an endpoint that is full asks to be left alone; 0 when it is not.

    A 503 alone says as well that nobody is there, or that a model is still being loaded: quotes
    are better then. vLLM's own refusal bears no header; llama-server calls loading by its type.
    Ollama gives no code, and has no other reason for a 503 than a full queue.
    """
    if response.status_code not in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        return 0
    header = response.headers.get("retry-after", "")
    if header.isascii() and header.isdecimal():
        return min(max(int(header), BUSY_RETRY_S), MAX_BUSY_RETRY_S)
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return BUSY_RETRY_S
    told = await _told_error(response)
    if told.get("code") == response.status_code:
        return BUSY_RETRY_S if told.get("type") != "unavailable_error" else 0
    is_ollama = told.get("type") == "api_error" and "busy" in str(told.get("message"))
    return BUSY_RETRY_S if is_ollama else 0


async def _told_error(response: httpx.Response) -> Mapping[str, object]:
    """The `error` of a short JSON body; empty for anything else, and when it was read before."""
    body = b""
    if response.is_stream_consumed:
        return {}
    async for part in response.aiter_raw():
        body += part
        if len(body) > MAX_ERROR_BYTES:
            return {}
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = told.get("error") if isinstance(told, dict) else None
    return error if isinstance(error, dict) else {}


async def _texts(response: httpx.Response, progress: _Progress) -> AsyncGenerator[str, None]:
    async with aclosing(_payloads(response)) as batches:
        async for batch in batches:
            _read(batch, progress)
            if text := progress.take():
                yield text
            if progress.done:
                await _drain(batches)
                return


async def _drain(batches: AsyncIterator[list[bytes]]) -> None:
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            async for _ in batches:
                pass


async def _payloads(response: httpx.Response) -> AsyncGenerator[list[bytes], None]:
    """The `data:` values of server-sent events, those that arrived together in one list."""
    rest = b""
    async for received in response.aiter_raw():
        *lines, rest = (rest + received).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise EngineFailed("The language model sent something that is not a stream of events.")
        yield [line[5:].strip() for line in lines if line.startswith(b"data:")]
    if rest.startswith(b"data:"):
        yield [rest[5:].strip()]


def _read(payloads: Sequence[bytes], progress: _Progress) -> None:
    for payload in payloads:
        if payload == b"[DONE]":
            progress.done = progress.complete = True
            continue
        try:
            _note(orjson.loads(payload), progress)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, IndexError) as error:
            raise EngineFailed("The language model sent a malformed event.") from error


def _note(event: Mapping[str, object], progress: _Progress) -> None:
    if event.get("error"):
        raise EngineFailed("The language model reported an error in the middle of its answer.")
    choices = event.get("choices")
    if isinstance(choices, list) and choices:
        delta = choices[0].get("delta") or {}
        if text := delta.get("content"):
            progress.pieces.append(str(text))
        # Before the answer, and no part of it: Ollama and vLLM, then llama-server and LM Studio.
        progress.thought += len(delta.get("reasoning") or delta.get("reasoning_content") or "")
        progress.complete = progress.complete or bool(choices[0].get("finish_reason"))
    usage = event.get("usage")
    if isinstance(usage, dict):
        progress.usage = Usage(
            int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        )
