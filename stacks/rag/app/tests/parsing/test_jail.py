"""Jails: what a document can do to the box when its reader is taken over. Real processes."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docx
import pytest
from document_files import docx_bytes, pdf, written

from rag_app.errors import DocumentRefused
from rag_app.parsing.jail import Jails
from rag_app.parsing.limits import Limits
from rag_app.parsing.result import MalformedResult, decode


@pytest.fixture(scope="module")
def jails():
    with Jails(Limits(cpu_seconds=5, wall_seconds=8)) as source:
        yield source


def refusal(jails: Jails, path: Path) -> str:
    with pytest.raises(DocumentRefused) as caught:
        jails.parse(path)
    return caught.value.reference


def confined(attempt: str, tmp_path: Path, *, without: str = "") -> str:
    """What `attempt` printed to descriptor 1 in a process of its own that confined itself."""
    source = f"""
        import os, sys
        from rag_app.parsing import confinement, landlock, seccomp
        from rag_app.parsing.limits import Limits
        for module in {without!r}.split():
            getattr(confinement, module).restrict = lambda *_: False
        box = {str(tmp_path)!r}
        measures = confinement.confine(Limits(cpu_seconds=2), confinement.code_folders())
        try:
            {attempt}
        except (OSError, MemoryError) as error:
            os.write(1, type(error).__name__.encode())
        else:
            os.write(1, b"done")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stdout, done.stderr.decode()
    return done.stdout.decode()


def test_every_format_is_read_in_a_jail(jails, tmp_path):
    word = docx.Document()
    word.add_heading("제목", 1)
    for name, content in {
        "a.md": "# 제목\n",
        "b.html": "<h1>제목</h1>",
        "한글 문서.txt": "제목".encode("cp949"),
        "c.pdf": pdf(["제목"]),
        "d.docx": docx_bytes(word),
    }.items():
        assert jails.parse(written(tmp_path, name, content)).text == "제목"


def test_refusals_come_through_with_their_sentence(jails, tmp_path):
    with pytest.raises(DocumentRefused, match="Save a copy without it"):
        jails.parse(written(tmp_path, "a.pdf", pdf(["x"], password="p")))


def test_a_300_mb_file_is_refused_by_its_size(jails, tmp_path):
    path = tmp_path / "large.pdf"
    with path.open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    with pytest.raises(DocumentRefused, match=r"300\.0 MiB, the limit is 200\.0 MiB"):
        jails.parse(path)


@pytest.mark.parametrize("name", ["missing.md", "folder.md", "pipe.md", "link.md"])
def test_what_is_no_file_is_not_opened(jails, tmp_path, name):
    (tmp_path / "folder.md").mkdir()
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "link.md").symlink_to("/etc/hostname")
    assert refusal(jails, tmp_path / name) == "file-missing"


