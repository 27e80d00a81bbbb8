"""`aibox lock` put together: the resolution with its two edges, uv and the package index."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from aibox import lock as locks
from aibox import plan as plans
from aibox import profile, release
from aibox.box import host, packages, wheels
from aibox.box.wheels import WheelPin
from aibox.bundle import resolve
from aibox.content import Content
from aibox.lock import ModelsLock, Wheel
from aibox.plan import Difference, Target
from aibox.progress import Progress, Report
from aibox.release import Release

STEP = "lock"


def run(
    content: Content,
    names: Sequence[str],
    upgrade: Sequence[str],
    report: Report,
    *,
    write: bool,
) -> tuple[Difference, ...]:
    """Resolve the profiles `names` (all when empty) and return what changes in models.lock."""
    previous = locks.load(content.lockfile) if content.lockfile.exists() else None
    resolved = resolve.resolve(
        content,
        names or profile.names(content.profiles),
        previous,
        upgrade,
        lambda wishes, keep: _resolve(wishes, keep, report),
        lambda found: _describe(found, report),
    )
    text = resolve.dump(resolved)
    locks.parse(text)
    if write and text != _text(content.lockfile):
        _replace(content.lockfile, text)
    return _differences(content, previous, resolved)


def release_of(content: Content, name: str) -> Release:
    """The release that models.lock and the profile `name` give now."""
    return release.make(locks.load(content.lockfile), profile.load(content.profiles, name))


def _resolve(wishes: Sequence[str], keep: Sequence[str], report: Report) -> str:
    report(Progress(STEP, f"resolving {len(wishes)} requirements for every platform"))
    return packages.resolve(wishes, keep, resolve.PYTHONS[0])


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


def _differences(
    content: Content, previous: ModelsLock | None, resolved: ModelsLock
) -> tuple[Difference, ...]:
    names = sorted(resolved.tuning)
    after = {name: release.make(resolved, profile.load(content.profiles, name)) for name in names}
    if previous is None:
        return tuple(
            Difference(name=name, current="(none)", desired=after[name].id[:12]) for name in names
        )
    found: dict[str, Difference] = {}
    for name in names:
        if name not in previous.tuning:
            found[name] = Difference(name=name, current="(none)", desired=after[name].id[:12])
            continue
        before = release.make(previous, profile.load(content.profiles, name))
        found |= {item.name: item for item in plans.compare_releases(before, after[name])}
    return tuple(found.values())


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
