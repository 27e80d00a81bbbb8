"""The worker: real library, real jails, a double of the vectors."""

from __future__ import annotations

import hashlib

import pytest
from document_files import pdf, written
from ingest_doubles import IngestBox, LastingJails, wait_until

from rag_app.ingest import worker
from rag_app.model import DocumentState, Origin
from rag_app.parsing.limits import Limits

LONG = "# 문서\n\n" + "이 문장은 본문이다. " * 200


@pytest.fixture(scope="module")
def jails():
    lasting = LastingJails(Limits())
    yield lasting
    lasting.end()


@pytest.fixture
def box(tmp_path, jails):
    return IngestBox(tmp_path, jails)


def upload(box, folder, name, content):
    path = written(folder, "upload.part", content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return box.library.add(name, Origin.USER, path, digest, path.stat().st_size)


def test_documents_become_searchable_and_the_release_is_marked(box, tmp_path):
    written(box.corpus, "guide.md", LONG)
    upload(box, tmp_path, "회의록 3월.pdf", pdf(["내용"]))
    found = box.run()
    assert {name: document.state for name, document in found.items()} == {
        "guide.md": DocumentState.READY,
        "회의록 3월.pdf": DocumentState.READY,
    }
    assert found["guide.md"].title == "문서"
    assert box.vectors.counts() == {each.id: each.chunks for each in found.values()}


def test_a_refused_document_says_why_and_harms_no_other(box, tmp_path):
    written(box.corpus, "guide.md", "fine")
    upload(box, tmp_path, "scan.pdf", pdf([]))
    found = box.run()
    assert found["guide.md"].state is DocumentState.READY
    assert found["scan.pdf"].state is DocumentState.FAILED
    assert found["scan.pdf"].reason.startswith("no-text-layer: The PDF has no text layer")


def test_the_same_content_is_not_indexed_again(box):
    written(box.corpus, "guide.md", LONG)
    box.run()
    box.vectors.calls.clear()
    box.run()
    assert "upsert" not in box.vectors.calls


def test_changed_content_replaces_and_removed_content_leaves(box):
    written(box.corpus, "a.md", LONG)
    written(box.corpus, "b.md", "gone soon")
    box.run()
    before = set(box.vectors.points)
    written(box.corpus, "a.md", "short now")
    (box.corpus / "b.md").unlink()
    (document,) = box.run().values()
    assert box.library.text(document.id) == "short now"
    assert box.vectors.counts() == {document.id: 1}
    assert not before & set(box.vectors.points)


def test_a_replaced_document_that_cannot_be_read_is_no_longer_found(box):
    written(box.corpus, "a.md", LONG)
    box.run()
    written(box.corpus, "a.md", b"")
    assert box.run()["a.md"].reason.startswith("empty-file")
    assert box.vectors.points == {}


def test_the_worker_waits_while_the_vectors_are_away(box, monkeypatch):
    monkeypatch.setattr(worker, "RETRY_S", 0.01)

    def leave(call):
        box.vectors.away = box.vectors.away or (call == "upsert" and len(box.vectors.points) == 0)

    written(box.corpus, "a.md", LONG)
    box.vectors.before = leave
    with box.working():
        wait_until(lambda: box.vectors.calls.count("upsert") > 2)
        assert box.state("a.md") is DocumentState.INDEXING
        box.vectors.before, box.vectors.away = lambda _: None, False
        wait_until(box.settled)
    assert box.state("a.md") is DocumentState.READY


def test_a_stop_on_the_way_puts_the_document_back(box, monkeypatch):
    monkeypatch.setattr(worker, "RETRY_S", 0.01)
    written(box.corpus, "a.md", LONG)

    def leave(call):
        box.vectors.away = box.vectors.away or call == "upsert"

    box.vectors.before = leave
    with box.working():
        wait_until(lambda: box.state("a.md") is DocumentState.INDEXING)
    assert box.state("a.md") is DocumentState.QUEUED
    box.vectors.before, box.vectors.away = lambda _: None, False
    assert box.run()["a.md"].state is DocumentState.READY


def test_a_stop_is_no_attempt(box, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "RETRY_S", 0.01)
    upload(box, tmp_path, "a.md", LONG)
    for _ in range(worker.MAX_ATTEMPTS + 1):
        box.vectors.before = lambda call: setattr(box.vectors, "away", call == "upsert")
        with box.working():
            wait_until(lambda: box.state("a.md") is DocumentState.INDEXING)
        assert box.state("a.md") is DocumentState.QUEUED
    box.vectors.before, box.vectors.away = lambda _: None, False
    assert box.run()["a.md"].state is DocumentState.READY


def test_many_small_documents_are_indexed_a_few_at_a_time(box):
    for number in range(40):
        written(box.corpus, f"{number}.md", f"# {number}\n\nA short text.")
    found = box.run()
    assert {document.state for document in found.values()} == {DocumentState.READY}
    assert box.vectors.calls.count("upsert") < len(found) / 2
    assert box.vectors.counts() == {each.id: each.chunks for each in found.values()}


def test_a_document_that_was_interrupted_three_times_is_given_up(box, tmp_path):
    upload(box, tmp_path, "a.md", "killer")
    for _ in range(worker.MAX_ATTEMPTS - 1):
        box.library.claim(1, 0, 1)
        box.library.requeue_interrupted()
    assert box.run()["a.md"].state is DocumentState.READY


def test_a_document_that_was_interrupted_once_more_is_failed(box, tmp_path):
    upload(box, tmp_path, "a.md", "killer")
    for _ in range(worker.MAX_ATTEMPTS):
        box.library.claim(1, 0, 1)
        box.library.requeue_interrupted()
    found = box.run()["a.md"]
    assert found.state is DocumentState.FAILED
    assert found.reason.startswith("parser-crashed")


def test_other_tuning_cuts_the_stored_text_again_without_the_file(box, tmp_path):
    document = upload(box, tmp_path, "a.md", LONG)
    chunks = box.run()["a.md"].chunks
    box.library.source(document.id).unlink()
    tuned = IngestBox(tmp_path, box.jails, chunk_size=200, chunk_overlap=0)
    assert tuned.run()["a.md"].chunks > chunks
    assert tuned.vectors.counts() == {document.id: tuned.library.get(document.id).chunks}


def test_other_readers_read_the_files_again_and_the_old_text_is_found_meanwhile(
    box, tmp_path, monkeypatch
):
    document = upload(box, tmp_path, "a.md", LONG)
    upload(box, tmp_path, "b.md", b"")
    box.run()
    seen = []

    def look(call):
        if call == "upsert":
            ids = box.library.chunk_ids([document.id], box.signature)
            seen.append((box.state("a.md"), len(box.library.chunks(ids))))

    box.vectors.before = look
    monkeypatch.setattr(worker, "PARSING_VERSION", worker.PARSING_VERSION + 1)
    found = box.run()
    assert seen == [(DocumentState.INDEXING, found["a.md"].chunks)]
    assert found["b.md"].state is DocumentState.FAILED
    box.run()
    assert len(seen) == 1


def test_a_lost_index_is_filled_again_while_working(box, monkeypatch):
    monkeypatch.setattr(worker, "INDEX_CHECK_S", 0.05)
    written(box.corpus, "a.md", LONG)
    with box.working():
        wait_until(box.settled)
        full = len(box.vectors.points)
        box.vectors.points = {}
        box.vectors.index = "index-2"
        wait_until(box.settled)
        assert len(box.vectors.points) == full


def test_a_release_without_documents_is_ready_at_once(box):
    assert box.run() == {}


def test_an_upload_does_not_wait_for_a_restart(box, tmp_path):
    with box.working():
        wait_until(box.settled)
        upload(box, tmp_path, "late.md", "here I am")
        wait_until(lambda: box.state("late.md") is DocumentState.READY)


def test_a_document_replaced_while_it_is_read_ends_with_the_new_content(box, tmp_path):
    document = upload(box, tmp_path, "a.md", "old content")

    def replace(call):
        if call == "upsert":
            box.vectors.before = lambda _: None
            upload(box, tmp_path, "a.md", "new content")

    box.vectors.before = replace
    box.run()
    assert box.library.text(document.id) == "new content"
    assert box.state("a.md") is DocumentState.READY
