"""Signed JSON files with one spelling: `{"signatures":[{"keyid":…,"sig":…}],"signed":{…}}`.

It is the file format of TUF, narrowed until no byte of a file can change without notice. The file
is the canonical JSON of its value; signatures are sorted by key, each key signs once. No string
holds a control character and no number a fraction: then the canonical JSON of this project and
the one TUF signs (OLPC) are the same bytes, and what is signed lies in the file as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import ValidationError

from aibox.bundle.layout import MANIFEST_LIMIT
from aibox.bundle.trust.refusals import refused
from aibox.digest import canonical_json, is_digest
from aibox.errors import VerificationRefused

_SIGNATURE = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature, 128 hex digits, and the id of the key that is said to have made it."""

    key_id: str
    value: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A file taken apart. `payload` is what the signatures are over: the bytes of `signed`."""

    signatures: tuple[Signature, ...]
    signed: Mapping[str, Any]
    payload: bytes


def parse(data: bytes, what: str) -> Envelope:
    """Take a file apart; says nothing about whether its signatures are right.

    Raises `VerificationRefused`: `<what>-too-large`, `-malformed`, `-key-twice`.
    """
    if len(data) > MANIFEST_LIMIT:
        raise refused(f"{what}-too-large", f"more than {MANIFEST_LIMIT} bytes", f"{len(data)}")
    try:
        value = load(data)
        if not isinstance(value, dict) or set(value) != {"signatures", "signed"}:
            raise ValueError("it does not consist of signatures and what is signed")
        signed = value["signed"]
        if not isinstance(signed, dict):
            raise ValueError("what is signed is not an object")
        signatures = tuple(_signature(item) for item in _list(value["signatures"]))
        payload = encode(signed)
    except (ValueError, RecursionError) as error:
        raise malformed(what, error) from error
    _refuse_twice(signatures, what)
    if seal(payload, signatures) != data:
        raise refused(f"{what}-malformed", "the file is not spelled as it was signed")
    return Envelope(signatures, signed, payload)


def encode(signed: Mapping[str, Any]) -> bytes:
    """What is to be signed; `ValueError` when it has no spelling that everybody agrees on."""
    payload = canonical_json(signed)
    if b"\\" in payload and b"\\" in payload.replace(b"\\\\", b"").replace(b'\\"', b""):
        # Escapes that are left once quotes and backslashes are gone stand for control characters.
        raise ValueError("a text holds a control character")
    return payload


def seal(payload: bytes, signatures: Iterable[Signature]) -> bytes:
    """The bytes of a file."""
    listed = [
        {"keyid": item.key_id, "sig": item.value}
        for item in sorted(signatures, key=lambda item: item.key_id)
    ]
    return b'{"signatures":' + canonical_json(listed) + b',"signed":' + payload + b"}"


def load(data: bytes) -> Any:
    """JSON without fractions, NaN or infinity; `ValueError` or `RecursionError` for all else."""
    return json.loads(data.decode(), parse_float=_no_number, parse_constant=_no_number)


def malformed(what: str, error: Exception) -> VerificationRefused:
    """The refusal `<what>-malformed`, with the first problem as its context."""
    return refused(f"{what}-malformed", "the file cannot be read", first_problem(error))


def first_problem(error: Exception) -> str:
    """One short line out of an error of parsing."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"[:300]
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _signature(item: object) -> Signature:
    if not isinstance(item, dict) or set(item) != {"keyid", "sig"}:
        raise ValueError("a signature does not consist of keyid and sig")
    key_id, value = item["keyid"], item["sig"]
    if not isinstance(key_id, str) or not is_digest(key_id):
        raise ValueError("the keyid of a signature is not 64 hex digits")
    if not isinstance(value, str) or not _SIGNATURE.fullmatch(value):
        raise ValueError("a signature is not 128 hex digits")
    return Signature(key_id, value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("signatures are not a list")
    return value


def _refuse_twice(signatures: tuple[Signature, ...], what: str) -> None:
    seen: set[str] = set()
    for item in signatures:
        if item.key_id in seen:
            raise refused(f"{what}-key-twice", "one key signs more than once", item.key_id)
        seen.add(item.key_id)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"not a whole number: {text[:40]}")
