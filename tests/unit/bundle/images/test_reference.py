"""Names of images: what is meant by a short one, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle.images.reference import ImageReference, parse
from aibox.errors import BadUsage


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("caddy", "docker.io/library/caddy:latest"),
        ("caddy:2.11.4", "docker.io/library/caddy:2.11.4"),
        ("qdrant/qdrant:v1.19.0", "docker.io/qdrant/qdrant:v1.19.0"),
        ("registry.example", "docker.io/library/registry.example:latest"),
        ("docker.io/caddy:2", "docker.io/library/caddy:2"),
        ("index.docker.io/library/caddy:2", "docker.io/library/caddy:2"),
        ("127.0.0.1:5000/demo:1", "127.0.0.1:5000/demo:1"),
        ("localhost/demo", "localhost/demo:latest"),
        ("registry.example/a/b/c_d/e--f:V1.0-rc.1_x", "registry.example/a/b/c_d/e--f:V1.0-rc.1_x"),
    ],
)
def test_a_name_means_what_docker_takes_it_for(text: str, expected: str) -> None:
    assert str(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        ":",
        "a:",
        "a b",
        "Demo/app",
        "demo/App",
        "demo//app",
        "demo/app/",
        "demo/../app",
        "demo/.app",
        "demo/app:",
        "demo/app:-x",
        "demo/app:a/b",
        "demo/app:" + "t" * 129,
        "a" * 256,
        "demo/app@sha256:" + "0" * 64,
        "https://registry.example/demo",
        "registry.example:0/demo",
        "registry.example:65536/demo",
        "registry.example:80:80/demo",
        "Registry.example/demo",
        "-registry.example/demo",
        "registry..example/demo",
        "user@registry.example/demo",
        "registry.example/demo\n",
        "레지스트리.example/demo",
        "registry.example/데모",
        "registry.example/demo:태그",
        "demo/app:1٣",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(BadUsage) as caught:
        parse(text)
    assert caught.value.reference == "image-name-invalid"


@pytest.mark.parametrize(
    ("text", "api"),
    [
        ("caddy", "https://registry-1.docker.io"),
        ("registry.example:8443/demo", "https://registry.example:8443"),
        ("127.0.0.1:5000/demo", "http://127.0.0.1:5000"),
        ("localhost:5000/demo", "http://localhost:5000"),
        ("127.0.0.1.example/demo", "https://127.0.0.1.example"),
        ("10.0.0.1:5000/demo", "https://10.0.0.1:5000"),
        ("localhost.example/demo", "https://localhost.example"),
    ],
)
def test_only_this_host_is_asked_without_encryption(text: str, api: str) -> None:
    assert parse(text).api == api


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except BadUsage:
        return
    assert parse(str(found)) == found
    assert isinstance(found, ImageReference)
