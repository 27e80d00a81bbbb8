"""Reads a document without a jail, for tests of the readers themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_app.errors import DocumentRefused
from rag_app.model import ParsedDocument
from rag_app.parsing.dispatch import parse
from rag_app.parsing.limits import Limits


def read(path: Path, limits: Limits | None = None) -> ParsedDocument:
    """The parsed document; its segments are checked to follow each other over the whole text."""
    with path.open("rb") as file:
        parsed = parse(file, path.suffix, limits or Limits())
    ends = [segment.end for segment in parsed.segments]
    assert [segment.start for segment in parsed.segments] == [0, *ends[:-1]]
    assert ends[-1] == len(parsed.text)
    return parsed


def refusal(path: Path, limits: Limits | None = None) -> str:
    """The reference with which the document is refused."""
    with pytest.raises(DocumentRefused) as caught:
        read(path, limits)
    return caught.value.reference


def sections(parsed: ParsedDocument) -> dict[tuple[str, ...], str]:
    """The text of each heading path."""
    return {part.heading_path: parsed.text[part.start : part.end] for part in parsed.segments}
