"""Reader and writer of the index that `rag.toml` names; only what is used is imported."""

from __future__ import annotations

from typing import Protocol

from rag_app.config import Config
from rag_app.interfaces import VectorReader, VectorWriter
from rag_app.vectors.signature import index_signature


class ClosableWriter(VectorWriter, Protocol):
    """A writer that is closed at the end."""

    def close(self) -> None:
        """Close the connections."""


class ClosableReader(VectorReader, Protocol):
    """A reader that is closed at the end."""

    async def close(self) -> None:
        """Close the connections."""


def open_writer(config: Config, start_patience_s: float) -> ClosableWriter:
    """A writer of the configured index; raises `ConfigError` for a key that cannot be used.

    `start_patience_s` is how long it waits for an index that is being opened.
    """
    signature = index_signature(config.tuning, config.embedding)
    if config.vectors.kind == "server":
        from rag_app.vectors.qdrant.clients import QdrantWriter

        return QdrantWriter(config.vectors, signature, _dimension(config))
    from rag_app.vectors.client import VectorWriterClient

    path = config.storage.vectors_socket
    return VectorWriterClient(path, signature, start_patience_s=start_patience_s)


def open_reader(config: Config) -> ClosableReader:
    """A reader of the configured index; raises `ConfigError` for a key that cannot be used."""
    signature = index_signature(config.tuning, config.embedding)
    if config.vectors.kind == "server":
        from rag_app.vectors.qdrant.clients import QdrantReader

        return QdrantReader(config.vectors, signature, _dimension(config))
    from rag_app.vectors.client import VectorReaderClient

    return VectorReaderClient(config.storage.vectors_socket, signature)


def _dimension(config: Config) -> int:
    return config.embedding.dimension if config.embedding else 0
