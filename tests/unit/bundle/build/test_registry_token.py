"""Challenges and tokens, as registries write them and as nobody should."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle.build.registry_token import challenges, choose, parse_token


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://a.example/t",service="registry, of one",scope="a:b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://a.example/t",
                        "service": "registry, of one",
                        "scope": "a:b:pull,push",
                    },
                )
            ],
        ),
        ('Basic realm="Registry Realm"', [("basic", {"realm": "Registry Realm"})]),
        ('basic realm=x, charset="UTF-8"', [("basic", {"realm": "x", "charset": "UTF-8"})]),
        (
            'Negotiate, Basic realm="a \\"b\\"", Bearer realm=c',
            [("negotiate", {}), ("basic", {"realm": 'a "b"'}), ("bearer", {"realm": "c"})],
        ),
        ("", []),
        ('="', []),
    ],
)
def test_challenges_are_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, dict(one.parameters)) for one in challenges([header])] == expected


def test_a_token_is_preferred_and_the_unknown_is_not_answered() -> None:
    chosen = choose(challenges(['Basic realm="x"', 'Bearer realm="y"']))
    assert chosen is not None
    assert chosen.scheme == "bearer"
    assert choose(challenges(["Negotiate", "Digest realm=x"])) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"token": "a.b-c"}, ("a.b-c", 60)),
        ({"access_token": "x", "expires_in": 300}, ("x", 300)),
        ({"token": "x", "access_token": "y", "expires_in": 0}, ("x", 60)),
        ({"token": "x", "expires_in": "300"}, ("x", 60)),
        ({"token": "x", "expires_in": 10**9}, ("x", 60)),
        ({"token": "a\r\nX-Evil: 1"}, None),
        ({"token": ""}, None),
        ({"token": 1}, None),
        ({}, None),
        ([], None),
    ],
)
def test_tokens_are_read(answer: object, expected: tuple[str, float] | None) -> None:
    found = parse_token(json.dumps(answer).encode())
    assert (found and (found.value, found.life_s)) == expected


@given(st.text(max_size=200), st.binary(max_size=200))
def test_any_answer_is_read_or_passed_over(header: str, body: bytes) -> None:
    choose(challenges([header]))
    parse_token(body)
