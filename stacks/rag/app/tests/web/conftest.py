"""The web application over doubles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from app_doubles import Box, LanguageModelDouble, make_box
from starlette.testclient import TestClient

from rag_app.web.app import build


@pytest.fixture
def model() -> LanguageModelDouble | None:
    """The language model; None is the extractive box. Test modules override this."""
    return None


@pytest.fixture
def box(tmp_path: Path, model: LanguageModelDouble | None) -> Box:
    """Services over doubles, with one document."""
    box = make_box(tmp_path, model=model, server={"max_upload_bytes": 1_000_000})
    box.library.hold("manual.md", "# Roll back\nType aibox rollback to roll back.\n")
    return box


@pytest.fixture
def client(box: Box) -> Iterator[TestClient]:
    """A client of the application, as a program would be: no Origin."""
    with TestClient(
        build(box.services), base_url="http://127.0.0.1:8642", raise_server_exceptions=False
    ) as client:
        yield client
