"""A Qdrant server that is away, busy, locked, old, or holds something else; and healing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from async_helpers import run
from loopback import serving
from qdrant_servers import KEY, key_file
from starlette.responses import Response

from certificates import Authority
from qdrant_double import QdrantDouble, faulty
from rag_app import errors
from rag_app.config import Vectors
from rag_app.interfaces import Hits, Point, SparseVector
from rag_app.vectors.qdrant import wire
from rag_app.vectors.qdrant.clients import QdrantReader, QdrantWriter
from rag_app.vectors.qdrant.transport import Attempts

SIGNATURE = "0123456789abcdef"
NAME = wire.collection_name(SIGNATURE)
WORD = SparseVector((1,), (1.0,))
Fault = Callable[[str, str], Response | None]


class Faults:
    """Answers the first `times` requests whose path ends so with `response`; counts them all."""

    def __init__(self, ending: str, response: Response, times: int) -> None:
        self._ending = ending
        self._response = response
        self.left = times
        self.asked = 0

    def __call__(self, method: str, path: str) -> Response | None:
        if not path.endswith(self._ending):
            return None
        self.asked += 1
        self.left -= 1
        return self._response if self.left >= 0 else None


def refusal(status: int, message: str = "on order", **headers: str) -> Response:
    return Response(orjson.dumps({"status": {"error": message}}), status, headers)


@contextmanager
def served(folder: Path, fault: Fault | None = None, version: str = "1.19.0") -> Iterator[Vectors]:
    """The double with a fault."""
    double = QdrantDouble(folder / "storage", KEY, version)
    with serving(faulty(double.application(), fault or (lambda *_: None))) as url:
        settings = Vectors(kind="server", url=url, api_key_file=key_file(folder), timeout_s=2.0)
        yield settings
    double.close()


@contextmanager
def writing(
    settings: Vectors, dimension: int = 0, signature: str = SIGNATURE
) -> Iterator[QdrantWriter]:
    writer = QdrantWriter(settings, signature, dimension)
    yield writer
    writer.close()


def refused_with(writer: QdrantWriter, said: str) -> errors.VectorsUnavailable:
    with pytest.raises(errors.VectorsUnavailable, match=said) as failure:
        writer.ensure()
    return failure.value


def searched(settings: Vectors) -> Hits:
    async def work() -> Hits:
        reader = QdrantReader(settings, SIGNATURE, 0)
        try:
            return await reader.search(WORD, None, 5)
        finally:
            await reader.close()

    return run(work())


def reason(settings: Vectors, dimension: int = 0) -> str:
    async def work() -> str:
        reader = QdrantReader(settings, SIGNATURE, dimension)
        readiness = await reader.ready()
        await reader.close()
        assert readiness.ready == (not readiness.reason)
        return readiness.reason

    return run(work())


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_busy_server_is_asked_again(tmp_path: Path, status: int) -> None:
    faults = Faults("/points", refusal(status), 2)
    with served(tmp_path, faults) as settings, writing(settings) as writer:
        writer.ensure()
        writer.upsert([Point(1, "d", WORD)])
        assert (faults.asked, writer.count()) == (3, 1)
        assert [hit.id for hit in searched(settings).sparse] == [1]


@pytest.mark.parametrize("status", [400, 422, 500])
def test_what_another_attempt_would_not_mend_is_said_at_once(tmp_path: Path, status: int) -> None:
    faults = Faults("/points", refusal(status, "Wrong input: vector"), 9)
    with served(tmp_path, faults) as settings, writing(settings) as writer:
        writer.ensure()
        with pytest.raises(errors.VectorsUnavailable, match=f"HTTP {status}: Wrong input: vector"):
            writer.upsert([Point(1, "d", WORD)])
    assert faults.asked == 1


def test_a_server_is_left_alone_as_long_as_it_asks(tmp_path: Path) -> None:
    faults = Faults("/count", refusal(429, **{"retry-after": "1"}), 1)
    with served(tmp_path, faults) as settings, writing(settings) as writer:
        writer.ensure()
        begun = time.monotonic()
        assert writer.count() == 0
        assert time.monotonic() - begun >= 1.0


def test_a_search_ends_at_its_deadline_however_long_the_server_asks_for(tmp_path: Path) -> None:
    faults = Faults("/batch", refusal(429, **{"retry-after": "3600"}), 9)
    with served(tmp_path, faults) as settings, writing(settings) as writer:
        writer.ensure()
        begun = time.monotonic()
        with pytest.raises(errors.VectorsUnreachable, match="HTTP 429"):
            searched(settings)
        assert time.monotonic() - begun < settings.timeout_s + 10


def test_pauses_grow_until_the_deadline() -> None:
    attempts = Attempts(60.0)
    away = errors.VectorsUnreachable("away")
    pauses = [attempts.pause_s(away) for _ in range(10)]
    assert 0.025 <= pauses[0] <= 0.05
    assert 1.0 <= pauses[-1] <= 2.0
    with pytest.raises(errors.VectorsUnreachable, match="away"):
        Attempts(0.0).pause_s(away)


def test_nobody_there_is_told_within_the_patience() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = Vectors(kind="server", url=f"http://127.0.0.1:{port}", timeout_s=0.3)
    with pytest.raises(errors.VectorsUnreachable, match=r"cannot be reached \("):
        searched(settings)
    assert "cannot be reached" in reason(settings)
    with writing(settings) as writer, pytest.raises(errors.VectorsUnreachable):
        writer.ensure()


def test_a_server_that_is_silent_does_not_hold_a_search_longer_than_agreed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = Vectors(kind="server", url=url, timeout_s=0.4)
        begun = time.monotonic()
        with pytest.raises(errors.VectorsUnreachable, match="not answer in time"):
            searched(settings)
        assert 0.4 <= time.monotonic() - begun < 4  # A client that is told nothing waits for 5.
        assert "not answer in time" in reason(settings)


def test_a_server_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = Vectors(kind="server", url=f"http://127.0.0.1:{port}", timeout_s=5.0)
    double = QdrantDouble(tmp_path / "storage")
    ready, end = threading.Event(), threading.Event()

    def late() -> None:
        time.sleep(0.5)
        with serving(double.application(), port):
            ready.set()
            end.wait(20)

    thread = threading.Thread(target=late)
    thread.start()
    with writing(settings) as writer:
        assert writer.ensure()
    assert ready.is_set()
    end.set()
    thread.join()


@pytest.mark.parametrize("key", ["wrong-canary", None])
def test_a_wrong_key_is_named_and_never_shown(tmp_path: Path, key: str | None) -> None:
    with served(tmp_path) as right:
        file = key_file(tmp_path, key) if key else None
        settings = right.model_copy(update={"api_key_file": file})
        with writing(settings) as writer, pytest.raises(errors.VectorsKeyRefused) as failure:
            writer.ensure()
        assert "vectors.api_key_file (HTTP 401" in str(failure.value)
        assert "canary" not in str(failure.value)
        assert "refuses the key" in reason(settings)


def test_a_key_that_may_only_read_is_said_so(tmp_path: Path) -> None:
    forbidden = Faults(NAME, refusal(403, "Forbidden: Global manage access is required"), 99)

    def fault(method: str, path: str) -> Response | None:
        return forbidden(method, path) if method == "PUT" else None

    with served(tmp_path, fault) as settings, writing(settings) as writer:
        failure = refused_with(writer, "HTTP 403: Forbidden: Global manage")
        assert isinstance(failure, errors.VectorsKeyRefused)


@pytest.mark.parametrize("version", ["1.18.9", "0.11.0", "2.0.0", "latest"])
def test_another_version_is_refused_before_anything_is_made(tmp_path: Path, version: str) -> None:
    with served(tmp_path, version=version) as settings, writing(settings) as writer:
        with pytest.raises(errors.VectorsVersionUnfit):
            writer.ensure()
        assert reason(settings)
    assert not list((tmp_path / "storage" / "collections").iterdir())


@pytest.mark.parametrize("version", ["1.19.0", "1.19.4", "1.20.1", "1.21.0-dev"])
def test_versions_from_the_least_on_will_do(tmp_path: Path, version: str) -> None:
    with served(tmp_path, version=version) as settings, writing(settings) as writer:
        assert writer.ensure()


@pytest.mark.parametrize("body", [b"<html>nginx</html>", b"[]", b'{"title": "another"}'])
def test_what_is_no_qdrant_is_said_so(tmp_path: Path, body: bytes) -> None:
    with served(tmp_path, lambda *_: Response(body)) as settings, writing(settings) as writer:
        with pytest.raises(errors.VectorsVersionUnfit, match="is not Qdrant"):
            writer.ensure()
        assert "is not Qdrant" in reason(settings)


def test_redirects_are_not_followed(tmp_path: Path) -> None:
    elsewhere = Response(status_code=307, headers={"location": "http://127.0.0.1:9/"})
    with served(tmp_path, lambda *_: elsewhere) as settings, writing(settings) as writer:
        refused_with(writer, "HTTP 307")


def test_a_collection_of_another_vector_size_is_refused_and_left_alone(tmp_path: Path) -> None:
    with served(tmp_path) as settings:
        with writing(settings, 3) as writer:
            name = writer.ensure()
            writer.upsert([Point(1, "d", WORD, (1.0, 0.0, 0.0))])
        with writing(settings, 4) as other, pytest.raises(errors.VectorsCollectionUnfit) as failure:
            other.ensure()
        assert f"{NAME} has the vectors" in str(failure.value)
        assert "not {'bm25': 'idf', 'dense': [4, 'Cosine']}" in str(failure.value)
        assert "has the vectors" in reason(settings, 4)
        with writing(settings, 3) as writer:
            assert (writer.ensure(), writer.count()) == (name, 1)


def test_a_collection_of_somebody_else_is_refused(tmp_path: Path) -> None:
    double = QdrantDouble(tmp_path / "storage")
    with serving(double.application()) as url:
        settings = Vectors(kind="server", url=url)
        with writing(settings) as writer:
            writer.ensure()
            double.collections[NAME].change_metadata({"rag_index": None})
            with pytest.raises(errors.VectorsCollectionUnfit, match="not made by this"):
                writer.ensure()
    double.close()


def test_before_the_first_writer_readers_say_what_is_missing(tmp_path: Path) -> None:
    with served(tmp_path) as settings:
        assert reason(settings) == "the search index has not been made yet"
        with pytest.raises(errors.VectorsUnavailable, match="not been made yet"):
            searched(settings)


def test_two_writers_at_once_make_one_collection(tmp_path: Path) -> None:
    """Both see that there is none; the one that comes second takes what the first has made."""
    with served(tmp_path) as settings, writing(settings) as one, writing(settings) as other:
        first = one.ensure()
        assert other._create().index == first  # As if it had looked before.
        assert other.ensure() == first


def test_a_collection_that_was_removed_comes_back_under_a_new_name(tmp_path: Path) -> None:
    with served(tmp_path) as settings, writing(settings) as writer:
        before = writer.ensure()
        writer.upsert([Point(1, "d", WORD)])
        writer._transport.ask(wire.drop(NAME))
        writer.upsert([Point(2, "d", WORD)])
        assert writer.ensure() != before
        assert writer.counts() == {"d": 1}


def test_indexes_of_earlier_releases_are_kept_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = QdrantDouble(tmp_path / "storage")
    signatures = [f"{number:016x}" for number in range(5)]
    with serving(double.application()) as url:
        settings = Vectors(kind="server", url=url)
        foreign = wire.create("customers", 0, "x")
        with writing(settings) as writer:
            writer._transport.ask(foreign)
        for seconds, signature in enumerate([*signatures, signatures[3]]):
            monkeypatch.setattr(
                "rag_app.vectors.qdrant.clients.time.time", lambda s=seconds: 100 + s
            )
            with writing(settings, signature=signature) as writer:
                writer.ensure()
    kept = {wire.collection_name(signature) for signature in signatures[2:]}
    assert set(double.collections) == kept | {"customers"}
    double.close()


def test_many_points_are_sent_in_parts_of_a_bounded_size() -> None:
    points = [Point(number, "d", SparseVector((number,), (0.5,))) for number in range(100)]
    calls = list(wire.upserts(NAME, points, most_bytes=1000))
    assert len(calls) > 5
    assert all(len(call.body or b"") < 1100 for call in calls)
    sent = [point["id"] for call in calls for point in orjson.loads(call.body or b"")["points"]]
    assert sent == list(range(100))
    assert len(list(wire.upserts(NAME, points[:1], most_bytes=1))) == 1
    assert not list(wire.upserts(NAME, []))


def test_a_proxy_of_the_environment_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with served(tmp_path) as settings, writing(settings) as writer:
        assert writer.ensure()


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for content in (None, b"no certificate"):
        path = tmp_path / "ca.pem"
        if content:
            path.write_bytes(content)
        settings = Vectors(kind="server", url="https://127.0.0.1:9", ca_file=path)
        with pytest.raises(errors.ConfigError, match=r"vectors\.ca_file"):
            QdrantWriter(settings, SIGNATURE, 0)


def test_a_certificate_that_nobody_vouches_for_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other", "another authority")
    double = QdrantDouble(tmp_path / "storage", KEY)
    with serving(double.application(), certificate=authority.vouches_for("localhost")) as url:
        known = Vectors(
            kind="server", url=url, api_key_file=key_file(tmp_path), ca_file=authority.file
        )
        with writing(known) as writer:
            assert writer.ensure()
        unknown = known.model_copy(update={"ca_file": other.file})
        with writing(unknown) as writer:
            refused_with(writer, "certificate verify failed")
        assert reason(known) == ""
        assert "certificate verify failed" in reason(unknown)
    double.close()
