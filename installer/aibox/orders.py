"""What one of several hosts is told, and what it answers: one JSON object a line.

Who coordinates them writes `Order`s to a member's standard input and reads `Answer`s from its
standard output: any number of `progress`, then `done` or `error`. A member that hears nothing for
`SILENCE_S` seconds, or reads the end, undoes what is not committed and ends.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, ValidationError

from aibox.errors import Failed, Fault
from aibox.preflight import Finding
from aibox.record import Action
from aibox.schema import Model, Name, Sha256
from aibox.site import Site

ALIVE_EVERY_S = 5.0
SILENCE_S = 30.0
LONGEST_LINE = 4 << 20


class Step(StrEnum):
    """What a member can be told to do."""

    HOLD = "hold"  # take the lock, finish or undo what was interrupted
    PLAN = "plan"  # plan and judge; nothing changes
    STAGE = "stage"  # bring everything to the host, seal a generation
    REVEAL = "reveal"  # tell secrets that other hosts need
    ADOPT = "adopt"  # take the secrets of other hosts
    AIM = "aim"  # choose the generation to go back to
    APPLY = "apply"  # switch and start the services: the trial
    GATE = "gate"  # judge what runs
    COMMIT = "commit"
    UNDO = "undo"
    REBOOT = "reboot"
    STATUS = "status"  # needs no hold; nothing changes
    UNINSTALL = "uninstall"  # takes the lock itself
    ALIVE = "alive"  # nothing, and no answer: the line still stands


class Order(Model):
    """One step and what it needs.

    Attributes:
        bundle: the folder on the host into which the bundle is copied.
        manifest: the digest of its bundle.json, as it was verified by who coordinates.
        root: a file on the host with the first root of trust, "" for what the host trusts.
        names, values: of secrets.
    """

    step: Step
    action: Action = Action.INSTALL
    profile: str | None = None
    bundle: str = ""
    manifest: str = ""
    root: str = ""
    site: Site | None = None
    allow_unsigned: bool = False
    allow_downgrade: bool = False
    allow_expired: bool = False
    names: tuple[Name, ...] = ()
    values: dict[Name, str] = Field(default_factory=dict)
    reason: str = ""
    purge: bool = False

    def line(self) -> bytes:
        """As it is sent."""
        return self.model_dump_json().encode() + b"\n"


class Progress(Model):
    """A line for whoever waits."""

    step: str
    message: str


class Answer(Model):
    """One line of a member; exactly one of the three."""

    progress: Progress | None = None
    done: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    def line(self) -> bytes:
        """As it is sent."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"


class Planned(Model):
    """What a member says to `plan`.

    Attributes:
        whole: it runs exactly this already.
        first: it has no box yet.
        lacking: the blobs of the bundle that it needs and does not have, with their bytes.
        findings: of its preflight; none where it runs this already.
    """

    digest: Sha256
    release: Sha256
    profile: str
    whole: bool
    first: bool
    steps: tuple[str, ...]
    differences: tuple[str, ...]
    lacking: dict[Sha256, int]
    findings: tuple[Finding, ...]


def order(line: bytes) -> Order:
    """An order as it was received; raises `Failed` (`order-malformed`)."""
    try:
        return Order.model_validate_json(line)
    except ValidationError as error:
        raise _malformed("an order", error) from error


def answer(line: bytes) -> Answer:
    """An answer as it was received; raises `Failed` (`order-malformed`)."""
    try:
        return Answer.model_validate_json(line)
    except ValidationError as error:
        raise _malformed("an answer", error) from error


def _malformed(what: str, error: ValidationError) -> Failed:
    return Failed(
        "order-malformed",
        f"{what} between the hosts of this box cannot be understood",
        context=str(error).splitlines()[0],
        hint="use the command line of one bundle on all of them: "
        "./aibox install --inventory FILE --bundle BUNDLE",
        fault=Fault.US,
    )
