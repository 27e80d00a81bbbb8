"""What a search gives, in which order, and when the box calls itself ready."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from async_helpers import run
from small_library import SIGNATURE, TUNING, Shelf, make_shelf
from vectors_double import VectorReaderDouble

from rag_app.config import Embedding
from rag_app.embedding import EmbeddingClient
from rag_app.errors import EmbeddingFailed
from rag_app.indexing import indexed_text
from rag_app.interfaces import Readiness
from rag_app.model import Passage
from rag_app.retrieval import HybridSearcher
from rag_app.retrieval.evidence import distinct_words, evidence, terms_asked, weigh
from rag_app.text.tokens import Word, count_terms, words


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = make_shelf(tmp_path)
    shelf.put("en/backup.md", "Copy the folder of the backup to another disk every night.")
    shelf.put("ko/backup.md", "백업 폴더를 매일 밤 다른 디스크에 복사합니다.")
    shelf.put("en/garden.md", "Roses grow well in a sunny garden.")
    return shelf


def search(
    shelf: Shelf, question: str, limit: int = 5, language: str | None = None
) -> list[Passage]:
    return run(shelf.searcher.search(question, limit, language))


def names(passages: list[Passage]) -> list[str]:
    return [passage.document for passage in passages]


def test_the_passage_with_the_words_of_the_question_is_first(shelf: Shelf) -> None:
    passages = search(shelf, "Where does the backup folder go?")
    assert names(passages)[0] == "en/backup.md"
    assert passages[0].evidence > 0.6
    assert passages[0].score == max(passage.score for passage in passages) <= 1


def test_a_span_points_at_the_text_of_the_passage(shelf: Shelf) -> None:
    (passage,) = search(shelf, "roses", 1)
    text = shelf.library.text(passage.document_id)
    assert text is not None and text[passage.start : passage.end] == passage.text


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_wished_language_comes_before_the_better_words(shelf: Shelf, language: str) -> None:
    more_words_of_the_other = {"en": "backup 폴더 디스크 복사", "ko": "copy folder disk night 백업"}
    passages = search(shelf, more_words_of_the_other[language], 2, language)
    assert names(passages)[0] == f"{language}/backup.md"
    assert passages[0].evidence < passages[1].evidence


def test_a_loanword_finds_the_document_in_the_other_language(tmp_path: Path) -> None:
    shelf = make_shelf(tmp_path)
    shelf.put("docker.md", "Docker needs root rights.")
    shelf.put("other.md", "Roses need sun.")
    assert names(search(shelf, "도커가 필요한가요?")) == ["docker.md"]


@pytest.mark.parametrize("question", ["", "How do I do it?", "어떻게 하나요?", "qwertyuiop"])
def test_a_question_without_known_words_finds_nothing(shelf: Shelf, question: str) -> None:
    assert search(shelf, question) == []


def test_the_limit_holds(shelf: Shelf) -> None:
    assert len(search(shelf, "backup garden 백업", 2)) == 2


def test_points_whose_chunk_is_gone_are_not_shown(shelf: Shelf) -> None:
    found = search(shelf, "roses")
    shelf.library.remove(found[0].document_id)  # The index still holds the point.
    assert search(shelf, "roses") == []


def test_searching_twice_gives_the_same(shelf: Shelf) -> None:
    assert search(shelf, "backup folder garden") == search(shelf, "backup folder garden")


SAMPLE = [
    "Where does the backup folder go at night?",
    "백업 폴더는 어디에 있나요?",
    "Do roses grow in a sunny garden?",
    "sunny printers of the backup",
]


@pytest.mark.parametrize("question", SAMPLE)
def test_evidence_is_that_of_the_terms_counted_in_the_passage(shelf: Shelf, question: str) -> None:
    for _ in range(2):  # The second time from what is remembered of the first.
        for passage in search(shelf, question):
            chunk = shelf.library.chunks([passage.chunk_id])[passage.chunk_id].chunk
            words = distinct_words(question)
            frequencies = shelf.library.term_frequencies(SIGNATURE, terms_asked(words))
            weighted = weigh(words, frequencies, 3)
            assert passage.evidence == evidence(weighted, count_terms(indexed_text(chunk)))


def test_a_question_is_tokenised_once_and_passages_not_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(shelf, SAMPLE[0])
    texts: list[str] = []

    def counting(text: str) -> Iterator[Word]:
        texts.append(text)
        return words(text)

    for module in ("rag_app.retrieval.evidence", "rag_app.text.tokens"):
        monkeypatch.setattr(f"{module}.words", counting)
    search(shelf, SAMPLE[0])
    assert texts == [SAMPLE[0]]


class EmbeddingDouble(EmbeddingClient):
    """Knows one meaning: what is about plants."""

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__(Embedding(url="http://127.0.0.1:1/v1", model="double", dimension=2))
        self._broken = broken

    async def question(self, text: str) -> tuple[float, ...]:
        if self._broken:
            raise EmbeddingFailed("the double fails on order")
        return (1.0, 0.0) if "flower" in text else (0.0, 1.0)


def with_meaning(shelf: Shelf, *, broken: bool = False) -> HybridSearcher:
    for identity, point in shelf.vectors.points.items():
        about_plants = "Roses" in shelf.library.chunks([identity])[identity].chunk.text
        object.__setattr__(point, "dense", (1.0, 0.0) if about_plants else (0.3, 0.9))
    reader = VectorReaderDouble(shelf.vectors)
    return HybridSearcher(shelf.library, reader, SIGNATURE, TUNING, EmbeddingDouble(broken=broken))


def test_the_dense_lane_finds_what_is_said_in_other_words(shelf: Shelf) -> None:
    (best, *_) = run(with_meaning(shelf).search("Which flower likes warmth?", 3))
    assert (best.document, best.evidence) == ("en/garden.md", 1.0)


def test_without_the_embedding_model_the_words_still_find(shelf: Shelf) -> None:
    passages = run(with_meaning(shelf, broken=True).search("backup folder", 1))
    assert names(passages) == ["en/backup.md"]


def test_ready_only_when_the_corpus_of_this_release_is_in_this_index(shelf: Shelf) -> None:
    assert not run(shelf.searcher.ready("r1")).ready
    shelf.indexer.mark_ready("r1")
    assert run(shelf.searcher.ready("r1")).ready
    assert not run(shelf.searcher.ready("r2")).ready


def test_not_ready_names_what_is_missing(shelf: Shelf) -> None:
    shelf.indexer.mark_ready("r1")
    shelf.queue("new.md", "text")
    reader = VectorReaderDouble(shelf.vectors)
    searcher = HybridSearcher(shelf.library, reader, SIGNATURE, TUNING)
    assert run(searcher.ready("r1")) == Readiness(True, "", 1, "first")
    reader.readiness = Readiness(False, "the search index is being opened")
    assert run(searcher.ready("r1")).reason == "the search index is being opened"
