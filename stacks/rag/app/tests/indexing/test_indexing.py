"""Library and vector index agree in the end, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from async_helpers import run
from small_library import SIGNATURE, TUNING, Shelf, make_shelf

from rag_app.errors import VectorsUnavailable
from rag_app.indexing import BATCH, KEPT_TERMS
from rag_app.interfaces import Reconciliation
from rag_app.model import DocumentState

NOTHING = Reconciliation(0, 0, 0)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return make_shelf(tmp_path)


def consistent(shelf: Shelf, signature: str = SIGNATURE) -> bool:
    """Whether the index holds exactly the chunks that the library says, all of them complete."""
    known = shelf.library.indexed(signature)
    ids = {
        stored.id for document in known for stored in shelf.library.chunks_of(document, signature)
    }
    complete = all(item.complete for item in known.values())
    return complete and ids == set(shelf.vectors.points)


def test_an_indexed_document_is_ready_and_searchable(shelf: Shelf) -> None:
    document = shelf.put("a.txt", "The printer stands in room twelve.")
    assert document.state is DocumentState.READY
    assert document.chunks == 1
    assert consistent(shelf)


def test_reconciling_what_agrees_does_nothing(shelf: Shelf) -> None:
    shelf.put("a.txt", "Some text.")
    shelf.vectors.fail_at(1)
    assert shelf.indexer.reconcile() == NOTHING


def test_replacing_a_document_leaves_none_of_its_old_points(shelf: Shelf) -> None:
    shelf.put("a.txt", "Old words. " * 200)
    before = set(shelf.vectors.points)
    shelf.put("a.txt", "New words.")
    assert before.isdisjoint(shelf.vectors.points)
    assert consistent(shelf)


def restarted(shelf: Shelf, folder: Path) -> Shelf:
    """The same library and index after the process was killed: nothing is remembered."""
    shelf.vectors.fail_at(0)
    return make_shelf(folder, vectors=shelf.vectors)


WRITES = ("upsert", "delete")


@pytest.mark.parametrize("write", WRITES)
def test_a_failure_at_any_write_heals(shelf: Shelf, tmp_path: Path, write: str) -> None:
    shelf.put("other.txt", "Another document.")
    shelf.put("a.txt", "Old text.")
    shelf.vectors.fail_at(1 + WRITES.index(write))
    with pytest.raises(VectorsUnavailable):
        shelf.put("a.txt", "New text. " * 100)
    again = restarted(shelf, tmp_path)
    assert consistent(again) == (write == "upsert")
    again.indexer.reconcile()
    assert consistent(again)


def test_a_kill_between_points_and_chunks_leaves_the_old_text_and_heals(
    shelf: Shelf, tmp_path: Path
) -> None:
    document = shelf.put("a.txt", "Old text.")
    shelf.queue("a.txt", "New text.")
    with pytest.raises(KeyboardInterrupt):
        shelf.index_claimed("New text. " * 100, die)
    assert not consistent(shelf)
    again = restarted(shelf, tmp_path)
    assert again.indexer.reconcile() == Reconciliation(reindexed=1)
    assert consistent(again)
    assert again.library.text(document.id) == "Old text."


def test_points_of_a_new_document_that_was_interrupted_are_dropped(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.queue("a.txt", "text")
    with pytest.raises(KeyboardInterrupt):
        shelf.index_claimed("Some text.", die)
    again = restarted(shelf, tmp_path)
    assert again.indexer.reconcile() == Reconciliation(dropped=1)
    assert again.vectors.points == {}


def die(_done: int, _total: int) -> None:
    raise KeyboardInterrupt


def test_a_failed_write_that_is_tried_again_leaves_no_stray_points(shelf: Shelf) -> None:
    shelf.queue("a.txt", "text")
    reading = shelf.reading("Some text.")
    with pytest.raises(KeyboardInterrupt):
        shelf.indexer.index_many([reading], die)
    assert shelf.indexer.index_many([reading]) == []
    assert consistent(shelf)


def test_a_replaced_document_is_found_with_its_old_text_until_the_new_one_is_in(
    shelf: Shelf,
) -> None:
    document = shelf.put("a.txt", "The printer stands in room twelve.")
    seen: list[tuple[list[str], str | None]] = []

    def look(_done: int, _total: int) -> None:
        passages = run(shelf.searcher.search("printer toner", 5))
        seen.append(([one.text for one in passages], shelf.library.text(document.id)))

    shelf.queue("a.txt", "new")
    shelf.index_claimed("The printer has toner.", look)
    old = "The printer stands in room twelve."
    assert seen == [([old], old)]
    assert [one.text for one in run(shelf.searcher.search("printer toner", 5))] == [
        "The printer has toner."
    ]
    assert consistent(shelf)


def test_many_documents_cost_one_write_and_new_ones_no_delete(shelf: Shelf) -> None:
    readings = []
    for number in range(30):
        shelf.queue(f"{number}.txt", "text")
        readings.append(shelf.reading(f"Text number {number}."))
    assert shelf.indexer.index_many(readings) == []
    assert (shelf.vectors.upserts, shelf.vectors.deletes) == (1, 0)
    assert {document.state for document in shelf.library.documents()} == {DocumentState.READY}
    assert consistent(shelf)


def test_one_document_that_was_replaced_meanwhile_does_not_keep_the_others_out(
    shelf: Shelf,
) -> None:
    readings = []
    for name in ("a.txt", "b.txt"):
        shelf.queue(name, "text")
        readings.append(shelf.reading("Some text."))
    shelf.queue("a.txt", "other")
    refused = shelf.indexer.index_many(readings)
    assert [claim.document.name for claim in refused] == ["a.txt"]
    states = {document.name: document.state for document in shelf.library.documents()}
    assert states == {"a.txt": DocumentState.QUEUED, "b.txt": DocumentState.READY}
    assert consistent(shelf)


def test_points_of_a_document_that_was_removed_meanwhile_are_dropped(shelf: Shelf) -> None:
    document = shelf.put("a.txt", "Some text.")
    shelf.library.remove(document.id)
    assert shelf.indexer.reconcile() == Reconciliation(dropped=1)
    assert consistent(shelf)


def test_an_index_that_lost_everything_is_filled_again(shelf: Shelf) -> None:
    shelf.put("a.txt", "Some text.")
    shelf.put("b.txt", "Other text.")
    shelf.vectors.lose_everything()
    assert shelf.indexer.reconcile() == Reconciliation(reindexed=2)
    assert consistent(shelf)


def test_a_document_removed_while_it_is_indexed_leaves_no_points(shelf: Shelf) -> None:
    document = shelf.queue("a.txt", "text")

    def remove(_done: int, _all: int) -> None:
        shelf.library.remove(document.id)

    (refused,) = shelf.index_claimed("Some text.", remove)
    assert refused.document.id == document.id
    assert shelf.vectors.points == {}


def test_a_new_signature_chunks_the_stored_texts_again_and_the_old_one_stays(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.put("a.txt", "Many words in one line. " * 60)
    old = dict(shelf.vectors.points)
    smaller = make_shelf(tmp_path, "signature-2", TUNING.model_copy(update={"chunk_size": 200}))
    assert smaller.indexer.reconcile() == Reconciliation(reindexed=1)
    assert len(smaller.vectors.points) > len(old)
    assert consistent(smaller, "signature-2")
    assert make_shelf(tmp_path, vectors=shelf.vectors).indexer.reconcile() == NOTHING


def test_weights_are_made_anew_when_the_average_length_drifts(shelf: Shelf) -> None:
    first = shelf.put("short.txt", "Printer.")
    (before,) = shelf.vectors.points.values()
    shelf.put("long.txt", "Many different words about gardens, rivers, mountains and old houses.")
    assert shelf.indexer.reconcile() == Reconciliation(reweighted=1)
    after = shelf.vectors.points[before.id]
    assert after.document_id == first.id
    assert after.sparse.values > before.sparse.values
    assert shelf.indexer.reconcile() == NOTHING


def test_a_long_document_is_written_in_batches_and_reported(shelf: Shelf) -> None:
    reported: list[tuple[int, int]] = []
    shelf.queue("long.txt", "text")
    text = "".join(
        f"Paragraph {number} has its own word w{number}.\n\n" * 12 for number in range(700)
    )
    shelf.index_claimed(text, lambda done, total: reported.append((done, total)))
    assert shelf.vectors.largest_batch == BATCH
    assert reported[-1][0] == reported[-1][1] == len(shelf.vectors.points) > BATCH


def test_a_very_long_document_is_indexed_like_a_short_one(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "Printers and gardens. " * 100
    shelf.put("a.txt", text)
    monkeypatch.setattr("rag_app.indexing.KEPT_TERMS", 1)
    other = make_shelf(tmp_path / "other")
    other.put("a.txt", text)
    assert KEPT_TERMS > 1
    assert [point.sparse for point in other.vectors.points.values()] == [
        point.sparse for point in shelf.vectors.points.values()
    ]


def test_the_corpus_counts_as_ready_in_the_index_that_is_open_now(shelf: Shelf) -> None:
    shelf.indexer.mark_ready("r1")
    assert shelf.library.corpus_ready("r1", SIGNATURE, "first")
    shelf.vectors.lose_everything()
    shelf.indexer.mark_ready("r1")
    assert shelf.library.corpus_ready("r1", SIGNATURE, "second")
