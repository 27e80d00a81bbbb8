"""/api/documents: uploads, lists, passages, originals, removal."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from app_doubles import Box
from starlette.testclient import TestClient

from rag_app.model import DocumentState, Origin

Usage = namedtuple("Usage", "total used free")


def upload(client: TestClient, *files: tuple[str, bytes]) -> object:
    return client.post("/api/documents", files=[("file", file) for file in files])


def leftovers(box: Box) -> list[Path]:
    return list(box.services.uploads.glob("*.part"))


def test_an_upload_is_taken_with_its_digest(client: TestClient, box: Box) -> None:
    content = "여비 규정".encode() * 70_000
    response = upload(client, ("여비 규정 2026.md", content))
    assert response.status_code == 202
    (document,) = response.json()["documents"]
    assert document["name"] == "여비 규정 2026.md"
    assert document["sha256"] == hashlib.sha256(content).hexdigest()
    assert (document["size"], document["origin"]) == (len(content), "user")
    assert box.library.sources[document["id"]].read_bytes() == content
    assert leftovers(box) == []


def test_several_files_come_in_one_request(client: TestClient) -> None:
    response = upload(client, ("a.md", b"one"), ("b.md", b"two"))
    assert [document["name"] for document in response.json()["documents"]] == ["a.md", "b.md"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\kim\\보고서.pdf", "보고서.pdf"),
        ("보고서.md", "보고서.md"),
        ("a\u202egpj.md", "agpj.md"),
        ("x" * 300 + ".md", "x" * 197 + ".md"),
        ('quote".md', 'quote".md'),
    ],
)
def test_names_are_what_people_read(client: TestClient, given: str, kept: str) -> None:
    (document,) = upload(client, (given, b"text")).json()["documents"]
    assert document["name"] == kept


@pytest.mark.parametrize(
    ("files", "status", "reference"),
    [
        ([("big.md", b"x" * 1_000_001)], 413, "too-large"),
        ([("huge.md", b"x" * 2_000_000)], 413, "too-large"),
        ([("a.md", b"x" * 600_000), ("b.md", b"x" * 600_000)], 413, "too-large"),
        ([("empty.md", b"")], 422, "empty-file"),
        ([("good.md", b"good"), ("empty.md", b"")], 422, "empty-file"),
        ([("..", b"x")], 422, "bad-name"),
        ([(f"{n}.md", b"x") for n in range(51)], 413, "too-many-files"),
    ],
)
def test_refused_uploads_leave_nothing_behind(
    client: TestClient, box: Box, files: list[tuple[str, bytes]], status: int, reference: str
) -> None:
    response = upload(client, *files)
    assert response.status_code == status
    assert response.json()["error"]["reference"] == reference
    assert leftovers(box) == []
    assert len(box.library.held) == 1


def test_an_oversized_upload_is_refused_before_a_byte_is_read(client: TestClient) -> None:
    def never() -> bytes:
        raise AssertionError("the body was read")
        yield b""

    response = client.post(
        "/api/documents",
        content=never(),
        headers={"content-length": "300000000", "content-type": "multipart/form-data; boundary=x"},
    )
    assert response.status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\n\r\nbroken of',
    ],
)
def test_a_broken_form_is_refused(client: TestClient, box: Box, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/api/documents", content=body, headers=headers)
    assert response.json()["error"]["reference"] == "not-a-form"
    assert leftovers(box) == []


def test_other_fields_are_refused(client: TestClient) -> None:
    response = client.post("/api/documents", files={"other": ("a.md", b"x")})
    assert response.json()["error"]["reference"] == "unknown-field"


def test_a_disk_without_room_is_said_before_receiving(
    client: TestClient, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 1024))
    response = upload(client, ("a.md", b"x"))
    assert response.status_code == 507
    error = response.json()["error"]
    assert (error["reference"], error["fault"]) == ("disk-full", "the host")
    assert leftovers(box) == []


def test_a_disk_that_fills_up_while_receiving_is_said(
    client: TestClient, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    # /dev/full takes every open and answers every write with ENOSPC.
    whole = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r": whole(Path("/dev/full"), mode.replace("x", "w"))
    )
    response = upload(client, ("a.md", b"x" * 600_000))
    assert response.json()["error"]["reference"] == "disk-full"


def test_the_list_shows_states_and_reasons(client: TestClient, box: Box) -> None:
    box.library.hold("bad.pdf", "", state=DocumentState.FAILED, reason="no text layer")
    body = client.get("/api/documents").json()
    assert body["max_upload_bytes"] == 1_000_000
    bad, good = body["documents"]
    assert (bad["state"], bad["reason"]) == ("failed", "no text layer")
    assert set(good) == {
        "id", "name", "origin", "sha256", "size", "state", "reason", "added", "title", "pages",
        "chunks",
    }  # fmt: skip
    assert client.get(f"/api/documents/{bad['id']}").json() == bad


def test_a_passage_comes_with_the_text_around_it(client: TestClient, box: Box) -> None:
    text = "가" * 100 + "the passage" + "나" * 100
    document = box.library.hold("k.md", text)
    url = f"/api/documents/{document.id}/text?start=100&end=111&context=5"
    body = client.get(url).json()
    assert (body["before"], body["text"], body["after"]) == ("가" * 5, "the passage", "나" * 5)
    assert (body["start"], body["end"], body["length"]) == (100, 111, 211)
    assert body["document"]["name"] == "k.md"


def test_a_span_past_the_end_is_clipped(client: TestClient, box: Box) -> None:
    document = box.library.hold("k.md", "short")
    body = client.get(f"/api/documents/{document.id}/text?start=3&end=900").json()
    assert (body["text"], body["start"], body["end"]) == ("rt", 3, 5)


def test_without_a_span_the_text_comes_whole_up_to_a_limit(client: TestClient, box: Box) -> None:
    short, long = box.library.hold("s.md", "short"), box.library.hold("l.md", "x" * 150_000)
    assert client.get(f"/api/documents/{short.id}/text").json()["text"] == "short"
    body = client.get(f"/api/documents/{long.id}/text?context=0").json()
    assert (len(body["text"]), body["end"], body["length"]) == (100_000, 100_000, 150_000)


@pytest.mark.parametrize("query", ["start=-1", "end=x", "start=1e3", "start=" + "9" * 40])
def test_a_malformed_span_is_refused(client: TestClient, box: Box, query: str) -> None:
    (document,) = box.library.documents()
    assert client.get(f"/api/documents/{document.id}/text?{query}").status_code == 422


def test_an_unread_document_has_no_text_yet(client: TestClient, box: Box) -> None:
    document = box.library.hold("new.md", "", state=DocumentState.QUEUED)
    response = client.get(f"/api/documents/{document.id}/text")
    assert response.json()["error"]["reference"] == "not-read-yet"


def test_the_original_is_a_download_that_cannot_run(client: TestClient) -> None:
    page = b"<script>alert(1)</script>"
    (document,) = upload(client, ("보고서.html", page)).json()["documents"]
    response = client.get(f"/api/documents/{document['id']}/file")
    assert response.content == page
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment; filename*=utf-8''%EB")
    assert "sandbox" in response.headers["content-security-policy"]


def test_removal_reaches_library_and_vectors(client: TestClient, box: Box) -> None:
    (document,) = box.library.documents()
    assert client.delete(f"/api/documents/{document.id}").status_code == 204
    assert box.library.documents() == []
    assert box.vectors.deleted == [document.id]


def test_removal_works_while_the_vectors_are_down(client: TestClient, box: Box) -> None:
    box.vectors.down = True
    (document,) = box.library.documents()
    assert client.delete(f"/api/documents/{document.id}").status_code == 204
    assert box.library.documents() == []


def test_a_document_of_the_release_stays(client: TestClient, box: Box) -> None:
    document = box.library.hold("m.md", "text", origin=Origin.RELEASE)
    response = client.delete(f"/api/documents/{document.id}")
    assert (response.status_code, document.id in box.library.held) == (409, True)


@pytest.mark.parametrize("path", ["", "/text", "/file"])
def test_an_unknown_document_is_404(client: TestClient, path: str) -> None:
    response = client.get(f"/api/documents/none{path}")
    assert response.status_code == 404
    assert response.json()["error"]["reference"] == "unknown-document"


def test_leftovers_of_a_killed_process_are_removed_at_the_start(box: Box) -> None:
    from rag_app.web.app import build

    stale = box.services.uploads / "dead.part"
    stale.write_bytes(b"half")
    with TestClient(build(box.services)):
        assert not stale.exists()
