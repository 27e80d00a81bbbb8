"""What a package manager does for this role, whichever it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Steps:
    """What it would do: packages that would come, change their version, or go."""

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.removed)


class Manager(Protocol):
    """apt or dnf with one repository; what it cannot do it raises as `Refused`."""

    work: Path

    def refresh(self) -> None:
        """Read the repository's index anew; its signature and every digest are right."""

    def installed(self) -> dict[str, str]:
        """Names and versions of what is installed."""

    def interrupted(self) -> list[str]:
        """Packages that are unpacked and not configured."""

    def wanting(self, wanted: Sequence[str], ours: Collection[str]) -> list[str]:
        """What to ask for: what is not installed, and what we brought and may be renewed.

        What the host had before is left in the version that its owner chose.
        """

    def plan(self, asked: Sequence[str]) -> Steps:
        """What an installation would do."""

    def install(self, asked: Sequence[str], *, change_held: bool) -> None:
        """Install; nothing is ever removed for it."""

    def repair(self) -> None:
        """Go on where an installation of ours was cut off."""

    def plan_removal(self, names: Sequence[str]) -> Steps:
        """What would go with these packages."""

    def remove(self, names: Sequence[str]) -> None:
        """Take packages and their settings away."""

    def held(self) -> set[str]:
        """Packages that stay at their version."""

    def hold(self, names: Collection[str]) -> None:
        """Keep packages at their version."""

    def release(self, names: Collection[str]) -> None:
        """Let packages change their version again."""

    def holder(self) -> str:
        """Which program works with the packages of this host now, or nothing."""


def name_of(wanted: str) -> str:
    """The package of `name` or `name=version`."""
    return wanted.partition("=")[0]
