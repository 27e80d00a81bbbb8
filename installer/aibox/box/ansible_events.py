"""Models of the lines that the `aibox_events` callback writes (one JSON object per line).

`time` is seconds since the epoch, `seconds` the duration of one task on one host.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Status = Literal["ok", "changed", "skipped", "ignored", "failed", "unreachable"]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float


class PlayStarted(_Line):
    """A play began."""

    event: Literal["play"] = "play"
    name: str


class TaskStarted(_Line):
    """A task began on every host of the play; names of role tasks read `role : task`."""

    event: Literal["task"] = "task"
    name: str


class TaskResult(_Line):
    """A task ended on one host; `message` is empty unless it failed."""

    event: Literal["result"] = "result"
    host: str
    task: str
    status: Status
    seconds: float = Field(ge=0)
    message: str = ""


class TaskRetried(_Line):
    """A task with `until` was not satisfied and is tried again."""

    event: Literal["retry"] = "retry"
    host: str
    task: str
    attempt: int


class HostStats(BaseModel):
    """How many tasks of one host ended how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ok: int = 0
    changed: int = 0
    failures: int = 0
    unreachable: int = 0
    rescued: int = 0
    skipped: int = 0
    ignored: int = 0


class Stats(_Line):
    """The last event of a run that came to its end: the only truth about how it went.

    The exit status is not: it is 0 when a failure was rescued, and 2 or 4 for bad options too.
    """

    event: Literal["stats"] = "stats"
    hosts: dict[str, HostStats]

    @property
    def succeeded(self) -> bool:
        """Whether at least one host ran, and none failed, was lost, or was rescued."""
        bad = (host.failures + host.unreachable + host.rescued for host in self.hosts.values())
        return bool(self.hosts) and not any(bad)

    @property
    def changed(self) -> int:
        """Tasks that changed something (in check mode: would change), over all hosts."""
        return sum(host.changed for host in self.hosts.values())


Event = Annotated[
    PlayStarted | TaskStarted | TaskResult | TaskRetried | Stats, Field(discriminator="event")
]
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


def parse(line: bytes) -> Event | None:
    """The event in one line; None when it is torn or of an unknown kind (a run has still to
    end with `Stats`, so nothing is believed because of a line that was not understood)."""
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError:
        return None
