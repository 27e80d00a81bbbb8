"""`aibox lock` put together: the resolution with its edges, each somebody elsewhere to ask.

The packager's side is imported when it is used: a box has none of its libraries.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from aibox import lock as locks
from aibox import plan as plans
from aibox import profile, release
from aibox.box import host, packages, wheels
from aibox.box.wheels import WheelPin
from aibox.content import Content
from aibox.errors import BadUsage, Failed, Fault
from aibox.lock import ModelsLock, Wheel
from aibox.plan import Target
from aibox.progress import Progress, Report
from aibox.release import Release

if TYPE_CHECKING:
    from aibox.bundle.build.resolve import Resolvers
    from aibox.bundle.build.review import Change

STEP = "lock"


def run(
    content: Content,
    names: Sequence[str],
    upgrade: Sequence[str],
    report: Report,
    *,
    write: bool,
) -> tuple[Change, ...]:
    """Resolve the profiles `names` (all when empty) and write models.lock; returns what changed.

    Without `write` nothing is looked up anywhere either: then the answer is what is out of date.
    """
    if not write:
        return check(content, names)
    return update(content, names, upgrade, report, resolvers(report), _today())


def update(
    content: Content,
    names: Sequence[str],
    upgrade: Sequence[str],
    report: Report,
    resolvers: Resolvers,
    today: datetime.date,
) -> tuple[Change, ...]:
    """Like `run`, asking `resolvers` on the day `today`; when one raises, nothing is written."""
    from aibox.bundle.build import resolve, review

    previous = _previous(content)
    chosen = names or profile.names(content.profiles)
    resolved = resolve.resolve(content, chosen, previous, upgrade, resolvers, today, report)
    text = locks.dump(resolved)
    locks.parse(text)
    if text != _text(content.lockfile):
        _replace(content.lockfile, text)
    left = review.findings(resolved, resolve.wanted(content))
    return (*review.changes(previous, resolved), *left)


def check(content: Content, names: Sequence[str]) -> tuple[Change, ...]:
    """What of models.lock is stale, missing or unresolved, out of this checkout alone."""
    from aibox.bundle.build import resolve, review

    previous = _previous(content)
    if previous is None:
        raise BadUsage(
            "lock-missing",
            f"{content.lockfile} does not exist",
            hint="write it with: ./aibox lock",
            fault=Fault.YOU,
        )
    own = resolve.local(content, names or profile.names(content.profiles), previous)
    found = [*review.changes(previous, own), *review.findings(own, resolve.wanted(content))]
    if previous.requirements != resolve.requirements_digest(content):
        found.append(
            review.Change(
                name="wheel",
                current="resolved for other requirements",
                desired="the requirements of stacks/rag/app/pyproject.toml",
                state=review.Matter.STALE,
            )
        )
    return tuple(found)


def release_of(content: Content, name: str) -> Release:
    """The release that models.lock and the profile `name` give now."""
    return release.make(locks.load(content.lockfile), profile.load(content.profiles, name))


def resolvers(report: Report) -> Resolvers:
    """Everybody there is to ask: the package index, with uv."""
    from aibox.bundle.build.resolve import Resolvers

    return Resolvers(
        wheels=lambda wishes, keep: _resolve(wishes, keep, report),
        describe=lambda found: _describe(found, report),
        model=lambda wish, _known: _nobody(wish.name),
        image=lambda wish, _known, _architectures: _nobody(wish.name),
        packages=lambda wish, _architecture: _nobody(wish.name),
        file=lambda wish, _known: _nobody(wish.name),
    )


def _nobody(name: str) -> NoReturn:
    raise Failed(
        "resolver-missing",
        f"this version cannot resolve {name!r}",
        hint="leave the wish out of the profile: ./aibox lock --check",
        fault=Fault.US,
    )


def _today() -> datetime.date:
    """In UTC, so that it does not depend on where the packager sits."""
    return datetime.datetime.now(datetime.UTC).date()


def _resolve(wishes: Sequence[str], keep: Sequence[str], report: Report) -> str:
    from aibox.bundle.build import pylock

    report(Progress(STEP, f"resolving {len(wishes)} requirements for every platform"))
    return packages.resolve(wishes, keep, pylock.PYTHONS[0])


def _describe(found: Sequence[Wheel], report: Report) -> dict[str, tuple[str, str]]:
    """Licence and owner of each package, out of the build that fits this host."""
    target = Target(python=host.python_tag(), tags=tuple(map(str, host.wheel_tags())))
    chosen = {file.sha256 for file in plans.select_wheels(tuple(found), target)}
    pins = [
        WheelPin(wheel.name, wheel.version, file.filename, file.size, file.sha256)
        for wheel in found
        for file in wheel.files
        if file.sha256 in chosen
    ]
    with tempfile.TemporaryDirectory(prefix="aibox-lock-") as folder:
        wheels.fetch(pins, Path(folder), lambda line: report(Progress(STEP, line)))
        described = {pin.name: packages.describe(Path(folder) / pin.filename) for pin in pins}
    return {name: (item.licence, item.owner) for name, item in described.items()}


def _previous(content: Content) -> ModelsLock | None:
    return locks.load(content.lockfile) if content.lockfile.exists() else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
