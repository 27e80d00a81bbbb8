"""The order that a reranking model gives what a search found."""

from __future__ import annotations

from app_doubles import LibraryDouble, RerankerDouble, SearcherDouble, make_passage
from async_helpers import run

from rag_app.model import Passage
from rag_app.retrieval.ranking import Ranked, Ranking


def ranked(found: list[Passage], reranker: RerankerDouble, limit: int = 2) -> Ranked:
    searcher = SearcherDouble(LibraryDouble())
    searcher.found = found
    return run(Ranking(searcher, reranker).search("How do I roll back?", limit))


def ids(found: Ranked) -> list[int]:
    return [passage.chunk_id for passage in found.passages]


LONGER_AND_LONGER = [make_passage(number, "x" * 10 * number) for number in (1, 2, 3, 4)]


def test_more_passages_are_looked_at_than_are_given() -> None:
    reranker = RerankerDouble(candidates=3)
    assert ids(ranked(LONGER_AND_LONGER, reranker)) == [3, 2]
    ((question, texts),) = reranker.asked
    assert (question, len(texts)) == ("How do I roll back?", 3)


def test_the_score_is_the_rerankers_and_the_evidence_stays() -> None:
    found = ranked(LONGER_AND_LONGER, RerankerDouble()).passages
    assert [passage.score for passage in found] == [1.0, 20 / 30]
    assert {passage.evidence for passage in found} == {0.9}


def test_headings_are_read_as_well() -> None:
    reranker = RerankerDouble()
    ranked([make_passage(1, "a", heading_path=("Operate", "Roll back")), make_passage(2)], reranker)
    ((_, texts),) = reranker.asked
    assert texts[0] == "Operate\nRoll back\na"


def test_the_readers_language_comes_before_a_slightly_better_passage() -> None:
    english = make_passage(1, "x" * 80, language="en")
    korean = make_passage(2, "x" * 100, language="ko")
    assert ids(ranked([korean, english], RerankerDouble())) == [1, 2]
    much_better = make_passage(2, "x" * 200, language="ko")
    assert ids(ranked([english, much_better], RerankerDouble())) == [2, 1]


def test_equally_good_passages_keep_the_order_of_the_search() -> None:
    found = [make_passage(number, "same") for number in (2, 1, 3)]
    assert ids(ranked(found, RerankerDouble(), limit=3)) == [2, 1, 3]


def test_a_reranker_that_fails_leaves_the_order_of_the_search() -> None:
    found = ranked(LONGER_AND_LONGER, RerankerDouble("It is gone."))
    assert ids(found) == [1, 2]
    assert found.degraded == "It is gone. Passages are in the order of the search."


def test_a_single_passage_needs_no_order() -> None:
    reranker = RerankerDouble("never asked")
    assert ids(ranked(LONGER_AND_LONGER[:1], reranker)) == [1]
    assert reranker.asked == []
