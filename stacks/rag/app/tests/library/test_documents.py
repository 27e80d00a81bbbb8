"""What the library promises about documents, their files and the queue."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from rag_app.interfaces import Claim, Reading
from rag_app.library import SqliteLibrary
from rag_app.library.chunks import Draft
from rag_app.model import Chunk, Document, DocumentState, Origin, ParsedDocument, Segment

TEXT = "문서를 되돌립니다."
PARSED = ParsedDocument(TEXT, (Segment(0, 3, 1), Segment(3, len(TEXT), 2, ("가", "나"))), "제목", 2)
CHUNKS = [Chunk(0, 0, 3, TEXT[:3], 1), Chunk(1, 3, len(TEXT), TEXT[3:], 2, ("가", "나"))]


@pytest.fixture
def library(tmp_path: Path) -> SqliteLibrary:
    return SqliteLibrary(tmp_path / "data")


def upload(library: SqliteLibrary, folder: Path, name: str, content: bytes) -> Document:
    source = folder / "upload"
    source.write_bytes(content)
    digest = sha256(content).hexdigest()
    return library.add(name, Origin.USER, source, digest, len(content))


def release(library: SqliteLibrary, name: str, digest: str = "0") -> Document:
    return library.add(name, Origin.RELEASE, Path("current/tree") / name, digest, 1)


def claimed(library: SqliteLibrary) -> Claim:
    (claim,) = library.claim(1, 0, 1)
    return claim


def state(library: SqliteLibrary, document: Document) -> DocumentState:
    found = library.get(document.id)
    assert found is not None
    return found.state


def index(library: SqliteLibrary, claim: Claim, signature: str = "s") -> None:
    assert library.publish(signature, [draft(library, claim)], 1.0) == []


def draft(library: SqliteLibrary, claim: Claim) -> Draft:
    first = library.reserve(len(CHUNKS), [claim])
    return Draft(claim.document.id, CHUNKS, first, {1: 1, 2: 1}, 2, Reading(claim, PARSED))


def test_an_upload_is_moved_into_the_library_and_queued(
    library: SqliteLibrary, tmp_path: Path
) -> None:
    document = upload(library, tmp_path, "한글 이름.PDF", b"content")
    source = library.source(document.id)
    assert source is not None
    assert (source.read_bytes(), source.suffix) == (b"content", ".pdf")
    assert not (tmp_path / "upload").exists()
    assert document.state is DocumentState.QUEUED


def test_the_id_depends_on_origin_and_name_alone(library: SqliteLibrary, tmp_path: Path) -> None:
    first = upload(library, tmp_path, "a.txt", b"one")
    assert upload(library, tmp_path, "a.txt", b"two").id == first.id
    assert release(library, "a.txt").id != first.id


def test_the_same_bytes_again_change_nothing(library: SqliteLibrary, tmp_path: Path) -> None:
    document = upload(library, tmp_path, "a.txt", b"one")
    index(library, claimed(library))
    assert upload(library, tmp_path, "a.txt", b"one").state is DocumentState.READY
    assert library.pending() == 0
    source = library.source(document.id)
    assert source is not None and source.read_bytes() == b"one"


def test_other_bytes_replace_file_and_queue_again(library: SqliteLibrary, tmp_path: Path) -> None:
    document = upload(library, tmp_path, "a.txt", b"one")
    index(library, claimed(library))
    before = library.source(document.id)
    replaced = upload(library, tmp_path, "a.txt", b"two")
    assert replaced.state is DocumentState.QUEUED
    assert before is not None and not before.exists()
    assert library.text(document.id) == TEXT  # Searchable with its old text meanwhile.


def test_a_failed_document_is_queued_again_by_the_same_bytes(
    library: SqliteLibrary, tmp_path: Path
) -> None:
    upload(library, tmp_path, "a.txt", b"one")
    assert library.set_state(claimed(library), DocumentState.FAILED, "broken")
    again = upload(library, tmp_path, "a.txt", b"one")
    assert (again.state, again.reason) == (DocumentState.QUEUED, "")
    assert claimed(library).attempt == 1


def test_a_failed_document_keeps_no_text_that_could_be_quoted(
    library: SqliteLibrary, tmp_path: Path
) -> None:
    document = upload(library, tmp_path, "a.txt", b"one")
    index(library, claimed(library))
    upload(library, tmp_path, "a.txt", b"two")
    library.set_state(claimed(library), DocumentState.FAILED, "broken")
    assert library.text(document.id) is None
    assert library.chunks(range(10)) == {}


def test_removing_forgets_text_chunks_and_file(library: SqliteLibrary, tmp_path: Path) -> None:
    document = upload(library, tmp_path, "a.txt", b"one")
    index(library, claimed(library))
    source = library.source(document.id)
    assert library.remove(document.id)
    assert source is not None and not source.exists()
    assert (library.get(document.id), library.text(document.id)) == (None, None)
    assert library.statistics("s").chunks == 0
    assert not library.remove(document.id)


def test_a_file_of_the_release_stays_where_it_is(library: SqliteLibrary, tmp_path: Path) -> None:
    source = tmp_path / "manual.md"
    source.write_text("text")
    document = library.add("manual.md", Origin.RELEASE, source, "0", 4)
    assert library.source(document.id) == source
    library.remove(document.id)
    assert source.exists()


def test_text_and_segments_come_back_as_they_were(library: SqliteLibrary) -> None:
    document = release(library, "a.md")
    index(library, claimed(library))
    assert library.parsed(document.id) == PARSED
    assert [stored.chunk for stored in library.chunks_of(document.id, "s")] == CHUNKS


def test_the_queue_gives_the_release_first_and_then_who_waits_longest(
    library: SqliteLibrary, tmp_path: Path
) -> None:
    upload(library, tmp_path, "z.txt", b"1")
    upload(library, tmp_path, "a.txt", b"2")
    release(library, "manual.md")
    order = [claimed(library).document.name for _ in range(3)]
    assert order == ["manual.md", "z.txt", "a.txt"]
    assert library.claim(1, 0, 1) == []


def test_interrupted_work_is_queued_again_and_counted(library: SqliteLibrary) -> None:
    document = release(library, "a.md")
    claimed(library)
    assert library.requeue_interrupted() == 1
    assert state(library, document) is DocumentState.QUEUED
    assert claimed(library).attempt == 2


def test_what_is_handed_back_is_queued_again_and_not_counted(library: SqliteLibrary) -> None:
    document = release(library, "a.md")
    for _ in range(5):
        library.hand_back([claimed(library)])
        assert state(library, document) is DocumentState.QUEUED
    assert claimed(library).attempt == 1


def test_small_documents_are_taken_together_and_a_large_one_by_itself(
    library: SqliteLibrary, tmp_path: Path
) -> None:
    for name, size in (("large", 90), ("b", 10), ("c", 10), ("d", 10), ("e", 10)):
        upload(library, tmp_path, name, name[:1].encode() * size)
    taken = [[claim.document.name for claim in library.claim(3, 30, 3)] for _ in range(4)]
    assert taken == [["large"], ["b", "c", "d"], ["e"], []]


def test_a_document_at_its_last_attempt_comes_alone(library: SqliteLibrary, tmp_path: Path) -> None:
    upload(library, tmp_path, "killer", b"1")
    for _ in range(2):
        claimed(library)
        library.requeue_interrupted()
    upload(library, tmp_path, "after", b"2")
    release(library, "b.md")
    release(library, "c.md")
    taken = [[claim.document.name for claim in library.claim(9, 99, 3)] for _ in range(3)]
    assert taken == [["b.md", "c.md"], ["killer"], ["after"]]


def test_work_on_a_replaced_document_is_refused(library: SqliteLibrary) -> None:
    release(library, "a.md", "old")
    old = claimed(library)
    release(library, "a.md", "new")
    late = draft(library, old)
    assert library.publish("s", [late], 1.0) == [late]
    assert not library.set_state(old, DocumentState.READY)
    library.hand_back([old])
    new = claimed(library)
    assert (new.document.sha256, new.attempt) == ("new", 1)


def test_work_on_a_removed_document_is_refused(library: SqliteLibrary) -> None:
    document = release(library, "a.md")
    claim = claimed(library)
    library.remove(document.id)
    late = draft(library, claim)
    assert library.publish("s", [late], 1.0) == [late]
    assert library.text(document.id) is None


def test_files_of_no_document_are_swept_and_others_kept(
    library: SqliteLibrary, tmp_path: Path
) -> None:
    document = upload(library, tmp_path, "a.txt", b"one")
    orphan = library.files / "left-over.pdf"
    orphan.write_text("of a crash between the file and its row")
    library.requeue_interrupted()
    source = library.source(document.id)
    assert source is not None and source.exists()
    assert not orphan.exists()


def test_sweeping_keeps_files_of_a_box_that_was_moved(tmp_path: Path) -> None:
    document = upload(SqliteLibrary(tmp_path / "data"), tmp_path, "a.txt", b"one")
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = SqliteLibrary(tmp_path / "moved")
    moved.requeue_interrupted()
    assert [file.name.split("-")[0] for file in moved.files.iterdir()] == [document.id]


def test_the_corpus_is_ready_for_exactly_one_release_and_index(library: SqliteLibrary) -> None:
    assert not library.corpus_ready("r1", "s", "index")
    library.mark_corpus_ready("r1", "s", "index")
    assert library.corpus_ready("r1", "s", "index")
    library.mark_corpus_ready("r2", "s", "index")
    assert not library.corpus_ready("r1", "s", "index")
