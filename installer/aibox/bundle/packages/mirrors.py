"""Where a packager has archives from: his own matter, never the lock's.

The addresses of a distribution's archive are those of the packager's apt. Other archives (of a
driver, of a container engine, of another distribution) stand in a file of his::

    version = 1
    [[archive]]
    label = "docker"                      # recorded in the lock, without the address
    targets = ["debian-13"]
    address = "https://mirror.example/docker"
    suites = ["trixie"]
    components = ["stable"]
    keyring = "/etc/apt/keyrings/docker.asc"

An entry with a label of the distribution (`debian`, `debian-security`, `ubuntu`, …) replaces what
apt of this machine says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from aibox.bundle.packages import sources as apt
from aibox.bundle.packages.targets import Target, label_of
from aibox.errors import BadUsage, Fault
from aibox.pins import PackageFormat, Redistribution
from aibox.schema import Model, Name

VERSION = 1
COMMAND = "./aibox lock --mirrors FILE"

_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
_Suite = Annotated[str, StringConstraints(pattern=r"^(\./|[A-Za-z0-9][A-Za-z0-9._+/-]*)$")]
_Address = Annotated[str, StringConstraints(pattern=r"^(https?|file|copy)://?\S+$")]


class ArchiveMirror(Model):
    """One archive at one address, for the releases it serves. `keyring` is the path of its keys.

    A flat archive has one suite that ends with a slash, and no components.
    """

    label: Name
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    address: _Address
    suites: tuple[_Suite, ...] = ()
    components: tuple[_Word, ...] = ()
    keyring: str
    architectures: tuple[str, ...] = ()
    redistribution: Redistribution = Redistribution.OPERATOR_ONLY
    owner: str = ""
    signed_index: bool = True

    @model_validator(mode="after")
    def _is_whole(self) -> ArchiveMirror:
        if not PurePosixPath(self.keyring).is_absolute():
            raise ValueError("keyring: must be an absolute path")
        if self.components and not self.suites:
            raise ValueError("components need suites")
        if len(self.suites) > 0 and all(suite.endswith("/") for suite in self.suites):
            if self.components:
                raise ValueError("a flat archive (suite with a slash at its end) has no components")
        elif self.suites and not self.components:
            raise ValueError("suites need components")
        return self


class MirrorsFile(Model):
    """The file behind `--mirrors FILE` and $AIBOX_MIRRORS."""

    version: int
    archive: tuple[ArchiveMirror, ...] = ()


@dataclass(frozen=True)
class Mirrors:
    """All addresses that this packager knows: those he named, and those of his apt."""

    named: tuple[ArchiveMirror, ...] = ()
    configured: tuple[apt.Source, ...] = ()

    def archives(self, target: Target, architecture: str) -> tuple[ArchiveMirror, ...]:
        """The archives of a release, its own first; `architecture` as the lock writes it.

        Raises `BadUsage` (`archive-address-unknown`) for one that nobody gave an address.
        """
        named = [
            archive
            for archive in self.named
            if target.name in archive.targets
            and (not archive.architectures or architecture in archive.architectures)
        ]
        labels = {archive.label for archive in named}
        own = [
            self._configured(target, label, suites)
            for label, suites in target.archives
            if label not in labels
        ]
        if target.format is PackageFormat.RPM and not named:
            raise _unknown(target, target.name)
        return (*own, *sorted(named, key=lambda archive: archive.label))

    def _configured(self, target: Target, label: str, suites: tuple[str, ...]) -> ArchiveMirror:
        distribution = target.distribution
        if distribution is None:
            raise _unknown(target, label)
        pocket = "security" if label == label_of(distribution, "security") else ""
        found = apt.serving(self.configured, distribution, pocket)
        if not found:
            raise _unknown(target, label)
        return ArchiveMirror(
            label=label,
            targets=(target.name,),
            address=found[0].address,
            suites=suites,
            components=distribution.components,
            keyring=distribution.keyring,
            redistribution=Redistribution.ALLOW,
            owner=distribution.name,
        )


def _unknown(target: Target, label: str) -> BadUsage:
    return BadUsage(
        "archive-address-unknown",
        f"nobody says where the archive {label!r} of {target.name} is to be had",
        context="neither the mirrors file nor apt of this machine names an address",
        hint=f"write an entry with the label {label!r} into a mirrors file, then: {COMMAND}",
        fault=Fault.YOU,
    )
