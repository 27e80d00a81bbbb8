"""Site values: what differs from place to place. Never part of a release, never a secret.

A secret is named by the path of a 0600 file. `inventory.example` shows every key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from aibox.schema import Model, invalid, read_toml

VERSION = 1
DEFAULT_PORT = 8642


class Server(Model):
    """Where the web page and the API listen. The `process` runtime serves loopback only."""

    host: Literal["127.0.0.1"] = "127.0.0.1"
    port: Annotated[int, Field(ge=1024, le=65535)] = DEFAULT_PORT


class Engine(Model):
    """Who writes answers: quotes (`extractive`), or any OpenAI-compatible endpoint (`openai`)."""

    kind: Literal["extractive", "openai"] = "extractive"
    url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    model: str = ""
    api_key_file: str = ""

    @model_validator(mode="after")
    def _openai_needs_url_and_model(self) -> Engine:
        if self.kind == "openai" and not (self.url and self.model):
            raise ValueError("an openai engine needs both url and model")
        if self.kind == "extractive" and (self.url or self.model or self.api_key_file):
            raise ValueError('url, model and api_key_file need kind = "openai"')
        return self


class EmbeddingEndpoint(Model):
    """Where the release's embedding model is served (OpenAI-compatible)."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]


class Site(Model):
    """One site file, or its defaults."""

    version: int = VERSION
    server: Server = Server()
    engine: Engine = Engine()
    embedding: EmbeddingEndpoint | None = None


def load(path: Path) -> Site:
    """Read a site file; raises `BadUsage` with the path of whatever is wrong in it."""
    return read_toml(
        path, Site, what="site", version=VERSION, command=f"./aibox plan --inventory {path}"
    )


def make_engine(url: str, model: str, api_key_file: str) -> Engine:
    """An `openai` engine from command-line values; raises `BadUsage` for a malformed one."""
    try:
        return Engine(kind="openai", url=url, model=model, api_key_file=api_key_file)
    except ValidationError as error:
        raise invalid(
            error,
            what="engine",
            source="--engine-url and --engine-model",
            command="./aibox install --engine-url http://127.0.0.1:11434/v1 --engine-model NAME",
        ) from error


def check_secret_file(path: Path) -> str:
    """Why `path` cannot hold a secret, or an empty string when it can (a 0600 file)."""
    if not path.is_file():
        return f"{path} is not a file"
    if path.stat().st_mode & 0o077:
        return f"{path} can be read by others; run: chmod 600 {path}"
    return ""
