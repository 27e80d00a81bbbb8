"""The record: what this box ran, one JSON line per fact, never rewritten.

Pure: bytes in, entries out. `box.history` owns the file. A crash can only tear the last line
(no newline at its end); it is cut off before the next append, and the journal's intent, which
is removed only after the append is durable, makes the lost entry come back.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from aibox.digest import canonical_json
from aibox.verdict import Verdict


class Action(StrEnum):
    """What was asked for."""

    INSTALL = "install"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    RECOVER = "recover"
    START = "start"
    STOP = "stop"


class Result(StrEnum):
    """How it ended.

    COMMITTED the generation serves; FAILED it does not; ROLLED_BACK this generation serves again
    because another failed its gate; RECOVERED the same, after a crash or a damaged file.
    """

    COMMITTED = "committed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    RECOVERED = "recovered"


SERVING = frozenset({Result.COMMITTED, Result.ROLLED_BACK, Result.RECOVERED})


class Provenance(BaseModel):
    """Which bundle a generation came from; a generation from a checkout has none.

    `bundle` is the digest of its bundle.json, `signed_by` the ids of the keys whose signatures
    were checked: none when somebody said `--allow-unsigned`. `notices` say what else was let pass.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    bundle: str
    sequence: int
    signed_by: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class Entry(BaseModel):
    """One fact. `generation` is the one the entry speaks of, None when none was sealed yet.

    `release` and `plan` are digests ("" when unknown); times are UTC.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    sequence: int
    transaction: str
    generation: int | None
    release: str
    action: Action
    outcome: Result
    started: AwareDatetime
    finished: AwareDatetime
    reason: str = ""
    plan: str = ""
    gate: Verdict | None = None
    provenance: Provenance | None = None

    def says_the_same_as(self, other: Entry) -> bool:
        """Whether both are one fact: a transaction says each outcome of a generation once."""
        return (self.transaction, self.generation, self.outcome) == (
            other.transaction,
            other.generation,
            other.outcome,
        )


class History(BaseModel):
    """A parsed record: its entries in order, and what of the file could not be read."""

    model_config = ConfigDict(frozen=True)

    entries: tuple[Entry, ...] = ()
    intact_bytes: int = 0
    """Length up to and including the last newline: what follows is a torn line."""
    unreadable_lines: int = 0

    def next_sequence(self) -> int:
        """One more than the greatest ever used."""
        return max((entry.sequence for entry in self.entries), default=0) + 1

    def holds(self, entry: Entry) -> bool:
        """Whether this fact is already recorded."""
        return any(entry.says_the_same_as(known) for known in self.entries)

    def serving(self) -> int | None:
        """The generation that the last word of the record calls serving."""
        for entry in reversed(self.entries):
            if entry.outcome in SERVING and entry.generation is not None:
                return entry.generation
        return None

    def good(self) -> tuple[int, ...]:
        """Generations that once passed their gate, the one installed last first.

        Only installs and upgrades move a generation to the front, so that rolling back twice
        goes further back instead of returning to what was just left.
        """
        order: dict[int, None] = {}
        for entry in self.entries:
            arrived = entry.action in (Action.INSTALL, Action.UPGRADE)
            if arrived and entry.outcome is Result.COMMITTED and entry.generation is not None:
                order.pop(entry.generation, None)
                order[entry.generation] = None
        return tuple(reversed(order))


def parse(data: bytes) -> History:
    """Read any bytes: what is not an entry is counted, never raised."""
    intact = data.rfind(b"\n") + 1
    lines = [line for line in data[:intact].split(b"\n") if line.strip()]
    entries = tuple(entry for line in lines if (entry := _entry(line)) is not None)
    return History(entries=entries, intact_bytes=intact, unreadable_lines=len(lines) - len(entries))


def line(entry: Entry) -> bytes:
    """The entry as it is stored: canonical JSON and a newline."""
    return canonical_json(entry.model_dump(mode="json")) + b"\n"


def before(history: History, current: int | None, candidates: Iterable[int]) -> tuple[int, ...]:
    """Where a rollback from `current` may go, best first: good, still here, and older than it.

    Nothing installed after `current` is offered: an operator who rolls back twice at night
    wants the generation before, not the one that was just found broken.
    """
    good = history.good()
    older = good[good.index(current) + 1 :] if current in good else good
    present = set(candidates) - {current}
    return tuple(number for number in older if number in present)


def _entry(text: bytes) -> Entry | None:
    try:
        return Entry.model_validate_json(text)
    except ValidationError:
        return None
