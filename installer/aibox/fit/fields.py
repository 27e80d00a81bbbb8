"""Fields of a config.json, read strictly: what is missing, of another type or absurd is said.

Nothing is assumed where a field decides about memory: a model whose config does not say is
refused, because a wrong number is bought with real money.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aibox.errors import BadUsage, Fault

LIMIT_BYTES = 4 << 20
_MOST = 1 << 40
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Fields:
    """One table of a config.json. `source` names it in messages."""

    values: Mapping[str, Any]
    source: str

    def table(self, *names: str) -> Fields | None:
        """The first of these keys that is there; None where they are absent or null."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if not isinstance(value, Mapping):
                raise self.wrong("invalid", f"{name} is {_shown(value)}, not a table")
            return Fields(value, f"{self.source}: {name}")
        return None

    def number(self, *names: str, least: int = 1, most: int = _MOST) -> int:
        """The first of these keys that is there; raises `BadUsage` when none is."""
        found = self.maybe(*names, least=least, most=most)
        if found is None:
            raise self.wrong("incomplete", f"has no {' or '.join(names)}")
        return found

    def maybe(self, *names: str, least: int = 1, most: int = _MOST) -> int | None:
        """Like `number`, None where the key is absent or null."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise self.wrong("invalid", f"{name} is {_shown(value)}, not a whole number")
            if not least <= value <= most:
                raise self.wrong(
                    "absurd", f"{name} is {_shown(value)}; it must be {least} to {most}"
                )
            return value
        return None

    def words(self, name: str) -> tuple[str, ...]:
        """A list of text; empty where the key is absent or null."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.wrong("invalid", f"{name} is {_shown(value)}, not a list of words")
        return tuple(value)

    def word(self, *names: str) -> str:
        """The first of these keys that is there; empty where they are absent or null."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if not isinstance(value, str):
                raise self.wrong("invalid", f"{name} is {_shown(value)}, not a word")
            return value
        return ""

    def flag(self, name: str) -> bool | None:
        """Whether a key is true; None where it is absent or null."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong("invalid", f"{name} is {_shown(value)}, not true or false")
        return value

    def wrong(self, kind: str, told: str) -> BadUsage:
        """The error for a config that cannot be computed with."""
        return BadUsage(
            f"model-config-{kind}",
            f"{self.source} {told}",
            hint="compare it with the config.json that the model's maker publishes, then: "
            "./aibox fit --model FOLDER --gpu GPU",
            fault=Fault.UPSTREAM,
        )


def parse(data: bytes, source: str) -> Fields:
    """The fields of a config.json; raises `BadUsage` (`model-config-invalid`)."""
    empty = Fields({}, source)
    if len(data) > LIMIT_BYTES:
        raise empty.wrong(
            "invalid", f"has more than {LIMIT_BYTES:,} bytes; no config.json is that large"
        )
    try:
        values = json.loads(data, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise empty.wrong("invalid", f"is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise empty.wrong("invalid", "is not a table of fields")
    return Fields(values, source)


def read(path: Path) -> Fields:
    """The fields of a config.json on disk, as `parse`."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise Fields({}, str(path)).wrong("invalid", f"cannot be read: {error.strerror}") from error
    return parse(data, str(path))


def no_number(name: str) -> float:
    """For `json.loads(parse_constant=…)`: NaN and Infinity raise `ValueError`."""
    raise ValueError(f"{name} is no number of JSON")


def _shown(value: object) -> str:
    """A value in a message: what is long is cut."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
