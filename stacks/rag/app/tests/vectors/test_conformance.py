"""The embedded index and a Qdrant server do the same: one suite, run against both.

The server is the double (real engine, real HTTP) unless `--qdrant-url` names a real one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import vectors_process as embedded
from async_helpers import run
from qdrant_servers import new_signature, qdrant
from vectors_double import VectorsDouble

from rag_app.interfaces import Hit, Hits, Point, SparseVector
from rag_app.text.tokens import count_terms
from rag_app.vectors.bm25 import Bm25
from rag_app.vectors.client import VectorReaderClient
from rag_app.vectors.connect import ClosableReader, ClosableWriter
from rag_app.vectors.qdrant.clients import QdrantReader, QdrantWriter

KINDS = ("embedded", "server")
DIMENSION = 4
TEXTS = (
    "프린터의 토너를 교체합니다",
    "토너 교체 주기와 프린터 점검",
    "휴가 신청은 인사팀에 합니다",
    "printer toner and paper for the printer",
    "printer in the garden behind a very old house near some river",
    "garden roses",
    "토너 toner 토너",
)
Answer = TypeVar("Answer")


@dataclass
class Index:
    """An index that is open: its writer, and what a reader of it says."""

    writer: ClosableWriter
    open_reader: Callable[[], ClosableReader]

    def ask(self, question: Callable[[ClosableReader], Coroutine[Any, Any, Answer]]) -> Answer:
        async def asked() -> Answer:
            reader = self.open_reader()
            try:
                return await question(reader)
            finally:
                await reader.close()

        return run(asked())

    def search(
        self, sparse: SparseVector | None, dense: tuple[float, ...] | None = None, limit: int = 10
    ) -> Hits:
        return self.ask(lambda reader: reader.search(sparse, dense, limit))

    def count(self) -> int:
        return self.ask(lambda reader: reader.count())


@contextmanager
def opened(kind: str, folder: Path, options: pytest.Config, dimension: int = 0) -> Iterator[Index]:
    """An empty index of this kind."""
    with ExitStack() as stack:
        if kind == "embedded":
            signature = embedded.signature(dimension)
            stack.enter_context(embedded.serving(folder, dimension))
            writer: ClosableWriter = embedded.writer(folder, signature)
            path = folder / embedded.SOCKET
            index = Index(writer, lambda: VectorReaderClient(path, signature))
        else:
            signature = new_signature()
            settings = stack.enter_context(qdrant(options, folder))
            writer = QdrantWriter(settings, signature, dimension)
            index = Index(writer, lambda: QdrantReader(settings, signature, dimension))
        stack.callback(writer.close)
        writer.ensure()
        yield index


class Shelf:
    """Keeps one index of each kind open, because each costs the start of a process."""

    def __init__(self, stack: ExitStack, root: Path, options: pytest.Config) -> None:
        self._stack = stack
        self._root = root
        self._options = options
        self._held: dict[tuple[str, int], Index] = {}

    def new(self, kind: str, dimension: int = 0) -> Index:
        """An index that never held anything: the engine's IDF remembers deleted points."""
        folder = self._root / f"{len(list(self._root.iterdir()))}"
        folder.mkdir()
        return self._stack.enter_context(opened(kind, folder, self._options, dimension))

    def empty(self, kind: str, dimension: int = 0) -> Index:
        """An index without points."""
        if (kind, dimension) not in self._held:
            self._held[kind, dimension] = self.new(kind, dimension)
        index = self._held[kind, dimension]
        index.writer.delete(list(index.writer.counts()))
        return index


@pytest.fixture(scope="module")
def shelf(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    with ExitStack() as stack:
        yield Shelf(stack, tmp_path_factory.mktemp("indexes"), request.config)


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest, shelf: Shelf) -> Index:
    return shelf.empty(request.param)


@pytest.fixture(params=KINDS)
def dense_index(request: pytest.FixtureRequest, shelf: Shelf) -> Index:
    return shelf.empty(request.param, DIMENSION)


def terms(*identities: int) -> SparseVector:
    return SparseVector(tuple(sorted(identities)), (1.0,) * len(identities))


def points(first: int, number: int, document: str = "d") -> list[Point]:
    return [
        Point(identity, document, terms(identity % 50, 1000 + identity))
        for identity in range(first, first + number)
    ]


def corpus() -> list[Point]:
    counted = [count_terms(text) for text in TEXTS]
    average = sum(sum(terms.values()) for terms in counted) / len(counted)
    bm25 = Bm25(k1=1.2, b=0.75, average_length=average)
    chance = random.Random(7)
    vectors = [tuple(chance.uniform(-1, 1) for _ in range(DIMENSION)) for _ in counted]
    return [
        Point(number, f"d{number % 3}", bm25.weigh(terms), vectors[number])
        for number, terms in enumerate(counted)
    ]


def question(text: str) -> SparseVector:
    counted = count_terms(text)
    indices = tuple(sorted(counted))
    return SparseVector(indices, tuple(0.5 + 0.25 * (index % 3) for index in indices))


