"""Real questions over the real manual: the right page is found, and what is not there is known.

Every question is asserted by itself; an average would hide the one that was lost.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from async_helpers import run
from small_library import SIGNATURE, TUNING, Shelf, make_shelf

from rag_app.engines.extractive import ExtractiveEngine
from rag_app.model import Passage
from rag_app.routing import Limits, Model, Router
from rag_app.text.language import detect

PROJECT = Path(__file__).parents[5]
MANUAL = PROJECT / "docs" / "manual"
QUESTIONS = tomllib.loads(Path(__file__).with_name("questions.toml").read_text(encoding="utf-8"))[
    "question"
]
ANSWERABLE = {item["text"]: item["pages"] for item in QUESTIONS if item["pages"]}
UNANSWERABLE = [item["text"] for item in QUESTIONS if not item["pages"]]


@lru_cache(maxsize=1)
def shelf() -> Shelf:
    filled = make_shelf(Path(mkdtemp()))
    for page in sorted(MANUAL.rglob("*.md")):
        filled.put(str(page.relative_to(MANUAL)), page.read_text(encoding="utf-8"), markdown=True)
    filled.indexer.reconcile()
    return filled


@lru_cache(maxsize=200)
def passages(question: str) -> tuple[Passage, ...]:
    return tuple(run(shelf().searcher.search(question, TUNING.top_k)))


def evidence(question: str) -> float:
    return max((passage.evidence for passage in passages(question)), default=0.0)


@pytest.mark.parametrize("question", ANSWERABLE)
def test_an_answerable_question_has_evidence_and_its_page_among_the_first(question: str) -> None:
    assert evidence(question) >= TUNING.evidence_threshold
    found = [passage.document for passage in passages(question)[:4]]
    assert set(found) & set(ANSWERABLE[question]), found


@pytest.mark.parametrize("question", UNANSWERABLE)
def test_what_the_manual_does_not_hold_lacks_evidence(question: str) -> None:
    assert evidence(question) < TUNING.evidence_threshold


@pytest.mark.parametrize("question", ANSWERABLE)
def test_the_quotes_stand_in_the_page_and_in_the_language_of_the_question(question: str) -> None:
    language = detect(question)
    engine = ExtractiveEngine(TUNING.max_quotes, shelf().library.frequencies(SIGNATURE))
    extract = engine.extract(question, passages(question), language)
    assert 1 <= len(extract.citations) <= TUNING.max_quotes
    assert {citation.document for citation in extract.citations} & set(ANSWERABLE[question])
    for citation in extract.citations:
        text = shelf().library.text(citation.document_id)
        assert text is not None and text[citation.start : citation.end] == citation.quote
        assert citation.document.startswith("ko/") == (language == "ko")


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("How do I roll back a failed upgrade?", "aibox rollback"),
        ("실패한 업그레이드를 어떻게 되돌리나요?", "aibox rollback"),
        ("How can I free disk space?", "aibox gc"),
        ("디스크 공간을 확보하려면?", "aibox gc"),
        ("The power failed in the middle of an upgrade. What now?", "aibox recover"),
        ("How do I remove a document?", "aibox docs remove"),
    ],
)
def test_a_question_how_to_is_answered_with_the_command_first(question: str, told: str) -> None:
    engine = ExtractiveEngine(TUNING.max_quotes, shelf().library.frequencies(SIGNATURE))
    extract = engine.extract(question, passages(question), detect(question))
    assert told in extract.citations[0].quote


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_questions_of_the_gate_are_for_both_models(language: str) -> None:
    """With the locked values: a gate that asked one model alone would say nothing of the other."""
    router = locked_router()
    asked = [
        item["question"]
        for item in toml("stacks/rag/golden.toml")["golden"]
        if item["language"] == language and item.get("expect") != "no-evidence"
    ]
    routes = [router.route(question, 0, passages(question)).model for question in asked]
    assert min(routes.count(Model.SMALL), routes.count(Model.LARGE)) >= 2


def locked_router() -> Router:
    """The router of a profile with a small model."""
    tuning = toml("stacks/profiles/l40sx1.toml")["tuning"]
    names = ("max_characters", "max_turns", "max_documents", "min_evidence")
    values = {name: tuning[f"router_{name}"] for name in names}
    texts = [(PROJECT / f"stacks/prompts/large_words.{name}.txt") for name in ("en", "ko")]
    lines = [line for path in texts for line in path.read_text(encoding="utf-8").splitlines()]
    words = [line for line in lines if line and not line.startswith("#")]
    return Router(Limits(**values, evidence=tuning["evidence_threshold"]), words)


def toml(path: str) -> dict[str, Any]:
    return tomllib.loads((PROJECT / path).read_text(encoding="utf-8"))
