from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aibox.box.http import Loopback
from aibox.errors import BadUsage, Failed, Fault

REFUSAL = {
    "reference": "too-large",
    "message": "it is too large",
    "hint": "split it",
    "fault": "you",
}


class Double(BaseHTTPRequestHandler):
    """Stands in for the web service: answers by path and remembers what it was sent."""

    received: list[tuple[str, dict[str, str], bytes]]

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.1/")
            self.end_headers()
        elif self.path == "/page":
            self._say(200, b"<html>", "text/html")
        else:
            self._say(503, json.dumps({"ready": False, "reason": "indexing"}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).received.append((self.path, dict(self.headers), body))
        if self.path == "/hints":
            self._say(422, json.dumps({"error": {**REFUSAL, **json.loads(body)}}).encode())
        elif self.path == "/refused":
            self._say(413, json.dumps({"error": REFUSAL}).encode())
        elif self.path == "/broken":
            self._say(500, b"oops")
        else:
            self._say(200, json.dumps({"bytes": len(body)}).encode())

    def _say(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Double.received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Double) as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def client(server: ThreadingHTTPServer) -> Iterator[Loopback]:
    with Loopback(server.server_port) as found:
        yield found


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "example.org", "127.0.0.1.example.org"])
def test_a_host_elsewhere_is_refused_before_anything_is_sent(host: str) -> None:
    with pytest.raises(BadUsage, match="only spoken to on this host"):
        Loopback(80, host)


@pytest.mark.parametrize("path", ["//192.0.2.1/", "http://192.0.2.1/", "healthz"])
def test_a_path_cannot_lead_to_another_host(client: Loopback, path: str) -> None:
    with pytest.raises(ValueError, match="one slash"):
        client.ask("GET", path)


def test_redirects_are_reported_and_not_followed(client: Loopback) -> None:
    assert client.ask("GET", "/elsewhere").status == 302


def test_proxies_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, server: ThreadingHTTPServer
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with Loopback(server.server_port) as client:
        assert client.call("POST", "/any", {}) == {"bytes": 2}


def test_a_status_that_is_an_answer_is_not_an_error(client: Loopback) -> None:
    answer = client.ask("GET", "/readyz")
    assert (answer.status, answer.body["reason"]) == (503, "indexing")


def test_a_body_that_is_not_json_is_none(client: Loopback) -> None:
    assert client.ask("GET", "/page").body is None


def test_korean_travels_unharmed(client: Loopback) -> None:
    client.call("POST", "/any", {"question": "되돌리려면?"})
    assert json.loads(Double.received[0][2]) == {"question": "되돌리려면?"}


def test_what_the_service_refuses_reaches_the_user_in_its_words(client: Loopback) -> None:
    with pytest.raises(BadUsage, match="it is too large") as caught:
        client.call("POST", "/refused", {})
    assert caught.value.reference == "too-large"
    assert caught.value.hint.startswith("split it; or ")
    assert caught.value.fault is Fault.YOU


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Type: aibox docs list", "Type: ./aibox docs list"),
        ("Type: aibox no-such-command", "see what the box says of itself with: ./aibox status"),
        ("", "see what the box says of itself with: ./aibox status"),
        ("Send less.", "Send less; or see what the box says of itself with: ./aibox status"),
    ],
)
def test_a_hint_of_the_service_ends_with_a_command_that_there_is(
    client: Loopback, said: str, hint: str
) -> None:
    with pytest.raises(BadUsage) as caught:
        client.call("POST", "/hints", {"hint": said})
    assert caught.value.hint == hint


def test_a_redirect_is_no_success(client: Loopback) -> None:
    with pytest.raises(Failed, match="HTTP status 302"):
        client.call("GET", "/elsewhere")


def test_a_failure_without_words_is_ours(client: Loopback) -> None:
    with pytest.raises(Failed, match="HTTP status 500") as caught:
        client.call("POST", "/broken", {})
    assert caught.value.fault is Fault.US


def test_nobody_there_says_how_to_start_the_box(server: ThreadingHTTPServer) -> None:
    server.server_close()
    with Loopback(server.server_port) as client, pytest.raises(Failed) as caught:
        client.ask("GET", "/healthz")
    assert caught.value.reference == "box-not-answering"
    assert caught.value.hint.endswith("./aibox start")


def test_silence_is_told_apart_from_absence() -> None:
    with Silent() as port, Loopback(port, timeout_s=0.2) as client, pytest.raises(Failed) as caught:
        client.ask("GET", "/healthz")
    assert caught.value.reference == "box-too-slow"


def test_an_upload_keeps_its_name_and_tells_how_far_it_is(client: Loopback, tmp_path: Path) -> None:
    document = tmp_path / "x"
    document.write_bytes(b"0123456789" * 100_000)
    pieces: list[int] = []
    client.upload("/upload", [("사용 설명서 1.pdf", document)], on_bytes=pieces.append)
    _, headers, body = Double.received[0]
    assert sum(pieces) == 1_000_000 and max(pieces) <= 1 << 16
    assert "사용 설명서 1.pdf".encode() in body and b'name="file"' in body
    assert headers["Content-Type"].startswith("multipart/form-data")


def test_a_file_that_cannot_be_read_is_named(client: Loopback, tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match=r"missing\.pdf"):
        client.upload("/upload", [("missing.pdf", tmp_path / "missing.pdf")])
    assert Double.received == []


@pytest.mark.parametrize("more", [b"grown", b""])
def test_a_file_whose_size_changes_while_it_is_sent_is_refused(
    client: Loopback, tmp_path: Path, more: bytes
) -> None:
    document = tmp_path / "service.log"
    document.write_bytes(b"x" * 200_000)

    def change(_sent: int) -> None:
        document.write_bytes(b"x" * 200_000 + more if more else b"")

    with pytest.raises(BadUsage, match="its size changed meanwhile"):
        client.upload("/upload", [("service.log", document)], on_bytes=change)


def test_a_file_that_fails_in_the_middle_is_told(client: Loopback) -> None:
    # The memory of a process at address 0 gives EIO, as a bad disk does.
    with pytest.raises(BadUsage, match="Input/output error") as caught:
        client.upload("/upload", [("x.md", Path("/proc/self/mem"))])
    assert caught.value.hint.endswith("ls -l /proc/self")


class Silent:
    """A server that accepts and says nothing."""

    def __enter__(self) -> int:
        self._socket = socket.create_server(("127.0.0.1", 0))
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._socket.close()
