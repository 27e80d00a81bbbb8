"""Passwords and tokens: who learns them, when they are asked for, how long they last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aibox.bundle.build import registry, registry_client
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.registry_client import Registry
from aibox.bundle.build.registry_credentials import Credentials
from aibox.bundle.images.reference import parse
from aibox.errors import Failed
from image_maker import blob, make_image, make_index, sha256, tar
from registry_double import BASIC, RegistryDouble, registry_double
from registry_wishes import AMD, WEB, credentials, quiet, refusal, resolve, wish


@pytest.fixture(params=["basic", "bearer"])
def guarded(request: pytest.FixtureRequest) -> Iterator[RegistryDouble]:
    """A registry that gives nothing without a password."""
    with registry_double(authentication=request.param, anonymous=False, storage=True) as double:
        double.hold(AMD, "1")
        yield double


def test_without_credentials_a_guarded_registry_denies(guarded: RegistryDouble) -> None:
    error = refusal(guarded)
    assert error.reference == "image-denied"
    assert "without credentials" in error.message


def test_the_credentials_of_the_user_are_used(
    guarded: RegistryDouble,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: BlobCache,
) -> None:
    credentials(tmp_path, guarded, monkeypatch)
    pin = resolve(guarded)
    registry.fetch(pin, ("x86_64",), cache, quiet, client=WEB)
    assert all(cache.find(sha256(data), len(data)) for data in AMD.everything.values())
    told = guarded.asked_for("storage", "")
    assert len(told) >= 3
    assert all(one.authorization is None for one in told)


def test_a_wrong_password_names_the_file_and_never_the_password(
    guarded: RegistryDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = credentials(tmp_path, guarded, monkeypatch)
    path.write_text(path.read_text().replace(BASIC.removeprefix("Basic "), "YW5uOndyb25nLXB3"))
    error = refusal(guarded)
    assert error.reference == "image-denied"
    assert str(path) in error.message
    assert "wrong-pw" not in str(error)
    assert "YW5u" not in str(error)


def test_a_token_is_asked_for_once_and_only_to_pull() -> None:
    with registry_double(authentication="bearer") as double:
        double.hold(AMD, "1")
        resolve(double)
    (asked,) = double.asked_for("token", "")
    assert "scope=repository%3Ademo%2Fapp%3Apull" in asked.path
    assert "service=double%2C+of+one" in asked.path or "service=double,%20of" in asked.path
    assert asked.authorization is None


def test_a_token_that_the_registry_ends_is_replaced() -> None:
    with registry_double(authentication="bearer", token_uses=1) as double:
        double.hold(AMD)
        double.hold_manifest(make_index({"linux/amd64": AMD}), "1")
        assert resolve(double).platforms[0].manifest == blob(AMD.manifest)
        assert len(double.asked_for("token", "")) == 3


def test_a_token_is_renewed_before_its_life_is_over() -> None:
    now = 0.0
    with registry_double(authentication="bearer", expires_in=100) as double:
        asked = Registry(parse(wish(double).reference), WEB, clock=lambda: now)
        first = asked.headers()
        now = 74.0
        assert asked.headers() == first
        now = 76.0
        assert asked.headers() != first


def test_a_download_goes_on_when_the_registry_ends_its_tokens_early(cache: BlobCache) -> None:
    image = make_image([tar({f"{number}": os.urandom(50_000)}) for number in range(6)])
    with registry_double(authentication="bearer") as double:
        double.hold(image, "1")
        pin = resolve(double)
        double.token_uses = 3
        registry.fetch(pin, ("x86_64",), cache, quiet, connections=2, client=WEB)
        assert len(double.asked_for("token", "")) > 2
    assert all(cache.find(sha256(data), len(data)) for data in image.everything.values())


def test_a_download_outlives_a_token_server_in_trouble(cache: BlobCache) -> None:
    with registry_double(authentication="bearer") as double:
        double.hold(AMD, "1")
        pin = resolve(double)
        cache.put(AMD.manifest)
        double.token_status = [503] * (registry_client.ATTEMPTS + 1)
        registry.fetch(pin, ("x86_64",), cache, quiet, connections=1, client=WEB)
    assert all(cache.find(sha256(data), len(data)) for data in AMD.everything.values())


def test_a_registry_that_denies_every_token_is_not_asked_for_ever(cache: BlobCache) -> None:
    with registry_double(authentication="bearer") as double:
        double.hold(AMD, "1")
        pin = resolve(double)
        cache.put(AMD.manifest)
        double.status["/blobs/"] = 401
        with pytest.raises(Failed) as caught:
            registry.fetch(pin, ("x86_64",), cache, quiet, client=WEB)
        assert len(double.asked) < 30
    assert caught.value.reference == "download-denied"


@pytest.mark.parametrize(
    ("reference", "realm", "allowed"),
    [
        ("registry.example/demo", "https://token.example/x", True),
        ("registry.example/demo", "http://token.example/x", False),
        ("registry.example/demo", "http://127.0.0.1/x", False),
        ("127.0.0.1:5000/demo", "http://127.0.0.1:5001/x", True),
        ("127.0.0.1:5000/demo", "http://token.example/x", False),
        ("registry.example/demo", "ftp://token.example/x", False),
        ("registry.example/demo", "", False),
        ("registry.example/demo", "https:///x", False),
    ],
)
def test_a_password_is_not_sent_in_the_open(reference: str, realm: str, allowed: bool) -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(f"{request.url.scheme}://{request.url.host}{request.url.path}")
        if request.url.path == "/v2/":
            asks = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
            return httpx.Response(401, headers=asks, content=iter([b""]))
        return httpx.Response(200, content=iter([b'{"token": "t"}']))

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        asked = Registry(parse(reference), client, Credentials("ann", "secret", "file"))
        if allowed:
            assert asked.headers() == {"Authorization": "Bearer t"}
        else:
            with pytest.raises(Failed) as caught:
                asked.headers()
            assert caught.value.reference == "registry-challenge"
    assert len(sent) == 1 + allowed


@pytest.mark.parametrize("authentication", ["", "basic", "bearer"])
def test_storage_never_learns_who_asks(
    authentication: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: BlobCache
) -> None:
    with registry_double(authentication=authentication, storage=True) as double:
        double.hold(AMD, "1")
        credentials(tmp_path, double, monkeypatch)
        registry.fetch(resolve(double), ("x86_64",), cache, quiet, client=WEB)
    stored = double.asked_for("storage", "")
    assert stored
    assert not any("authorization" in one.headers for one in stored)
