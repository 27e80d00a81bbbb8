from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aibox.box.http import Loopback, Tls
from aibox.errors import Failed
from certificates import Authority

NAME = "box.example.org"


class Double(BaseHTTPRequestHandler):
    """Stands in for the gateway."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def gateway(certificate: Path, key: Path) -> Iterator[int]:
    """The double behind TLS; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Double) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def status(port: int, tls: Tls) -> int:
    with Loopback(port, tls=tls) as client:
        return client.ask("GET", "/readyz").status


def test_the_boxs_own_authority_is_enough(authority: Authority) -> None:
    with gateway(*authority.vouches_for(NAME)) as port:
        assert status(port, Tls(authority.file, NAME)) == 200


def test_a_certificate_of_the_site_vouches_for_itself(authority: Authority) -> None:
    certificate, key = authority.vouches_for(NAME)
    with gateway(certificate, key) as port:
        assert status(port, Tls(certificate, NAME)) == 200


def test_somebody_else_on_that_port_is_not_the_box(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    with gateway(*stranger.vouches_for(NAME)) as port, pytest.raises(Failed) as caught:
        status(port, Tls(authority.file, NAME))
    assert caught.value.reference == "box-not-answering"


def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    with gateway(*authority.vouches_for("other.example.org")) as port, pytest.raises(Failed):
        status(port, Tls(authority.file, NAME))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_without_a_certificate_it_says_how_to_get_one(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Failed) as caught:
        Loopback(443, tls=Tls(file, NAME))
    assert caught.value.reference == "box-certificate-missing"
    assert caught.value.hint.endswith("./aibox start")
