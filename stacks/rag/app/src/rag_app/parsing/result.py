"""What a jail says, as JSON, and how far the other side believes it: not at all.

The jailed process may have been taken over by the document it read. Its answer is data of a
stranger: it is never unpickled, and every field is checked before it is used.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from rag_app.errors import DocumentRefused
from rag_app.model import ParsedDocument
from rag_app.parsing.builder import LINE_CHARACTERS
from rag_app.parsing.hygiene import clean, one_line
from rag_app.parsing.limits import Limits
from rag_app.parsing.refusals import SENTENCES

_DEEPEST_HEADING = 6
_SENTENCE_CHARACTERS = 500


class MalformedResult(Exception):
    """The jail's answer is no answer: cut short, not JSON, or not consistent."""


class Result(BaseModel):
    """One of three: a parsed document, a refusal, or where the reader failed unexpectedly."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    parsed: ParsedDocument | None = None
    reference: str = ""
    sentence: str = ""
    failure: str = ""

    def encode(self) -> bytes:
        """The answer as it goes over the pipe."""
        return self.model_dump_json(exclude_defaults=True).encode()


def decode(data: bytes, limits: Limits) -> ParsedDocument:
    """The parsed document in `data`.

    Raises `DocumentRefused` for a refusal, `MalformedResult` for anything unexpected.
    """
    try:
        result = Result.model_validate_json(data)
    except ValidationError as error:
        raise MalformedResult(f"{error.error_count()} errors in the jail's answer") from None
    if result.reference in SENTENCES:
        raise DocumentRefused(result.reference, one_line(result.sentence)[:_SENTENCE_CHARACTERS])
    if result.parsed is None:
        raise MalformedResult(one_line(result.failure)[:_SENTENCE_CHARACTERS] or "empty answer")
    _check(result.parsed, limits)
    return result.parsed


def _check(parsed: ParsedDocument, limits: Limits) -> None:
    if not 0 < len(parsed.text) <= limits.characters or clean(parsed.text) != parsed.text:
        raise MalformedResult("the text is empty, too long or not clean")
    position = 0
    for segment in parsed.segments:
        if segment.start != position or segment.end <= position:
            raise MalformedResult("the segments do not follow each other")
        position = segment.end
        if len(segment.heading_path) > _DEEPEST_HEADING or not all(
            map(_short, segment.heading_path)
        ):
            raise MalformedResult("a heading path is too long")
    if position != len(parsed.text):
        raise MalformedResult("the segments do not cover the text")
    if not _short(parsed.title) or not 0 <= (parsed.pages or 0) <= limits.pages:
        raise MalformedResult("the title is too long or the number of pages is impossible")


def _short(line: str) -> bool:
    return len(line) <= LINE_CHARACTERS and one_line(line) == line
