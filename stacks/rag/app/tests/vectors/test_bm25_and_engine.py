"""The real engine ranks as BM25 by hand does; indexes are opened, healed and kept apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_app.config import Embedding
from rag_app.text.tokens import count_terms
from rag_app.vectors.bm25 import Bm25
from rag_app.vectors.engine import EdgeIndex, open_index
from rag_app.vectors.folder import IndexFolder
from rag_app.vectors.signature import index_signature

TEXTS = (
    "printer printer printer toner",
    "printer in the garden behind a very old house near some river",
    "garden roses",
    "toner and paper for a printer and another printer",
    "roses roses toner",
)
BM25 = Bm25(k1=1.2, b=0.75, average_length=4.0)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[EdgeIndex]:
    opened = EdgeIndex.create(tmp_path / "shard", 0)
    yield opened
    opened.close()


def point(identity: int, text: str, document: str = "d") -> list[object]:
    sparse = BM25.weigh(count_terms(text))
    return [identity, document, list(sparse.indices), list(sparse.values), None]


def fill(index: EdgeIndex) -> None:
    index.upsert([point(number, text, f"d{number}") for number, text in enumerate(TEXTS)])


def by_hand(query: str) -> list[tuple[int, float]]:
    """BM25 with its IDF, straight from the formula."""
    counted = [count_terms(text) for text in TEXTS]
    scores: dict[int, float] = {}
    for term in count_terms(query):
        having = sum(1 for terms in counted if term in terms)
        idf = math.log(1 + (len(TEXTS) - having + 0.5) / (having + 0.5))
        for number, terms in enumerate(counted):
            if frequency := terms.get(term, 0):
                norm = 1.2 * (0.25 + 0.75 * sum(terms.values()) / 4.0)
                part = idf * frequency * 2.2 / (frequency + norm)
                scores[number] = scores.get(number, 0.0) + part
    return sorted(scores.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("query", ["printer", "toner roses", "garden printer paper"])
def test_the_engine_ranks_and_scores_like_bm25_by_hand(index: EdgeIndex, query: str) -> None:
    fill(index)
    terms = sorted(count_terms(query))
    found = index.search([terms, [1.0] * len(terms)], None, 10)["sparse"]
    expected = by_hand(query)
    assert [identity for identity, _ in found] == [identity for identity, _ in expected]
    assert [score for _, score in found] == pytest.approx(
        [score for _, score in expected], rel=1e-4
    )


def test_weights_saturate_with_frequency_and_shrink_with_length() -> None:
    once, often = BM25.weigh({1: 1}), BM25.weigh({1: 3})
    longer = BM25.weigh({1: 1, 2: 20})
    assert once.values[0] < often.values[0] < 2.2
    assert longer.values[0] < once.values[0]


def test_indices_are_ascending() -> None:
    assert BM25.weigh({9: 1, 3: 2, 7: 1}).indices == (3, 7, 9)


def test_counts_are_by_document_and_deleting_can_spare_some(index: EdgeIndex) -> None:
    index.upsert([point(number, "printer", "a") for number in range(3)] + [point(9, "toner", "b")])
    assert index.counts() == {"a": 3, "b": 1}
    index.delete(["a"], keep=[2])
    assert (index.counts(), index.count()) == ({"a": 1, "b": 1}, 2)
    index.delete(["a", "unknown"], keep=[])
    assert index.counts() == {"b": 1}
    index.delete(["unknown"], keep=[])
    assert index.counts() == {"b": 1}


def test_upserting_a_point_again_replaces_it(index: EdgeIndex) -> None:
    index.upsert([point(1, "printer")])
    index.upsert([point(1, "roses")])
    term = sorted(count_terms("printer"))
    assert index.search([term, [1.0]], None, 5)["sparse"] == []
    assert index.count() == 1


def test_a_dense_lane_ranks_by_cosine(tmp_path: Path) -> None:
    index = EdgeIndex.create(tmp_path / "dense", 2)
    for number, vector in enumerate(([1.0, 0.0], [0.6, 0.8], [0.0, 1.0])):
        index.upsert([[number, "d", [1], [1.0], vector]])
    found = index.search([[1], [1.0]], [0.9, 0.1], 2)
    assert [identity for identity, _ in found["dense"]] == [0, 1]
    assert len(found["sparse"]) == 2
    index.close()


def test_optimising_changes_no_ranking(index: EdgeIndex) -> None:
    fill(index)
    query = [sorted(count_terms("garden printer")), [1.0, 1.0]]
    before = index.search(query, None, 5)["sparse"]
    index.optimise()
    after = index.search(query, None, 5)["sparse"]
    assert [identity for identity, _ in after] == [identity for identity, _ in before]


def test_an_index_is_opened_again_under_its_name(tmp_path: Path) -> None:
    folder = IndexFolder(tmp_path, "s")
    index, state = open_index(folder, 0)
    fill(index)
    index.close()
    again, same = open_index(folder, 0)
    assert (same, again.count()) == (state, len(TEXTS))
    again.close()


def break_segments(shard: Path) -> None:
    for file in (shard / "segments").rglob("*"):
        if file.is_file():
            file.write_bytes(b"\xff" * 64)


def remove_config(shard: Path) -> None:
    (shard / "edge_config.json").write_text("{", encoding="ascii")
    break_segments(shard)


@pytest.mark.parametrize("damage", [break_segments, remove_config])
def test_an_index_that_does_not_load_is_moved_aside_and_made_anew(
    tmp_path: Path, damage: object
) -> None:
    folder = IndexFolder(tmp_path, "s")
    index, state = open_index(folder, 0)
    fill(index)
    index.close()
    damage(folder.shard(state))  # type: ignore[operator]
    fresh, other = open_index(folder, 0)
    assert fresh.count() == 0
    assert other.name != state.name
    assert (tmp_path / "broken" / state.shard).is_dir()
    fresh.close()


def test_a_shard_without_its_state_is_not_trusted(tmp_path: Path) -> None:
    folder = IndexFolder(tmp_path, "s")
    index, _ = open_index(folder, 0)
    fill(index)
    index.close()
    (folder.path / "state.json").unlink()
    fresh, _ = open_index(folder, 0)
    assert fresh.count() == 0
    fresh.close()


def test_indexes_long_unused_are_removed(tmp_path: Path) -> None:
    import os

    folders = [IndexFolder(tmp_path, name) for name in ("oldest", "older", "old", "current")]
    for age, folder in enumerate(reversed(folders)):
        os.utime(folder.path, (1000 - age, 1000 - age))
    folders[-1].prune(kept=3)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["current", "old", "older"]


@pytest.mark.parametrize("version", ["CHUNKING_VERSION", "TOKENIZER_VERSION"])
def test_the_signature_follows_the_code_that_cuts_and_counts(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    from small_library import TUNING

    before = index_signature(TUNING, None)
    monkeypatch.setattr(f"rag_app.vectors.signature.{version}", 999)
    assert index_signature(TUNING, None) != before


def test_the_signature_follows_what_decides_the_vectors_and_nothing_else() -> None:
    from small_library import TUNING

    embedding = Embedding(url="http://one/v1", model="m", dimension=8)
    base = index_signature(TUNING, None)
    changed = [
        index_signature(TUNING.model_copy(update={"chunk_size": 700}), None),
        index_signature(TUNING.model_copy(update={"bm25_b": 0.5}), None),
        index_signature(TUNING, embedding),
        index_signature(TUNING, embedding.model_copy(update={"dimension": 9})),
    ]
    assert len({base, *changed}) == 5
    assert index_signature(TUNING.model_copy(update={"top_k": 9}), None) == base
    moved = embedding.model_copy(update={"url": "http://two/v1"})
    assert index_signature(TUNING, moved) == index_signature(TUNING, embedding)
