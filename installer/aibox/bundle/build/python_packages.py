"""The Python packages in the lock: those of the app, and those of the command line itself.

The app's are resolved from its requirements. The command line's are chosen elsewhere
(requirements/refresh), because a checkout starts with them before there is an `aibox` that could
read models.lock. Here they get what a bundle needs of them: the builds for every supported host,
licence and owner.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ValidationError

from aibox import digest
from aibox.bundle import licences
from aibox.bundle.build import pylock
from aibox.bundle.manifest import Kind
from aibox.content import Content
from aibox.errors import BadUsage, Fault, VerificationRefused
from aibox.lock import COMMAND, Wheel
from aibox.schema import invalid, read_text

Index = Callable[[Sequence[str], Sequence[str]], str]
"""(requirement lines, exact versions to keep) -> text of a PEP 751 lock."""
Describer = Callable[[Sequence[Wheel]], Mapping[str, tuple[str, str]]]
"""Packages -> (licence, owner) by name."""

_PINNED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?P<marker> ; [^\\]+)?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class _Project(BaseModel):
    dependencies: tuple[str, ...]


class _App(BaseModel):
    """What is resolved of a pyproject.toml."""

    project: _Project


@dataclass(frozen=True, slots=True)
class Pinned:
    """An entry of a requirements file: its line without hashes, and the digests of its builds."""

    name: str
    line: str
    digests: frozenset[str]


def requirements(content: Content) -> list[str]:
    """The app's direct requirements, sorted. Raises `BadUsage` (`requirements-...`)."""
    path = content.app_requirements
    text = read_text(path, what="requirements", command=COMMAND)
    try:
        return sorted(_App.model_validate(tomllib.loads(text)).project.dependencies)
    except ValidationError as error:
        raise invalid(error, what="requirements", source=str(path), command=COMMAND) from error
    except ValueError as error:
        raise BadUsage(
            "requirements-invalid",
            f"{path} is not TOML: {error}",
            hint=f"correct it, then run: {COMMAND}",
            fault=Fault.YOU,
        ) from error


def requirements_digest(content: Content) -> str:
    """The digest of the app's direct requirements and the hosts we resolve for."""
    return digest.of_json([requirements(content), pylock.PYTHONS, pylock.ARCHITECTURES])


def program_pins(content: Content) -> tuple[Pinned, ...]:
    """What the command line's own lock pins. Raises `BadUsage` (`requirements-...`)."""
    path = content.program_requirements
    return parse_pins(read_text(path, what="requirements", command=COMMAND))


def program_digest(content: Content) -> str:
    """The digest of the command line's own pins and the hosts we take builds for."""
    pins = [[pin.line, sorted(pin.digests)] for pin in program_pins(content)]
    return digest.of_json([pins, pylock.PYTHONS, pylock.ARCHITECTURES])


def parse_pins(text: str) -> tuple[Pinned, ...]:
    """The entries of a hashed requirements file as uv and pip write it."""
    entries = (entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#"))
    found = ((_PINNED.match(entry), entry) for entry in entries)
    return tuple(
        Pinned(canonicalize_name(match["name"]), match[0].strip(), frozenset(_HASH.findall(entry)))
        for match, entry in found
        if match
    )


def resolve(
    lines: Sequence[str],
    known: Iterable[Wheel],
    moving: Collection[str],
    index: Index,
    describe: Describer,
) -> tuple[Wheel, ...]:
    """The packages that `lines` ask for; known versions stay unless their name is in `moving`."""
    by_name = {wheel.name: wheel for wheel in known}
    keep = [f"{item.name}=={item.version}" for item in by_name.values() if item.name not in moving]
    found = pylock.parse(index(lines, keep))
    new = [wheel for wheel in found if not _is_known(by_name.get(wheel.name), wheel)]
    described = describe(new) if new else {}
    return tuple(_described(wheel, by_name.get(wheel.name), described) for wheel in found)


def program(
    pins: Sequence[Pinned], known: Iterable[Wheel], index: Index, describe: Describer
) -> tuple[Wheel, ...]:
    """The command line's packages, each with the builds that its own lock has the digests of.

    Raises `VerificationRefused` when the index has other bytes for a version.
    """
    digests = {pin.name: pin.digests for pin in pins}
    found = resolve([pin.line for pin in pins], known, {pin.name for pin in pins}, index, describe)
    return tuple(_agreed(wheel, digests.get(wheel.name, frozenset())) for wheel in found)


def classified(wheels: Iterable[Wheel]) -> tuple[Wheel, ...]:
    """The packages with the class of redistribution that their licences have now."""
    return tuple(map(_classified, wheels))


def _agreed(wheel: Wheel, digests: frozenset[str]) -> Wheel:
    files = tuple(file for file in wheel.files if file.sha256 in digests)
    if not files:
        raise VerificationRefused(
            "program-differs",
            f"no build of {wheel.name} {wheel.version} has a digest that requirements/cli.lock "
            "names",
            hint="find out what the index serves; a new version is taken in by "
            "requirements/refresh, and then: ./aibox lock",
            fault=Fault.UPSTREAM,
        )
    return wheel.model_copy(update={"files": files})


def _is_known(known: Wheel | None, wheel: Wheel) -> bool:
    return known is not None and known.version == wheel.version


def _described(wheel: Wheel, known: Wheel | None, found: Mapping[str, tuple[str, str]]) -> Wheel:
    if known is not None and _is_known(known, wheel):
        licence, owner = known.licence, known.owner
    else:
        licence, owner = found[wheel.name]
    return _classified(wheel.model_copy(update={"licence": licence, "owner": owner}))


def _classified(wheel: Wheel) -> Wheel:
    redistribution = licences.classify(wheel.licence, Kind.WHEEL)
    return wheel.model_copy(update={"redistribution": redistribution})
