"""What the box knows of itself: two slots, written in turn, the highest valid one wins.

A torn, emptied or garbled slot costs the last change at most, never the box.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from aibox.box.filesystem import Filesystem
from aibox.digest import canonical_json

_FLOORS = ("highest_sequence", "min_sequence", "root_version", "time_floor")


class State(BaseModel):
    """The content of a slot.

    Attributes:
        sequence: which slot is newer.
        last_good: the generation that passed its gate last; boot must end up on it.
        prev_good: the one before it.
        transaction: the transaction that made `last_good` good: the commit point.
        tries_left: how often the gate may be asked again after a reboot during a trial.
        recoveries: recoveries begun and not finished; the loop cap counts them.
        highest_sequence, min_sequence, root_version, time_floor: what a bundle must not fall
            below (channel sequence, its floor, root of trust, seconds since 1970); they only rise.

    Unknown keys are kept, so that an older command does not lose what a newer one wrote.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    sequence: int = 0
    last_good: int | None = None
    prev_good: int | None = None
    transaction: str = ""
    tries_left: int = 0
    recoveries: int = 0
    highest_sequence: int = 0
    min_sequence: int = 0
    root_version: int = 0
    time_floor: int = 0


def encode(state: State) -> bytes:
    """The slot's bytes: canonical JSON with the CRC-32 of everything else in it."""
    values = state.model_dump(mode="json")
    return canonical_json(values | {"crc": zlib.crc32(canonical_json(values))}) + b"\n"


def decode(data: bytes) -> State | None:
    """The state in a slot; None for any bytes that are not exactly one."""
    try:
        values = json.loads(data)
        crc = values.pop("crc")
        valid = crc == zlib.crc32(canonical_json(values))
        return State.model_validate(values) if valid else None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def newest(slots: tuple[bytes, bytes]) -> tuple[State, int]:
    """The valid state with the highest sequence, and the index of the slot it lies in.

    (State(), 1) when neither is valid, so that slot 0 is written first.
    """
    found = [(state, index) for index, data in enumerate(slots) if (state := decode(data))]
    return max(found, key=lambda pair: pair[0].sequence, default=(State(), 1))


class Slots:
    """The two slot files."""

    def __init__(self, paths: tuple[Path, Path], filesystem: Filesystem) -> None:
        self._paths = paths
        self._filesystem = filesystem

    def load(self) -> State:
        """The newest valid state; the empty one on a box that has none."""
        return newest(self._read())[0]

    def save(self, state: State) -> State:
        """Write `state` over the older slot and return it with its new sequence.

        Floors never fall, whatever the caller says.
        """
        held, index = newest(self._read())
        floors = {name: max(getattr(held, name), getattr(state, name)) for name in _FLOORS}
        saved = state.model_copy(update={**floors, "sequence": held.sequence + 1})
        self._filesystem.publish(self._paths[1 - index], encode(saved))
        return saved

    def _read(self) -> tuple[bytes, bytes]:
        first, second = self._paths
        return _content(first), _content(second)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
