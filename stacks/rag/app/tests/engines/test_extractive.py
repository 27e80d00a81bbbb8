"""Quotes that answer, word for word, in an order and a number that a reader can use."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rag_app.engines.extractive import ExtractiveEngine
from rag_app.interfaces import Extract
from rag_app.model import Passage

HOW = "How do I roll back a failed upgrade?"
ROLLBACK = (
    "Roll back a failed upgrade\n\n"
    "To roll back a failed upgrade, run aibox rollback. "
    "Nothing is copied by it. The weather has no influence on this."
)


def passage(
    text: str, *, start: int = 0, document: str = "a.md", score: float = 1.0, **more: object
) -> Passage:
    defaults = {"chunk_id": start, "document_id": f"id of {document}", "evidence": 1.0}
    return Passage(
        **(defaults | more),  # type: ignore[arg-type]
        document=document,
        text=text,
        start=start,
        end=start + len(text),
        score=score,
    )


def extract(question: str, *passages: Passage, language: str = "en", most: int = 3) -> Extract:
    def nothing_known(_terms: Sequence[int]) -> tuple[dict[int, int], int]:
        return {}, 100

    return ExtractiveEngine(most, nothing_known).extract(question, passages, language)


def quotes(found: Extract) -> list[str]:
    return [citation.quote for citation in found.citations]


def test_the_sentence_that_tells_the_command_is_quoted() -> None:
    found = extract(HOW, passage(ROLLBACK))
    assert quotes(found) == ["To roll back a failed upgrade, run aibox rollback."]
    assert found.answer == "To roll back a failed upgrade, run aibox rollback. [1]"


def test_who_asks_how_gets_the_sentence_that_tells_how_first() -> None:
    text = "A failed upgrade can be undone. A failed upgrade is undone if you run aibox undo now."
    told = "A failed upgrade is undone if you run aibox undo now."
    assert quotes(extract("How can a failed upgrade be undone?", passage(text), most=1)) == [told]
    assert quotes(extract("Is a failed upgrade undone?", passage(text), most=1)) != [told]


def test_a_span_counts_from_the_beginning_of_the_document() -> None:
    text = "x" * 100 + ROLLBACK
    (citation,) = extract(HOW, passage(ROLLBACK, start=100)).citations
    assert text[citation.start : citation.end] == citation.quote


def test_citations_are_numbered_in_the_order_of_the_text() -> None:
    gardens = "Roses need much water. Roses need sun as well. Roses bloom in June."
    found = extract("What do roses need?", passage(gardens))
    assert found.answer == "\n\n".join(
        f"{quote} [{number}]" for number, quote in enumerate(quotes(found), start=1)
    )
    assert quotes(found) == sorted(quotes(found), key=gardens.index)


def test_no_more_quotes_than_allowed() -> None:
    gardens = "Roses need water. Tulips need roses. Roses love old walls. Roses fear frost."
    assert len(extract("roses", passage(gardens), most=2).citations) == 2


def test_the_same_sentence_in_two_passages_is_quoted_once() -> None:
    repeated = passage(ROLLBACK), passage(ROLLBACK, document="copy.md")
    assert len(extract(HOW, *repeated).citations) == 1


def test_the_overlap_of_two_chunks_is_quoted_once() -> None:
    first, second = passage(ROLLBACK), passage(ROLLBACK[28:], start=28)
    assert len(extract(HOW, first, second).citations) == 1


def test_code_comes_with_the_line_that_introduces_it() -> None:
    text = "Roll back\n\nTo roll back, run this command:\n\n    aibox rollback"
    found = extract("How do I roll back?", passage(text))
    assert quotes(found)[0] == "To roll back, run this command:\n\n    aibox rollback"
    assert found.answer.endswith("    aibox rollback\n[1]")


def test_a_quote_in_the_language_of_the_question_is_preferred() -> None:
    english = passage("The backup folder lies on disk two.", document="en.md")
    korean = passage("백업 폴더(backup folder)는 둘째 디스크에 있습니다.", document="ko.md")
    ask = "backup folder 어디에 있나요?"
    assert extract(ask, english, korean, language="ko", most=1).citations[0].document == "ko.md"
    assert extract(ask, english, korean, language="en", most=1).citations[0].document == "en.md"


def test_an_announcement_is_not_an_answer() -> None:
    text = "This page explains how to roll back upgrades. Run aibox rollback to roll back upgrades."
    assert quotes(extract("How do I roll back upgrades?", passage(text), most=1)) == [
        "Run aibox rollback to roll back upgrades."
    ]


def test_the_rest_of_a_sentence_gives_way_to_a_whole_one() -> None:
    text = "after which roses need water. Roses need water in summer."
    assert quotes(extract("roses water", passage(text), most=1)) == ["Roses need water in summer."]


@pytest.mark.parametrize("question", ["What is the capital of France?", "How?", ""])
def test_nothing_is_quoted_without_evidence(question: str) -> None:
    assert extract(question, passage(ROLLBACK, evidence=0.0)) == Extract("", ())


def test_no_passages_no_quotes() -> None:
    assert extract(HOW) == Extract("", ())


def test_what_was_found_by_meaning_alone_is_quoted_from_its_best_passage() -> None:
    weak = passage("Something else entirely.", document="b.md", evidence=0.0)
    strong = passage("Roses like sun. They grow.", evidence=0.9, document="a.md")
    assert quotes(extract("flower warmth", weak, strong)) == ["Roses like sun."]


def test_the_same_question_gives_the_same_quotes() -> None:
    gardens = passage("Roses need water. Roses need sun. Roses need care.")
    assert len({extract("What do roses need?", gardens).answer for _ in range(5)}) == 1