def ranked(hits: tuple[Hit, ...]) -> list[tuple[int, float]]:
    """Hits of one score stand in no order that anybody promised."""
    return sorted(
        ((hit.id, hit.score) for hit in hits), key=lambda hit: (-round(hit[1], 4), hit[0])
    )


def assert_same(found: tuple[Hit, ...], expected: tuple[Hit, ...]) -> None:
    assert [identity for identity, _ in ranked(found)] == [hit.id for hit in expected]
    scores = [score for _, score in ranked(found)]
    assert scores == pytest.approx([hit.score for hit in expected], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_bm25_and_cosine_as_by_hand(shelf: Shelf, kind: str) -> None:
    index, by_hand = shelf.new(kind, DIMENSION), VectorsDouble()
    index.writer.upsert(corpus())
    by_hand.upsert(corpus())
    dense = (0.3, -0.7, 0.2, 0.9)
    for text in ("토너 교체", "printer toner", "휴가", "roses 토너 garden"):
        found = index.search(question(text), dense)
        expected = by_hand.best_sparse(question(text), 10)
        assert expected
        assert_same(found.sparse, expected)
        assert_same(found.dense, by_hand.best_dense(dense, 10))


def test_both_kinds_give_the_same_for_the_same_corpus(shelf: Shelf) -> None:
    chance = random.Random(11)

    def point(number: int) -> Point:
        indices = tuple(sorted(chance.sample(range(400), 12)))
        weights = tuple(chance.uniform(0.1, 2.2) for _ in indices)
        return Point(number, f"d{number % 40}", SparseVector(indices, weights))

    many = [point(number) for number in range(600)]
    asked = [terms(*chance.sample(range(400), 5)) for _ in range(20)]
    found: dict[str, object] = {}
    for kind in KINDS:
        index = shelf.new(kind)
        index.writer.upsert(many)
        lanes = [index.search(one, limit=60).sparse for one in asked]
        assert all(lanes)
        hits = [[(hit.id, round(hit.score, 4)) for hit in lane] for lane in lanes]
        found[kind] = (hits, dict(index.writer.counts()))
    assert found["server"] == found["embedded"]


def test_a_lane_that_is_not_asked_is_empty(dense_index: Index) -> None:
    dense_index.writer.upsert(corpus())
    only_words = dense_index.search(question("토너"))
    assert only_words.sparse and not only_words.dense
    only_meaning = dense_index.search(None, (1.0, 0.0, 0.0, 0.0), 3)
    assert len(only_meaning.dense) == 3 and not only_meaning.sparse
    assert dense_index.search(None) == Hits()


def test_no_more_than_the_limit_is_found_and_unknown_words_find_nothing(index: Index) -> None:
    index.writer.upsert(points(0, 200))
    assert len(index.search(terms(7), limit=3).sparse) == 3
    assert index.search(terms(999_999)).sparse == ()


def test_points_are_counted_by_document_and_deleted_but_for_some(index: Index) -> None:
    assert (index.count(), dict(index.writer.counts())) == (0, {})
    index.writer.upsert(points(0, 5, "a") + points(5, 2, "b"))
    assert dict(index.writer.counts()) == {"a": 5, "b": 2}
    index.writer.delete(["a", "unknown"], keep=[1, 3, 6])
    assert dict(index.writer.counts()) == {"a": 2, "b": 2}
    index.writer.delete(["a"])
    assert (index.count(), dict(index.writer.counts())) == (2, {"b": 2})
    index.writer.delete([])
    assert index.count() == 2


def test_a_reader_deletes_a_document(index: Index) -> None:
    index.writer.upsert(points(0, 3, "a") + points(3, 1, "b"))
    index.ask(lambda reader: reader.delete("a"))
    index.ask(lambda reader: reader.delete("unknown"))
    assert dict(index.writer.counts()) == {"b": 1}


def test_writing_a_point_again_replaces_it(index: Index) -> None:
    index.writer.upsert([Point(1, "a", terms(5))])
    index.writer.upsert([Point(1, "b", terms(6))])
    assert (index.count(), dict(index.writer.counts())) == (1, {"b": 1})
    assert index.search(terms(5)).sparse == ()
    assert [hit.id for hit in index.search(terms(6)).sparse] == [1]


def test_a_point_without_words_is_held_and_never_found(index: Index) -> None:
    index.writer.upsert([Point(1, "d", SparseVector((), ())), Point(2, "d", terms(4))])
    assert dict(index.writer.counts()) == {"d": 2}
    assert [hit.id for hit in index.search(terms(4)).sparse] == [2]


def test_term_ids_of_32_bits_and_document_ids_of_any_letters(index: Index) -> None:
    index.writer.upsert([Point(2**53, '문서 "1"/é', terms(0, 2**32 - 1))])
    assert [hit.id for hit in index.search(terms(2**32 - 1)).sparse] == [2**53]
    assert dict(index.writer.counts()) == {'문서 "1"/é': 1}


def test_the_name_of_an_index_stays_and_readers_say_it(index: Index) -> None:
    name = index.writer.ensure()
    assert name and name == index.writer.ensure()
    readiness = index.ask(lambda reader: reader.ready())
    assert (readiness.ready, readiness.reason, readiness.index) == (True, "", name)
