"""`rag.toml`, the one file that the installer renders for the application.

Paths are relative to the folder the process was started in (the box root), so that a moved
box still works. Unknown keys are refused with their path.
"""

from __future__ import annotations

import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rag_app.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether only programs on this host can reach `host`, as far as the name tells."""
    name = host.strip("[]").lower()
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _check_server_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError('kind = "server" needs url = "http://HOST:PORT" or https')
    if "@" in parts.netloc:
        raise ValueError("url must hold no password; use api_key_file")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("url ends with the port")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


ANY_HOST = "*"


class Server(_Section):
    """Where the web process listens, and which names it answers to (against DNS rebinding).

    It has no TLS and no accounts, so it listens on loopback, unless `behind_gateway` says that
    only the box's own gateway can reach it. Then the gateway may also be the one that knows the
    names: `allowed_hosts = ["*"]`. `Host` must arrive as the browser sent it; no other header of
    a gateway is read.

    Over `max_concurrent_answers` questions wait for their turn, at most `max_waiting_questions`
    of them and each at most `max_wait_s`; who is over that too is told when to come back. When the
    process is told to stop, answers in the works have `stop_grace_s` to end.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8642
    behind_gateway: bool = False
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    max_upload_bytes: int = 200 * 1024 * 1024
    max_concurrent_answers: Annotated[int, Field(ge=1, le=4096)] = 32
    max_waiting_questions: Annotated[int, Field(ge=0, le=4096)] = 64
    max_wait_s: Annotated[float, Field(ge=0, le=120)] = 15.0
    stop_grace_s: Annotated[int, Field(ge=1, le=600)] = 10

    @model_validator(mode="after")
    def _closed_without_gateway(self) -> Server:
        if self.behind_gateway:
            return self
        if not is_loopback(self.host):
            raise ValueError(f"host {self.host} is not this host alone; needs behind_gateway")
        if ANY_HOST in self.allowed_hosts:
            raise ValueError(f'allowed_hosts "{ANY_HOST}" needs behind_gateway')
        return self


class Storage(_Section):
    """Where things lie, below the box root."""

    data: Path = Path("data/rag")
    vectors_socket: Path = Path("run/vectors.sock")


class Vectors(_Section):
    """Where the search index is: in the `vectors` process, or in a Qdrant server (REST).

    `embedded` is reached by `storage.vectors_socket`. `server` needs `url`, without a path;
    `api_key_file` is as that of the engine; `ca_file` (PEM) is who signed the server's
    certificate, where the system does not know. `timeout_s` is the longest a search may take,
    repetitions included.
    """

    kind: Literal["embedded", "server"] = "embedded"
    url: str = ""
    api_key_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 5.0

    @model_validator(mode="after")
    def _of_one_kind(self) -> Vectors:
        if self.kind == "server":
            _check_server_url(self.url)
        elif self.url or self.api_key_file or self.ca_file:
            raise ValueError('url, api_key_file and ca_file need kind = "server"')
        return self


class Corpus(_Section):
    """Documents that came with the release (the operator's manual)."""

    path: Path | None = None
    digest: str = ""


class Tuning(_Section):
    """The locked values: sizes in characters, counts, weights without unit, thresholds in 0..1.

    Those of the router (`rag_app.routing`) are there where `[small]` is.
    """

    chunk_size: Annotated[int, Field(ge=100, le=8000)]
    chunk_overlap: Annotated[int, Field(ge=0, le=2000)]
    top_k: Annotated[int, Field(ge=1, le=50)]
    candidates: Annotated[int, Field(ge=1, le=500)]
    fusion_k: Annotated[int, Field(ge=1, le=1000)]
    weight_sparse: Annotated[float, Field(ge=0)]
    weight_dense: Annotated[float, Field(ge=0)]
    bm25_k1: Annotated[float, Field(ge=0)]
    bm25_b: Annotated[float, Field(ge=0, le=1)]
    evidence_threshold: Annotated[float, Field(ge=0, le=1)]
    max_quotes: Annotated[int, Field(ge=1, le=10)]
    languages: tuple[Literal["en", "ko"], ...] = ("en", "ko")
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_answer_tokens: Annotated[int, Field(ge=1)] = 800
    router_max_characters: Annotated[int, Field(ge=1, le=4000)] | None = None
    router_max_turns: Annotated[int, Field(ge=0, le=6)] | None = None
    router_max_documents: Annotated[int, Field(ge=1, le=50)] | None = None
    router_min_evidence: Annotated[float, Field(ge=0, le=1)] | None = None


