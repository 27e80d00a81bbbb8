"""The vectors process as a whole: survives kills, refuses a second one, answers while busy."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import vectors_process as vectors
from async_helpers import run

from rag_app.errors import VectorsUnavailable
from rag_app.interfaces import Point, SparseVector
from rag_app.vectors.client import VectorReaderClient


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "box 상자"  # Spaces and Hangul in the path of the box root.
    folder.mkdir()
    return folder


def points(first: int, number: int, document: str = "d") -> list[Point]:
    return [
        Point(identity, document, SparseVector((identity % 50, 1000 + identity), (1.0, 2.0)))
        for identity in range(first, first + number)
    ]


def test_points_are_found_through_the_socket_that_only_the_owner_may_use(root: Path) -> None:
    async def search() -> list[int]:
        reader = VectorReaderClient(root / vectors.SOCKET, vectors.SIGNATURE)
        assert (await reader.ready()).ready
        hits = await reader.search(SparseVector((1003,), (1.0,)), None, 5)
        assert await reader.count() == 20
        await reader.delete("d")
        assert await reader.count() == 0
        await reader.close()
        return [hit.id for hit in hits.sparse]

    with vectors.serving(root) as process:
        vectors.writer(root).upsert(points(0, 20))
        assert run(search()) == [3]
        mode = (root / vectors.SOCKET).stat().st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
        process.terminate()
        assert process.wait(timeout=vectors.PATIENCE_S) == 0


def test_what_was_acknowledged_survives_kill_9(root: Path) -> None:
    acknowledged = 0
    for _ in range(3):
        with vectors.serving(root) as process:
            client = vectors.writer(root)
            assert client.count() >= acknowledged
            killer = threading.Timer(0.3, process.send_signal, (signal.SIGKILL,))
            killer.start()
            with pytest.raises(VectorsUnavailable):
                while True:
                    client.upsert(points(acknowledged, 200, f"d{acknowledged}"))
                    acknowledged += 200
            killer.join()
            process.wait(timeout=vectors.PATIENCE_S)
    with vectors.serving(root):
        counts = vectors.writer(root).counts()
    expected = {f"d{first}": 200 for first in range(0, acknowledged, 200)}
    assert expected
    assert {document: counts.get(document) for document in expected} == expected


def test_a_busy_engine_does_not_outlive_a_killed_service(root: Path) -> None:
    with vectors.serving(root) as process:
        (engine,) = vectors.children(process.pid)
        os.kill(engine, signal.SIGSTOP)  # As busy as can be: it does not even read its input.
        process.kill()
        assert vectors.wait_for_end(engine)


def test_the_service_ends_when_its_engine_dies(root: Path) -> None:
    with vectors.serving(root) as process:
        (engine,) = vectors.children(process.pid)
        os.kill(engine, signal.SIGKILL)
        assert process.wait(timeout=vectors.PATIENCE_S) == 1
        assert process.stderr is not None
        assert b"ended unexpectedly" in process.stderr.read()


def test_a_second_process_is_refused_and_the_first_goes_on(root: Path) -> None:
    with vectors.serving(root) as first:
        second = vectors.start(root)
        _, message = second.communicate(timeout=vectors.PATIENCE_S)
        assert second.returncode == 1
        assert f"another vectors process (pid {first.pid}) already serves" in message.decode()
        assert vectors.writer(root).count() == 0


def test_a_request_for_another_index_is_refused(root: Path) -> None:
    with vectors.serving(root), pytest.raises(VectorsUnavailable, match="is served, not other"):
        vectors.writer(root, "other").ensure()


def test_readiness_is_answered_while_the_engine_is_busy(root: Path) -> None:
    async def ready_meanwhile() -> bool:
        reader = VectorReaderClient(root / vectors.SOCKET, vectors.SIGNATURE)
        readiness = await reader.ready()
        await reader.close()
        return readiness.ready

    with vectors.serving(root) as process:
        (engine,) = vectors.children(process.pid)
        os.kill(engine, signal.SIGSTOP)
        try:
            assert run(ready_meanwhile())
        finally:
            os.kill(engine, signal.SIGCONT)


def test_without_a_process_clients_say_so(tmp_path: Path) -> None:
    async def unreachable() -> str:
        reader = VectorReaderClient(tmp_path / "none.sock", "s")
        readiness = await reader.ready()
        with pytest.raises(VectorsUnavailable):
            await reader.count()
        await reader.close()
        return readiness.reason

    assert run(unreachable()) == "the search index cannot be reached"
    with pytest.raises(VectorsUnavailable, match="cannot be reached"):
        vectors.writer(tmp_path, patience_s=0).ensure()


def test_malformed_requests_get_an_answer(root: Path) -> None:
    import httpx

    with vectors.serving(root):
        transport = httpx.HTTPTransport(uds=str(root / vectors.SOCKET))
        headers = {"x-index-signature": vectors.SIGNATURE}
        with httpx.Client(transport=transport, base_url="http://v", headers=headers) as client:
            assert client.post("/search", content=b"{").status_code == 400
            assert client.post("/search", json={}).status_code == 400
            wrong = {"sparse": [[1], "weights"], "dense": None, "limit": 1}
            assert client.post("/search", json=wrong).status_code == 503
            assert client.get("/count").json() == 0


def test_a_socket_left_by_a_dead_process_is_replaced(root: Path) -> None:
    (root / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        here = Path.cwd()
        os.chdir(root)
        try:
            stale.bind(str(vectors.SOCKET))
        finally:
            os.chdir(here)
    with vectors.serving(root):
        assert vectors.writer(root).count() == 0


@pytest.mark.parametrize(
    "module",
    [
        "rag_app.vectors.client",
        "rag_app.vectors.service",
        "rag_app.retrieval",
        "rag_app.web.server",
        "rag_app.ingest.worker",
    ],
)
def test_no_other_process_imports_the_engine(module: str) -> None:
    code = f"import sys, {module}; print([name for name in sys.modules if 'qdrant' in name])"
    assert printed_by(code) == "[]"


@pytest.mark.parametrize("heavy", ["numpy", "grpc", "qdrant_client", "qdrant_edge"])
def test_speaking_to_a_server_needs_no_library_of_its_own(heavy: str) -> None:
    code = f"import sys, rag_app.vectors.qdrant.clients; print({heavy!r} in sys.modules)"
    assert printed_by(code) == "False"


def printed_by(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
