"""What is uploaded and what is asked: nothing is left out, replaced or misread without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from aibox.assistant import Added, Assistant, gather, readable
from aibox.cli import documents
from aibox.content import find
from aibox.errors import BadUsage, Failed
from aibox.prepare import Workplace
from aibox.talking import ask


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_a_folder_gives_its_files_but_hidden_ones(tmp_path: Path) -> None:
    _fill(tmp_path, "b.md", "hr/leave.md", ".git/config", "hr/.draft.md")
    (tmp_path / "gone").symlink_to("nowhere")
    found = gather([tmp_path])
    assert [name for name, _ in found.files] == ["b.md", "hr/leave.md"]
    assert found.refused == []
    assert found.size == len("b.md") + len("hr/leave.md")


def test_a_file_never_takes_the_place_of_another_of_its_folder(tmp_path: Path) -> None:
    _fill(tmp_path, "a/README.md", "b/README.md")
    found = gather([tmp_path, tmp_path / "a" / "README.md"])
    assert [name for name, _ in found.files] == ["a/README.md"]
    assert [(one["name"], one["reference"]) for one in found.refused] == [
        ("b/README.md", "same-name")
    ]
    error = Added((), tuple(found.refused)).error()
    assert error is not None and error.hint.endswith("./aibox docs add PATH")


def test_a_folder_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _fill(tmp_path, "a.md", "closed/b.md")
    (tmp_path / "loop.md").symlink_to("loop.md")
    list_folder = os.scandir

    def scandir(path: Any) -> Any:
        """A double of a disk that does not let this user into one folder."""
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = gather([tmp_path])
    assert [name for name, _ in found.files] == ["a.md"]
    assert {one["reference"] for one in found.refused} == {"folder-unreadable", "file-unreadable"}


@pytest.mark.parametrize("name", ["missing", "x" * 10_000, "fifo", "with space/x; rm"])
def test_a_path_that_cannot_be_added_is_refused_with_a_command_that_can_be_typed(
    tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BadUsage) as caught:
        gather([tmp_path / name])
    assert caught.value.reference == "path-missing"
    assert (f"'{tmp_path}/with space'" in caught.value.hint) == (" " in name)


def test_a_folder_without_files_is_no_success(tmp_path: Path) -> None:
    _fill(tmp_path, ".hidden")
    with pytest.raises(BadUsage, match="no file in it"):
        gather([tmp_path])


def test_names_of_old_korean_disks_are_read() -> None:
    assert readable(os.fsdecode("휴가 규정.hwp".encode("cp949"))) == "휴가 규정.hwp"
    assert readable("한글.md") == "한글.md"
    readable(os.fsdecode(b"\xff\xfe.md")).encode()


def test_an_empty_name_is_not_the_folder_one_stands_in() -> None:
    with pytest.raises(BadUsage, match="an empty name"):
        documents.add([""])


@pytest.mark.parametrize("question", ["", " \t\n", "how \udcff"])
def test_what_is_no_question_is_refused_before_a_box_is_asked(
    tmp_path: Path, question: str
) -> None:
    place = Workplace(tmp_path / "box", find(), lambda _progress: None)
    with pytest.raises(BadUsage) as caught:
        ask(place, question)
    assert caught.value.reference in ("question-empty", "question-not-text")


class Other(BaseHTTPRequestHandler):
    """A double of another program on the port of the box."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"hello": "world"}')

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[Assistant]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Assistant(server.server_port)
        server.shutdown()


def test_another_program_on_the_port_is_not_taken_for_the_box(other: Assistant) -> None:
    for speak in (other.documents, lambda: other.ask("a question", "", 5.0)):
        with pytest.raises(Failed) as caught:
            speak()
        assert caught.value.reference == "not-a-box"


@pytest.mark.parametrize("document", ["", ".", "..", "a/b", "한글", "\udcff", "x" * 200_000])
def test_no_document_has_an_id_like_that(other: Assistant, document: str) -> None:
    with pytest.raises(BadUsage) as caught:
        other.remove(document)
    assert caught.value.reference == "unknown-document"
