"""`aibox lock` put together: the resolution with its edges, each somebody elsewhere to ask.

The packager's side is imported when it is used: a box has none of its libraries.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aibox import lock as locks
from aibox import plan as plans
from aibox import profile, release
from aibox.box import host, packages, wheels
from aibox.box.wheels import WheelPin
from aibox.bundle import licences
from aibox.bundle.manifest import Kind
from aibox.content import Content
from aibox.errors import BadUsage, Failed, Fault
from aibox.fit import loadable
from aibox.lock import ModelsLock, Wheel
from aibox.pins import FilePin, ImagePin, ModelPin, PackageSet
from aibox.plan import Target
from aibox.profile import FileWish, ImageWish, ModelWish, PackagesWish
from aibox.progress import Progress, Report
from aibox.release import Release
from aibox.schema import replace_text

if TYPE_CHECKING:
    from aibox.bundle.build.cache import BlobCache
    from aibox.bundle.build.resolve import Resolvers
    from aibox.bundle.build.review import Change

STEP = "lock"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where this packager asks: a file of mirrors, a file with the hub's token; both optional.

    Without, $AIBOX_MIRRORS and apt's own configuration, and HF_TOKEN.
    """

    mirrors: Path | None = None
    hub_token: Path | None = None


def run(
    content: Content,
    names: Sequence[str],
    upgrade: Sequence[str],
    report: Report,
    *,
    write: bool,
    sources: Sources = Sources(),
    strict: bool = False,
) -> tuple[Change, ...]:
    """Resolve the profiles `names` (all when empty) and write models.lock; returns what changed.

    A pin that nobody can complete now stays unresolved; with `strict` that is an error. Without
    `write` nothing is looked up anywhere either: then the answer is what is out of date.
    """
    if not write:
        return check(content, names)
    return update(
        content, names, upgrade, report, resolvers(report, sources), current_date(), strict=strict
    )


def update(
    content: Content,
    names: Sequence[str],
    upgrade: Sequence[str],
    report: Report,
    resolvers: Resolvers,
    today: datetime.date,
    *,
    strict: bool = False,
) -> tuple[Change, ...]:
    """Like `run`, asking `resolvers` on the day `today`; when one raises, nothing is written."""
    from aibox.bundle.build import resolve, review

    previous = _previous(content)
    chosen = names or profile.names(content.profiles)
    _refuse_what_cannot_load(content, chosen)
    resolved = resolve.resolve(
        content, chosen, previous, upgrade, resolvers, today, report, strict=strict
    )
    text = locks.dump(resolved)
    locks.parse(text)
    if text != _text(content.lockfile):
        replace_text(content.lockfile, text, what="lock", command=locks.COMMAND)
    left = review.findings(resolved, resolve.wanted(content))
    return (*review.changes(previous, resolved), *left)


def advance(content: Content, today: datetime.date | None = None) -> int:
    """Raise the sequence alone, and return it: for a bundle with another command line.

    A box that has seen a sequence refuses anything else under it, and the command line is packed
    with the checkout, not pinned in the lock.
    """
    lock = locks.load(content.lockfile)
    update = {"sequence": lock.sequence + 1, "date": today or current_date()}
    text = locks.dump(lock.model_copy(update=update))
    replace_text(content.lockfile, text, what="lock", command=f"{locks.COMMAND} --next")
    return lock.sequence + 1


def check(content: Content, names: Sequence[str]) -> tuple[Change, ...]:
    """What of models.lock is stale, missing or unresolved, out of this checkout alone."""
    from aibox.bundle.build import python_packages, resolve, review
    from aibox.bundle.build.review import Change, Matter

    previous = _previous(content)
    if previous is None:
        raise BadUsage(
            "lock-missing",
            f"{content.lockfile} does not exist",
            hint="write it with: ./aibox lock",
            fault=Fault.YOU,
        )
    chosen = names or profile.names(content.profiles)
    _refuse_what_cannot_load(content, chosen)
    own = resolve.local(content, chosen, previous)
    found = [*review.changes(previous, own), *review.findings(own, resolve.wanted(content))]
    for name, locked, now in (
        ("wheel", previous.requirements, python_packages.requirements_digest(content)),
        ("program", previous.program_requirements, python_packages.program_digest(content)),
    ):
        if locked != now:
            other = "packages of other requirements"
            found.append(
                Change(name=name, current=other, desired="those of now", state=Matter.STALE)
            )
    return tuple(found)


def _refuse_what_cannot_load(content: Content, names: Sequence[str]) -> None:
    """Before anything is fetched: gigabytes that no engine of the profile can load."""
    wished = [profile.load(content.profiles, name) for name in names]
    loadable.refuse_profiles(content.catalogue, wished)


def release_of(content: Content, name: str) -> Release:
    """The release that models.lock and the profile `name` give now."""
    return release.make(locks.load(content.lockfile), profile.load(content.profiles, name))


def resolvers(report: Report, sources: Sources) -> Resolvers:
    """Everybody there is to ask: a hub, registries, archives, web servers, the package index."""
    from aibox.bundle.build.resolve import Resolvers

    return Resolvers(
        wheels=lambda wishes, keep: _resolve(wishes, keep, report),
        describe=lambda found: _describe(found, report),
        model=lambda wish, known: _model(wish, known, report, sources),
        image=lambda wish, known, machines: _image(wish, known, machines, report),
        packages=lambda wish, machine: _packages(wish, machine, report, sources),
        file=lambda wish, known: _file(wish, known, report),
    )


def _model(wish: ModelWish, known: ModelPin | None, report: Report, sources: Sources) -> ModelPin:
    try:
        from aibox.bundle.build import hub
    except ModuleNotFoundError as error:
        raise Failed(
            "packager-tools-missing",
            f"resolving models needs {error.name}, which only a packager's machine has",
            hint="let the launcher of the checkout make its environment: ./aibox lock",
            fault=Fault.HOST,
        ) from error
    return hub.resolve(
        wish,
        known,
        _cache(),
        report,
        token_file=sources.hub_token,
        classify=lambda licence: licences.classify(licence, Kind.MODEL),
    )


def _image(
    wish: ImageWish, known: ImagePin | None, machines: Sequence[str], report: Report
) -> ImagePin:
    from aibox.bundle.build import registry

    return registry.resolve(wish, known, machines, report, classify=licences.classify)


def _packages(wish: PackagesWish, machine: str, report: Report, sources: Sources) -> PackageSet:
    from aibox.bundle.build import mirrors_file, system_packages

    return system_packages.resolve(wish, machine, mirrors_file.read(sources.mirrors), report)


def _file(wish: FileWish, known: FilePin | None, report: Report) -> FilePin:
    from aibox.bundle.build import files

    return files.resolve(wish, known, _cache(), report)


def _cache() -> BlobCache:
    from aibox.bundle.build.cache import BlobCache, default_folder

    return BlobCache(default_folder())


def current_date() -> datetime.date:
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
