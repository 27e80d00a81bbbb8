"""`web` and `ingest` as two containers run them: beside a Qdrant server, behind a gateway.

Real processes and a double of the server in a process of its own. The file system is read-only
but for data/, run/ and /tmp, there is no home folder, and nothing but SIGTERM ends them.
"""

from __future__ import annotations

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread

import httpx
import pytest
import write_only
from processes import RunningBox, free_port, running_box
from qdrant_servers import KEY, key_file

import qdrant_double

NAMES = ("ingest", "web")
GATEWAY = 'host = "0.0.0.0"\nbehind_gateway = true\nallowed_hosts = ["*"]'
DOCUMENTS = {
    "manual.md": "# Roll back\n\nTo roll back a failed upgrade, run `aibox rollback`.\n",
    "여비.md": "# 여비 규정\n\n국내 출장 숙박비는 1박 90,000원을 한도로 실비를 지급한다.\n",
}
DEAD_ENGINE = """
[engine]
kind = "openai"
url = "http://127.0.0.1:9/v1"
model = "m"
api_key_file = "{key}"
in_box = true
"""
STOP_WITHIN_S = 10.0


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The double as a program, with a key, once it listens."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, qdrant_double.__file__, "--port", str(port)]
    command += ["--api-key-file", str(key_file(folder)), "--storage", str(folder / "storage")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert "This is a DOUBLE of a Qdrant server" in said and KEY not in said
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False))
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=STOP_WITHIN_S)


def wait_until(holds: object, patience_s: float = 30.0) -> None:
    """Poll until `holds` gives something true; errors of connections count as not yet."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if holds():  # type: ignore[operator]
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def vectors(port: int, key: Path) -> str:
    return f"""
[vectors]
kind = "server"
url = "http://127.0.0.1:{port}"
api_key_file = "{key}"
timeout_s = 1.0
"""


def within(root: Path) -> list[str]:
    """What a container's process runs within: where it may write, and an empty environment."""
    path = f"PYTHONPATH={':'.join(filter(None, sys.path))}"
    clean = ["env", "--ignore-environment", "HOME=/nonexistent", path]
    if not write_only.available():
        return clean
    folders = [str(root / "data"), str(root / "run"), "/tmp", "/dev/null"]
    return [*clean, sys.executable, write_only.__file__, *folders, "--"]


