"""The machine's own proxies and authorities are used; nonsense among them is named."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import Request, fetch
from aibox.errors import (
    BadUsage,
    Failed,
)
from downloads import DATA, DIGEST, content, silent
from flaky_server import FlakyServer


def test_the_proxy_of_the_machine_is_used(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.address())
    server.files["http://files.example/a"] = DATA
    request = Request("http://files.example/a", DIGEST, len(DATA), "a")
    fetch([request], cache, silent, step="fetch")
    assert content(cache) == DATA


def test_a_certificate_nobody_trusts_is_named_and_a_trusted_one_works(
    server: FlakyServer, cache: BlobCache, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = a_certificate(place)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.put("/a", DATA)
    address = server.address("/a").replace("http:", "https:")
    request = Request(address, DIGEST, len(DATA), "a")
    with pytest.raises(Failed) as caught:
        fetch([request], cache, silent, step="fetch")
    assert caught.value.reference == "download-not-trusted"
    assert "SSL_CERT_FILE" in caught.value.hint
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetch([request], cache, silent, step="fetch")
    assert content(cache) == DATA


def a_certificate(folder: Path) -> tuple[Path, Path]:
    """Self-signed, for loopback; certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "certificate.pem", folder / "key.pem"


def test_unusable_network_settings_are_named(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    with pytest.raises(BadUsage) as caught:
        fetch([Request("http://127.0.0.1:1/", DIGEST, 1, "a")], cache, silent, step="fetch")
    assert caught.value.reference == "network-settings-invalid"
