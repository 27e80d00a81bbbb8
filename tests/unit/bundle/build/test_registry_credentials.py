"""Credentials are found where `docker login` leaves them, or refused with a reason."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle.build.registry_credentials import default_files, find, parse
from aibox.bundle.images.reference import parse as reference
from aibox.errors import AiboxError, BadUsage

HUB = reference("qdrant/qdrant:v1")
OURS = reference("registry.example:5000/team/app:1")


def entry(user: str = "ann", password: str = "secret: 비밀") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, value: Any, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    path.chmod(mode)
    return path


def refusal(path: Path) -> BadUsage:
    with pytest.raises(BadUsage) as caught:
        find(OURS, (path,))
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        "registry.example:5000",
        "https://registry.example:5000",
        "http://registry.example:5000/v2/",
        "registry.example:5000/team",
        "registry.example:5000/team/app",
    ],
)
def test_an_entry_is_found_by_every_name_that_tools_give_it(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "auth.json", {"auths": {name: entry(), "other.example": entry("x")}})
    found = find(OURS, (path,))
    assert found is not None
    assert (found.user, found.password, found.source) == ("ann", "secret: 비밀", str(path))
    assert "secret" not in repr(found)


@pytest.mark.parametrize("name", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_the_default_registry_has_names_of_its_own(tmp_path: Path, name: str) -> None:
    found = find(HUB, (write(tmp_path / "config.json", {"auths": {name: entry()}}),))
    assert found is not None


@pytest.mark.parametrize(
    "name",
    [
        "registry.example",
        "registry.example:5001",
        "registry.example:5000/tea",
        "xregistry.example:5000",
    ],
)
def test_an_entry_of_another_place_is_not_used(tmp_path: Path, name: str) -> None:
    assert find(OURS, (write(tmp_path / "auth.json", {"auths": {name: entry()}}),)) is None


def test_the_closest_entry_and_the_first_file_win(tmp_path: Path) -> None:
    host, team = "registry.example:5000", "registry.example:5000/team"
    first = write(tmp_path / "1", {"auths": {host: entry("wide"), team: entry("close")}})
    second = write(tmp_path / "2", {"auths": {f"{team}/app": entry("closest")}})
    found = find(OURS, (tmp_path / "missing", first, second))
    assert found is not None
    assert found.user == "close"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "auth.json", {"auths": {"registry.example:5000": entry()}}, mode)
    error = refusal(path)
    assert error.reference == "credentials-exposed"
    assert f"chmod 600 {path}" in error.hint
    assert "secret" not in str(error)


def test_a_file_without_an_entry_may_be_open(tmp_path: Path) -> None:
    path = write(tmp_path / "auth.json", {"auths": {"other.example": entry()}}, 0o644)
    assert find(OURS, (path,)) is None


@pytest.mark.parametrize(
    "value",
    [
        {"credHelpers": {"registry.example:5000": "pass"}},
        {"credsStore": "desktop", "auths": {"registry.example:5000": {}}},
        {"auths": {"registry.example:5000": {"identitytoken": "x"}}},
    ],
)
def test_programs_that_keep_passwords_are_not_started(tmp_path: Path, value: Any) -> None:
    error = refusal(write(tmp_path / "config.json", value))
    assert error.reference == "credentials-helper"
    assert "REGISTRY_AUTH_FILE" in error.hint


def test_a_helper_that_knows_nothing_of_the_registry_does_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", {"credsStore": "desktop", "auths": {"docker.io": {}}})
    assert find(OURS, (path,)) is None


@pytest.mark.parametrize(
    "auth", ["%%%", "bm8gY29sb24=", base64.b64encode(b"\xff:\xff").decode(), 7]
)
def test_a_malformed_entry_is_named(tmp_path: Path, auth: Any) -> None:
    value = {"auths": {"registry.example:5000": {"auth": auth}}}
    assert refusal(write(tmp_path / "auth.json", value)).reference == "credentials-unreadable"


def test_what_is_no_such_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("user:password")
    (tmp_path / "large").write_text(" " * (2 << 20))
    os.mkfifo(tmp_path / "pipe")
    for name in ("text", "large", "pipe"):
        error = refusal(tmp_path / name)
        assert error.reference == "credentials-unreadable"
        assert "user:password" not in str(error)


def test_where_credentials_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_files() == (
        tmp_path / ".config/containers/auth.json",
        tmp_path / ".docker/config.json",
    )
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setenv("DOCKER_CONFIG", "/d")
    assert default_files()[0] == Path("/run/user/1/containers/auth.json")
    assert default_files()[-1] == Path("/d/config.json")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/a")
    assert default_files() == (Path("/a"),)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(
    st.binary(max_size=100)
    | values.map(lambda value: json.dumps({"auths": {"registry.example:5000": value}}).encode())
    | values.map(lambda value: json.dumps({"auths": value, "credHelpers": value}).encode())
)
def test_any_bytes_are_credentials_or_an_error(data: bytes) -> None:
    try:
        parse(data, OURS, Path("file"))
    except AiboxError as error:
        assert error.reference.startswith("credentials-")