@pytest.fixture
def root() -> Iterator[Path]:
    """Not below /tmp, so that what is written elsewhere in the box root must fail."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("there is no /dev/shm")
    folder = Path(mkdtemp(prefix="rag-app-", dir=memory))
    yield folder
    shutil.rmtree(folder)


def asked(box: RunningBox, question: str, **headers: str) -> dict[str, object]:
    response = httpx.post(
        f"{box.url}/api/ask", json={"question": question}, headers=headers, trust_env=False
    )
    assert response.status_code == 200, response.text
    body: dict[str, object] = response.json()
    return body


def status(box: RunningBox) -> tuple[int, str]:
    answer = httpx.get(f"{box.url}/readyz", trust_env=False)
    return answer.status_code, answer.json().get("reason", "")


def test_answers_come_from_a_server_and_heal_when_it_was_away(root: Path, tmp_path: Path) -> None:
    port = free_port()
    sections = vectors(port, key_file(tmp_path))
    with (
        server(tmp_path / "qdrant", port) as first,
        running_box(
            root, DOCUMENTS, names=NAMES, server=GATEWAY, engine=sections, within=within(root)
        ) as box,
    ):
        name = {"host": "box.example", "x-forwarded-for": "10.0.0.9", "x-forwarded-proto": "x"}
        answer = asked(box, "국내 출장 숙박비는 얼마까지 되나요?", **name)
        assert "90,000원" in str(answer["answer"]) and answer["grounded"]

        first.kill()
        first.wait()
        wait_until(lambda: status(box)[0] == 503)
        assert "cannot be reached" in status(box)[1]
        away = httpx.post(f"{box.url}/api/ask", json={"question": "roll back?"}, trust_env=False)
        assert (away.status_code, away.json()["error"]["reference"]) == (
            503,
            "search-unavailable",
        )
        files = {"file": ("new.md", b"# Parking\n\nVisitors park on deck seven.\n")}
        httpx.post(f"{box.url}/api/documents", files=files, trust_env=False).raise_for_status()

        with server(tmp_path / "qdrant", port):
            wait_until(lambda: status(box)[0] == 200)
            wait_until(lambda: "deck seven" in str(asked(box, "Where do visitors park?")))
            for process in NAMES:
                code, seconds = box.stop(process)
                assert (code, seconds < STOP_WITHIN_S) == (0, True), box.logs()
    assert KEY not in box.logs()
    assert "Permission denied" not in box.logs()


@pytest.mark.skipif(not write_only.available(), reason="the kernel has no Landlock")
def test_the_stand_in_for_a_read_only_file_system_holds(root: Path) -> None:
    for folder, allowed in (("data", True), ("elsewhere", False)):
        (root / folder).mkdir()
        (root / "run").mkdir(exist_ok=True)
        code = f"open({str(root / folder / 'file')!r}, 'w')"
        done = subprocess.run(
            [*within(root), sys.executable, "-c", code], capture_output=True, check=False
        )
        assert (done.returncode == 0) == allowed, done.stderr


def test_a_dead_engine_degrades_to_quotes_and_says_so(root: Path, tmp_path: Path) -> None:
    port = free_port()
    key = key_file(tmp_path)
    sections = vectors(port, key) + DEAD_ENGINE.format(key=key)
    with (
        server(tmp_path / "qdrant", port),
        running_box(
            root, DOCUMENTS, names=NAMES, server=GATEWAY, engine=sections, within=within(root)
        ) as box,
    ):
        answer = asked(box, "How do I roll back a failed upgrade?")
        assert answer["degraded"] == "The language model cannot be reached."
        assert (answer["engine"], answer["grounded"]) == ("extractive", True)
        assert "aibox rollback" in str(answer["answer"])
        assert httpx.get(f"{box.url}/healthz", trust_env=False).json()["engine_host"] == ""


def test_silent_neighbours_do_not_keep_the_processes_from_ending(
    root: Path, tmp_path: Path
) -> None:
    """A server that takes requests and never answers: the worst moment to be told to stop."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sections = vectors(silent.getsockname()[1], key_file(tmp_path))
        with running_box(
            root, DOCUMENTS, names=NAMES, server=GATEWAY, engine=sections, wait=False
        ) as box:
            wait_until(lambda: status(box)[0] == 503)
            wait_until(lambda: "jails" in box.logs())
            for name in NAMES:
                code, seconds = box.stop(name)
                assert (code, seconds < STOP_WITHIN_S) == (0, True), box.logs()


def test_a_locked_library_does_not_keep_the_web_process_from_ending(root: Path) -> None:
    """A thread that waits for a lock cannot be called off; what it was to answer has its grace."""
    made = running_box(root, DOCUMENTS, names=("web",), server="stop_grace_s = 3", wait=False)
    with made as box, ExitStack() as stack:
        wait_until(lambda: httpx.get(f"{box.url}/healthz", trust_env=False))
        library = sqlite3.connect(root / "data" / "rag" / "library.sqlite", isolation_level=None)
        stack.callback(library.close)
        library.execute("BEGIN IMMEDIATE")
        upload = Thread(target=_upload_in_vain, args=(box.url,))
        upload.start()
        stack.callback(upload.join)
        uploads = root / "data" / "rag" / "uploads"
        wait_until(lambda: any(uploads.iterdir()))
        code, seconds = box.stop("web")
        assert (code, seconds < STOP_WITHIN_S) == (0, True), box.logs()


def _upload_in_vain(url: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(f"{url}/api/documents", files={"file": ("a.md", b"# A")}, trust_env=False)


def test_told_to_stop_while_it_starts_a_process_ends_with_0(root: Path) -> None:
    with running_box(root, {}, names=("web",), wait=False) as box:
        wait_until(lambda: _catches_sigterm(box.pids["web"]))
        assert box.stop("web")[0] == 0


def _catches_sigterm(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_where_the_index_is_in_a_server_there_is_no_vectors_process(
    root: Path, tmp_path: Path
) -> None:
    sections = vectors(9, key_file(tmp_path))
    with running_box(root, {}, names=("vectors",), engine=sections, wait=False) as box:
        wait_until(lambda: 'vectors.kind is "server"' in box.logs())