class Prompts(_Section):
    """Files of the release with the prompt texts.

    `large_words` are those with the words that ask for more than a small model can do.
    """

    system: Path
    context: Path
    no_evidence_en: Path
    no_evidence_ko: Path
    large_words: tuple[Path, ...] = ()


class Engine(_Section):
    """Who writes the answer. `api_key_file` names a file; the key is never in this one.

    It has mode 0600, or is a secret that a container was given (`rag_app.key_file`). `ca_file` is
    as that of the vectors.

    `in_box` says that the endpoint is a part of this box: users are then not told that their
    questions leave it.
    """

    kind: Literal["extractive", "openai"] = "extractive"
    url: str = ""
    model: str = ""
    api_key_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = 60.0
    in_box: bool = False


class Embedding(_Section):
    """An OpenAI-compatible `/v1/embeddings` endpoint serving the release's embedding model.

    Cosine similarities count as evidence 0 at `similarity_floor` and 1 at `similarity_ceiling`;
    where these lie depends on the model. `in_box` and `api_key_file` as for the engine.
    """

    url: str
    model: str
    dimension: Annotated[int, Field(ge=1)]
    api_key_file: Path | None = None
    similarity_floor: Annotated[float, Field(ge=-1, le=1)] = 0.4
    similarity_ceiling: Annotated[float, Field(ge=-1, le=1)] = 0.8
    in_box: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Embedding:
        if self.similarity_floor >= self.similarity_ceiling:
            raise ValueError("similarity_floor must be below similarity_ceiling")
        return self


class Rerank(_Section):
    """A `/rerank` endpoint of this box (as vLLM and Jina have it) that puts passages in order.

    `url` ends before `/rerank`. `candidates` is how many passages it gets for one question, and
    `timeout_s` how long it may take before they stay in the order of the search. `api_key_file`
    as for the engine.
    """

    url: str
    model: str
    candidates: Annotated[int, Field(ge=2, le=200)]
    timeout_s: Annotated[float, Field(ge=0.1, le=30)] = 3.0
    api_key_file: Path | None = None


class Config(_Section):
    """Everything the application needs to know.

    `small` answers simple questions in the place of `engine`, a language model as well.
    """

    release: str
    server: Server = Server()
    storage: Storage = Storage()
    vectors: Vectors = Vectors()
    corpus: Corpus = Corpus()
    tuning: Tuning
    prompts: Prompts
    engine: Engine = Engine()
    small: Engine | None = None
    embedding: Embedding | None = None
    rerank: Rerank | None = None

    @model_validator(mode="after")
    def _small_has_what_it_needs(self) -> Config:
        if self.small is None:
            return self
        if "extractive" in {self.engine.kind, self.small.kind}:
            raise ValueError('small and engine: both need kind = "openai"')
        if not self.prompts.large_words:
            raise ValueError("small needs prompts.large_words")
        for name in (name for name in Tuning.model_fields if name.startswith("router_")):
            if getattr(self.tuning, name) is None:
                raise ValueError(f"small needs tuning.{name}")
        return self

    @property
    def corpus_id(self) -> str:
        """What names the release's documents: releases that share them share their index."""
        return self.corpus.digest or self.release


def load(path: Path) -> Config:
    """Read `rag.toml`; raises `ConfigError` naming the key for anything unknown or malformed."""
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}") from error
