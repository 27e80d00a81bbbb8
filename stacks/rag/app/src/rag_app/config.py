"""`rag.toml`, the one file that the installer renders for the application.

Paths are relative to the folder the process was started in (the box root), so that a moved
box still works. Unknown keys are refused with their path.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rag_app.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Section):
    """Where the web process listens, and which names it answers to (against DNS rebinding)."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8642
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    max_upload_bytes: int = 200 * 1024 * 1024
    max_concurrent_answers: int = 32


class Storage(_Section):
    """Where things lie, below the box root."""

    data: Path = Path("data/rag")
    vectors_socket: Path = Path("run/vectors.sock")


class Corpus(_Section):
    """Documents that came with the release (the operator's manual)."""

    path: Path | None = None
    digest: str = ""


class Tuning(_Section):
    """The locked values: sizes in characters, counts, weights without unit, thresholds in 0..1."""

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


class Prompts(_Section):
    """Files of the release with the prompt texts."""

    system: Path
    context: Path
    no_evidence_en: Path
    no_evidence_ko: Path


class Engine(_Section):
    """Who writes the answer. `api_key_file` names a 0600 file; the key is never in this file."""

    kind: Literal["extractive", "openai"] = "extractive"
    url: str = ""
    model: str = ""
    api_key_file: Path | None = None
    timeout_s: float = 60.0


class Embedding(_Section):
    """An OpenAI-compatible `/v1/embeddings` endpoint serving the release's embedding model.

    Cosine similarities count as evidence 0 at `similarity_floor` and 1 at `similarity_ceiling`;
    where these lie depends on the model.
    """

    url: str
    model: str
    dimension: Annotated[int, Field(ge=1)]
    similarity_floor: Annotated[float, Field(ge=-1, le=1)] = 0.4
    similarity_ceiling: Annotated[float, Field(ge=-1, le=1)] = 0.8

    @model_validator(mode="after")
    def _ordered(self) -> Embedding:
        if self.similarity_floor >= self.similarity_ceiling:
            raise ValueError("similarity_floor must be below similarity_ceiling")
        return self


class Config(_Section):
    """Everything the application needs to know."""

    release: str
    server: Server = Server()
    storage: Storage = Storage()
    corpus: Corpus = Corpus()
    tuning: Tuning
    prompts: Prompts
    engine: Engine = Engine()
    embedding: Embedding | None = None

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
