"""What activation needs of whatever runs the services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ServiceStatus:
    """One service as it is now. `state` is the runtime's own word (running, stopped, fatal …)."""

    name: str
    state: str
    pid: int | None
    uptime_s: float
    restarts: int


class Runtime(Protocol):
    """The services of the box. Every method may be called again after a crash in the middle."""

    def apply(self) -> None:
        """Make the services equal what `current` says: restart exactly what changed, start what
        is stopped. Raises an AiboxError when a service cannot be brought up."""

    def stop(self) -> None:
        """Stop every service; nothing if none runs."""

    def services(self) -> tuple[ServiceStatus, ...]:
        """What runs now."""
