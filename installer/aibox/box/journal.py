"""The intent: at most one, written before anything else changes and removed last."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from aibox.box.filesystem import Filesystem
from aibox.digest import canonical_json
from aibox.record import Action, Provenance, Result
from aibox.verdict import Verdict


class Phase(StrEnum):
    """How far a transaction has come (P1, P3 and the way back)."""

    STAGE = "stage"
    SWITCH = "switch"
    UNDO = "undo"


class Intent(BaseModel):
    """What is being done; recovery needs nothing else to finish or undo it.

    Attributes:
        generation: where the transaction goes; None while nothing is sealed.
        source: the generation that served when it began; None on a first install.
        boot: the boot in which the trial began.
        verdict: what the gate said, as soon as it has spoken.
        target, ending: set in phase undo: what must serve again (None: nothing) and how the
            record will call it.
        provenance: the bundle that the generation comes from.
        together: one of several hosts, which never commits unless whoever coordinates them says so.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    transaction: str
    action: Action
    phase: Phase
    started: AwareDatetime
    release: str = ""
    plan: str = ""
    reason: str = ""
    generation: int | None = None
    source: int | None = None
    boot: str = ""
    verdict: Verdict | None = None
    target: int | None = None
    ending: Result = Result.ROLLED_BACK
    provenance: Provenance | None = None
    together: bool = False


class Unreadable(BaseModel):
    """An intent file that holds something else; `content` is what it holds."""

    model_config = ConfigDict(frozen=True)

    content: bytes


class Journal:
    """The intent file."""

    def __init__(self, path: Path, filesystem: Filesystem) -> None:
        self.path = path
        self._filesystem = filesystem

    def read(self) -> Intent | Unreadable | None:
        """The intent, None if there is none; never raises for what the file holds."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Unreadable(content=str(error).encode())
        return decode(content)

    def write(self, intent: Intent) -> Intent:
        """Replace the intent as a whole; durable on return."""
        self._filesystem.publish(self.path, canonical_json(intent.model_dump(mode="json")))
        return intent

    def clear(self) -> None:
        """Remove it: the transaction is over."""
        self._filesystem.unlink(self.path)
        self._filesystem.sync_directory(self.path.parent)


def decode(content: bytes) -> Intent | Unreadable:
    """The intent in any bytes; a version from the future is unreadable, not guessed at."""
    try:
        intent = Intent.model_validate_json(content)
    except ValidationError:
        return Unreadable(content=content)
    return intent if intent.version == 1 else Unreadable(content=content)