def test_documents_are_read_side_by_side(jails, tmp_path):
    paths = [written(tmp_path, f"{n}.md", f"number {n}") for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        texts = [parsed.text for parsed in pool.map(jails.parse, paths)]
    assert texts == [f"number {n}" for n in range(12)]


def test_a_reader_that_never_ends_is_killed(tmp_path):
    # One unclosed backtick of each length: a search that grows with the square of the length.
    text = "".join("`" * length + "x" for length in range(1, 3000))
    with Jails(Limits(cpu_seconds=60, wall_seconds=1)) as jails:
        assert refusal(jails, written(tmp_path, "a.md", text)) == "out-of-time"
    with Jails(Limits(cpu_seconds=1, wall_seconds=60)) as jails:
        assert refusal(jails, written(tmp_path, "a.md", text)) == "out-of-time"


def test_a_reader_that_needs_too_much_memory_is_refused(tmp_path):
    page = written(tmp_path, "a.html", "<p><b>x</b>" * 1_000_000)
    with Jails(Limits(memory_bytes=256 * 1024 * 1024)) as jails:
        assert refusal(jails, page) == "out-of-memory"


def test_a_lost_zygote_is_replaced(jails, tmp_path):
    path = written(tmp_path, "a.md", "text")
    jails.parse(path)
    jails._process.kill()
    jails._process.wait()
    assert jails.parse(path).text == "text"


def test_jails_die_with_their_worker(tmp_path):
    text = "".join("`" * length + "x" for length in range(1, 3000))
    path = written(tmp_path, "a.md", text)
    jails = Jails(Limits())
    jails.start()
    zygote = jails._process.pid
    reading = threading.Thread(target=lambda: refusal(jails, path))
    reading.start()
    while not (children := Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()):
        pass
    jails.close()
    reading.join(30)
    assert not Path(f"/proc/{children[0]}").exists()


def test_measures_are_reported(jails):
    measures = jails.start()
    assert measures[0] == "limits"
    assert measures[-1] == "audit-hook"


SOCKET_CALL = "import ctypes; ctypes.CDLL(None).socket(2, 1, 0) >= 0 or os.read(-1, 1)"


@pytest.mark.parametrize("without", ["", "seccomp", "landlock", "seccomp landlock"])
@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "os.system('true')",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.fork()",
        "open(box + '/new', 'w')",
        "os.open(box + '/secret', os.O_WRONLY | os.O_TRUNC)",
        "bytearray(2 << 30)",
    ],
)
def test_python_code_is_confined_by_any_one_measure(attempt, without, tmp_path):
    (tmp_path / "secret").write_text("kept")
    assert confined(attempt, tmp_path, without=without) != "done"
    assert (tmp_path / "secret").read_text() == "kept"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("measure", "attempt"),
    [
        ("seccomp", SOCKET_CALL),
        (
            "seccomp",
            "import ctypes; ctypes.CDLL(None).kill(os.getppid(), 0) == 0 or os.read(-1, 1)",
        ),
        ("landlock", "open(box + '/secret').read()"),
        ("landlock", "os.listdir(box)"),
    ],
)
def test_each_measure_alone_confines_native_code_too(jails, measure, attempt, tmp_path):
    if measure not in jails.start():
        pytest.skip(f"this kernel has no {measure}")
    (tmp_path / "secret").write_text("x")
    other = {"seccomp": "landlock", "landlock": "seccomp"}[measure]
    assert confined(attempt, tmp_path, without=other).endswith("Error")


def test_a_confined_process_reaches_no_listener(jails, tmp_path):
    if "network-namespace" not in jails.start():
        pytest.skip("this system gives no network namespace to unprivileged processes")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = struct.pack("!HH4s8x", 0, server.getsockname()[1], bytes([127, 0, 0, 1]))
        attempt = (
            "import ctypes; libc = ctypes.CDLL(None); opened = libc.socket(2, 1, 0);"
            f" address = bytes([2, 0]) + {address[2:]!r};"
            " libc.connect(opened, address, 16) == 0 or os.read(-1, 1)"
        )
        assert confined(attempt, tmp_path, without="seccomp landlock") == "OSError"


VALID = {"text": "ab", "segments": [{"start": 0, "end": 2}], "title": "t"}


@pytest.mark.parametrize(
    "change",
    [
        {"text": "a\u200bb", "segments": [{"start": 0, "end": 3}]},
        {"text": ""},
        {"segments": []},
        {"segments": [{"start": 0, "end": 1}]},
        {"segments": [{"start": 1, "end": 2}]},
        {"segments": [{"start": 0, "end": 2, "page": "1"}]},
        {"segments": [{"start": 0, "end": 2, "heading_path": ["x" * 500]}]},
        {"title": "x" * 500},
        {"title": "a\nb"},
        {"pages": 10**9},
        {"surprise": 1},
    ],
)
def test_an_answer_that_is_not_consistent_is_not_believed(change):
    assert decode(json.dumps({"parsed": VALID}).encode(), Limits()).text == "ab"
    with pytest.raises(MalformedResult):
        decode(json.dumps({"parsed": VALID | change}).encode(), Limits())


@pytest.mark.parametrize("answer", [b"", b"{", b"\x80\x04pickle", b'{"reference": "made-up"}'])
def test_an_answer_that_is_none_is_not_believed(answer):
    with pytest.raises(MalformedResult):
        decode(answer, Limits())
