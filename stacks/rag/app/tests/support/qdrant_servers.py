"""A Qdrant server for a test: the double, or the real one that `--qdrant-url` names."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loopback import serving

from qdrant_double import QdrantDouble
from rag_app.config import Vectors
from rag_app.vectors.qdrant import wire
from rag_app.vectors.qdrant.transport import SyncTransport

KEY = "canary-0123456789abcdef"


def key_file(folder: Path, key: str = KEY) -> Path:
    """The key as a file that only its owner may read."""
    path = folder / "qdrant.key"
    path.write_text(key, encoding="ascii")
    path.chmod(0o600)
    return path


def new_signature() -> str:
    """A signature that no other test uses."""
    return uuid.uuid4().hex[:16]


@contextmanager
def qdrant(options: pytest.Config, folder: Path) -> Iterator[Vectors]:
    """The settings of a server without any collection of ours."""
    if url := options.getoption("--qdrant-url"):
        key = options.getoption("--qdrant-api-key-file")
        settings = Vectors(kind="server", url=url, api_key_file=key and Path(key))
        _remove_collections(settings)
        yield settings
        _remove_collections(settings)
        return
    double = QdrantDouble(folder / "storage", KEY)
    with serving(double.application()) as url:
        yield Vectors(kind="server", url=url, api_key_file=key_file(folder))
    double.close()


def _remove_collections(settings: Vectors) -> None:
    transport = SyncTransport(settings, 5.0, 30.0)
    for name in wire.own_collections(transport.ask(wire.COLLECTIONS)):
        transport.ask(wire.drop(name))
    transport.close()
