"""The web process: the real parts put together, and served by uvicorn."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from rag_app import prompts
from rag_app.answer import Answerer, SmallModel
from rag_app.config import Config, Engine, Server
from rag_app.embedding import EmbeddingClient
from rag_app.ending import end_after
from rag_app.engines.extractive import ExtractiveEngine
from rag_app.engines.openai import BUSY_PATIENCE_S, OpenAIEngine
from rag_app.errors import ConfigError
from rag_app.library import SqliteLibrary
from rag_app.reranking import RerankClient
from rag_app.retrieval import HybridSearcher, Ranking
from rag_app.routing import Router, limits_of
from rag_app.vectors.connect import open_reader
from rag_app.vectors.signature import index_signature
from rag_app.web.admission import Admission
from rag_app.web.app import build
from rag_app.web.services import Services

# From the last moment that an answer has to the end, and from the end of all answers.
STOP_WITHIN_S = 2.0
EXIT_WITHIN_S = 1.0
BACKLOG = 512


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Raises `ConfigError`, also for an address that is taken."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # One line for each call of ours to another process would fill the log and tell nothing.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = compose(config)
    with listen(config.server.host, config.server.port) as listener:
        _PromptServer(
            config.server.stop_grace_s,
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                access_log=False,
                server_header=False,
                # Nothing here needs to know who stands before a gateway, so nobody can forge it.
                proxy_headers=False,
                log_config=None,
                timeout_graceful_shutdown=config.server.stop_grace_s,
            ),
        ).run([listener])


class _PromptServer(uvicorn.Server):
    """Ends in time: what a thread had not written by then, nobody was told was written."""

    def __init__(self, grace_s: float, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._grace_s = grace_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end_after(self._grace_s + STOP_WITHIN_S)
        await super().shutdown(sockets)
        end_after(EXIT_WITHIN_S)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises `ConfigError` with the reason."""
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        return socket.create_server((name, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"server: cannot listen on {host}:{port}: {reason}."
            f" To see who does type: ss -ltnp 'sport = :{port}'"
        ) from error


def compose(config: Config) -> ASGIApp:
    """The application over the library, the index and the engine that `config` names."""
    texts = prompts.load(config.prompts)
    model = _language_model(config.engine, config, texts)
    small = _small_model(config, texts)
    router = Router(limits_of(config.tuning), texts.large_words)
    signature = index_signature(config.tuning, config.embedding)
    library = SqliteLibrary(config.storage.data)
    vectors = open_reader(config)
    embedding = EmbeddingClient(config.embedding) if config.embedding else None
    searcher = HybridSearcher(library, vectors, signature, config.tuning, embedding)
    reranker = RerankClient(config.rerank) if config.rerank else None
    ranking = Ranking(searcher, reranker)
    services = Services(
        config=config,
        library=library,
        searcher=searcher,
        ranking=ranking,
        vectors=vectors,
        answerer=Answerer(
            ranking=ranking,
            extractor=ExtractiveEngine(config.tuning.max_quotes, library.frequencies(signature)),
            model=model,
            small=SmallModel(small, router) if small else None,
            prompts=texts,
            tuning=config.tuning,
            release=config.release,
        ),
        uploads=config.storage.data / "uploads",
        admission=admission(config.server),
    )
    opened = [part.close for part in (model, small, embedding, reranker, vectors) if part]
    return build(services, partial(_close, opened, library))


def admission(server: Server) -> Admission:
    """How many answers at once, and how many questions wait, as the settings say."""
    return Admission(server.max_concurrent_answers, server.max_waiting_questions, server.max_wait_s)


def _language_model(
    settings: Engine,
    config: Config,
    texts: prompts.PromptTexts,
    patience_s: float = BUSY_PATIENCE_S,
) -> OpenAIEngine | None:
    if settings.kind == "extractive":
        return None
    return OpenAIEngine(
        settings,
        config.tuning,
        texts,
        connections=config.server.max_concurrent_answers,
        patience_s=patience_s,
    )


def _small_model(config: Config, texts: prompts.PromptTexts) -> OpenAIEngine | None:
    """Nobody waits for a small model that is full: the large one answers."""
    if config.small is None:
        return None
    return _language_model(config.small, config, texts, patience_s=0.0)


async def _close(opened: Sequence[Callable[[], Awaitable[None]]], library: SqliteLibrary) -> None:
    for close in opened:
        await close()
    library.close()
