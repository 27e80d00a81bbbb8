from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from aibox.box.http import Loopback, Tls, check_authority, check_certificate
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


def test_a_certificate_serves_with_its_own_key_alone(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.vouches_for(NAME)
    other, other_key = authority.vouches_for("other.example.org")
    assert check_certificate(certificate, key) == ""
    assert check_certificate(other, other_key) == ""
    assert (
        check_certificate(certificate, other_key) == f"{other_key} is not the key of {certificate}"
    )
    assert check_certificate(key, key) == f"{key} holds no certificate (PEM)"
    assert check_certificate(certificate, certificate).startswith(f"{certificate} holds no key")
    assert check_certificate(tmp_path / "none", key).endswith("none: No such file or directory")
    assert check_certificate(certificate, tmp_path).startswith(f"{tmp_path}")
    assert check_certificate(Path("/dev/zero"), key) == "/dev/zero holds no certificate (PEM)"


def test_a_key_with_a_passphrase_is_told_and_nobody_is_asked(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.vouches_for(NAME)
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    closed = serialization.BestAvailableEncryption(b"a passphrase")
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "closed").write_bytes(secret.private_bytes(*pem, closed))
    problem = check_certificate(certificate, tmp_path / "closed")
    assert problem.endswith("closed holds no key that can be used (PEM, without a passphrase)")


@pytest.mark.parametrize("days", [(-3, -1), (1, 3)], ids=["expired", "not yet"])
def test_a_certificate_of_another_day_is_told(tmp_path: Path, days: tuple[int, int]) -> None:
    authority = Authority(tmp_path, days=days)
    certificate, key = authority.vouches_for(NAME)
    assert f"{certificate} is valid from 2" in check_certificate(certificate, key)


def test_an_authority_whose_file_holds_a_key_is_told(tmp_path: Path, authority: Authority) -> None:
    assert check_authority(authority.file) == ""
    both = tmp_path / "both.pem"
    _, key = authority.vouches_for(NAME)
    both.write_bytes(authority.file.read_bytes() + key.read_bytes())
    assert check_authority(both) == f"{both} holds a private key, which nobody needs here"
