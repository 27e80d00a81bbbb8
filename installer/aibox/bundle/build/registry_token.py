"""What a registry wants to be told before it answers, and what it gives for it. Pure.

`WWW-Authenticate` (RFC 9110, 11.6.1) with the schemes Basic and Bearer; tokens as in the token
specification of the distribution project.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

DEFAULT_LIFE_S = 60
"""Seconds that a token lives when its server does not say."""

LONGEST_LIFE_S = 24 * 3600
TOKEN_LIMIT = 1 << 20

_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*,?')
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?=\s|$|,)\s*(?!\s*=)")
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """A way to identify oneself that a registry offers; `scheme` in lower case."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Token:
    """A Bearer token and how long it lives, in seconds from when it was asked for."""

    value: str
    life_s: float


def challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All that the `WWW-Authenticate` headers offer; what is malformed is passed over."""
    return tuple(found for header in headers for found in _challenges(header))


def choose(offered: Iterable[Challenge]) -> Challenge | None:
    """The one to answer: a token before a password, nothing else."""
    known = [item for item in offered if item.scheme in ("bearer", "basic")]
    return min(known, key=lambda item: item.scheme != "bearer", default=None)


def parse_token(data: bytes) -> Token | None:
    """The answer of a token server; None if there is no token in it."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return None
    fields = raw if isinstance(raw, dict) else {}
    value = fields.get("token") or fields.get("access_token")
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        return None
    life = fields.get("expires_in")
    seconds = life if isinstance(life, int) and 0 < life <= LONGEST_LIFE_S else DEFAULT_LIFE_S
    return Token(value, float(seconds))


def _challenges(header: str) -> Iterable[Challenge]:
    position = 0
    while match := _SCHEME.match(header, position):
        position, parameters = match.end(), {}
        while found := _PARAMETER.match(header, position):
            quoted = re.sub(r"\\(.)", r"\1", found[2]) if found[2] is not None else found[3]
            parameters[found[1].lower()] = quoted
            position = found.end()
        yield Challenge(match[1].lower(), parameters)
