"""Makes the doubles in `support/` importable, and takes the address of a real Qdrant server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--qdrant-url`, with `--allow-hosts` where the server is on another host."""
    group = parser.getgroup("qdrant")
    group.addoption(
        "--qdrant-url",
        help="run what tests a Qdrant server against this real one instead of the double;"
        " its collections aibox-rag-* are removed",
    )
    group.addoption("--qdrant-api-key-file", help="the key of that server, in a file of mode 0600")
