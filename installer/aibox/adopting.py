"""A calibration from a site, taken into the profile it was made with, for people to review.

The profile is what people write and what `aibox lock` resolves, so the value goes there, with
where it was measured beside it. Nothing else of the file changes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aibox import lock as locks
from aibox import profile as profiles
from aibox import release as releases
from aibox.content import Content
from aibox.errors import BadUsage, Fault
from aibox.fit.engine import MIB
from aibox.measuring import basis, calibration
from aibox.measuring.calibration import Calibration
from aibox.schema import MOST_BYTES, replace_text
from aibox.serving import FROZEN

_LINE = re.compile(rf"^{FROZEN}\s*=.*$", re.MULTILINE)
_NEXT = re.compile(r"^\[", re.MULTILINE)


@contextmanager
def adopted(content: Content, file: Path) -> Iterator[str]:
    """The profile's name, with the value in its file; taken back when the block fails.

    Raises `BadUsage`: `calibration-…`, and what reading lock and profile raises.
    """
    found = calibration.parse(_read(file), str(file))
    profile = profiles.load(content.profiles, found.profile)
    release = releases.make(locks.load(content.lockfile), profile)
    _refuse_other(found, release)
    path = content.profiles / f"{found.profile}.toml"
    before = path.read_text(encoding="utf-8")
    command = f"./aibox lock --calibration {file}"
    replace_text(path, edited(before, found), what="profile", command=command)
    try:
        yield found.profile
    except BaseException:
        replace_text(path, before, what="profile", command=command)
        raise


def edited(text: str, found: Calibration) -> str:
    """A profile's text with the measured value; raises `BadUsage` (`calibration-no-place`)."""
    if found.freeze is None:
        raise BadUsage(
            "calibration-freezes-nothing",
            f"there is nothing to take in: {found.why_not}",
            hint="the profile stays as it is: ./aibox lock --check",
            fault=Fault.YOU,
        )
    line = f"{FROZEN} = {found.freeze}  # {_source(found)}"
    heading = f"[serving.{found.service}.arguments]"
    start = text.find(f"\n{heading}\n")
    made = _placed(text, start + len(heading) + 2, line) if start >= 0 else text
    wanted = _with_value(tomllib.loads(text), found.service, found.freeze)
    if tomllib.loads(made) != wanted:
        raise BadUsage(
            "calibration-no-place",
            f"the profile {found.profile!r} has no section {heading} of its own",
            hint=f"write {FROZEN} = {found.freeze} among its arguments, then: ./aibox lock",
            fault=Fault.YOU,
        )
    return made


def _placed(text: str, start: int, line: str) -> str:
    """The line at the head of a section that begins at `start`, or in place of the one there."""
    following = _NEXT.search(text, start)
    end = following.start() if following else len(text)
    old = _LINE.search(text, start, end)
    if old:
        return text[: old.start()] + line + text[old.end() :]
    return f"{text[:start]}{line}\n{text[start:]}"


def _with_value(values: dict[str, Any], service: str, freeze: int) -> dict[str, Any]:
    served = values.setdefault("serving", {}).setdefault(service, {})
    served.setdefault("arguments", {})[FROZEN] = freeze
    return values


def _source(found: Calibration) -> str:
    cards = found.basis.hardware
    told = f"measured {found.made:%Y-%m-%d} by vLLM {found.started.engine or 'unknown'} on "
    told += f"{len(cards)} x {cards[0]}" if len(set(cards)) == 1 else "; ".join(cards)
    if found.throughput:
        best = max(found.throughput, key=lambda one: one.written_per_s)
        told += f"; {best.load} wrote {best.written_per_s:.0f} tokens/s"
    # It becomes a comment: one line of what can be printed, whatever the file says.
    return "".join(one for one in " ".join(told.split()) if one.isprintable())


def _refuse_other(found: Calibration, release: releases.Release) -> None:
    """Only what is locked here may take it in: another engine needs memory of its own."""
    if found.service not in basis.measurable(release):
        raise _stale(found, f"that has no engine {found.service!r} that is measured")
    mine = basis.of_release(release, found.service, found.basis.hardware)
    if other := calibration.stale(found, mine):
        raise _stale(found, "; ".join(other))
    least = release.hardware.memory_mib_min if release.hardware else None
    if least is not None and found.freeze is not None and found.freeze >= least * MIB:
        raise _stale(found, f"{found.freeze} bytes do not fit into a GPU of {least} MiB")


def _stale(found: Calibration, told: str) -> BadUsage:
    command = basis.typed("calibrate", found.service)
    return BadUsage(
        "calibration-stale",
        f"the calibration is of something else than what is locked: {told}",
        hint=f"install the release of this lock on the site, then there: {command}",
        fault=Fault.YOU,
    )


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadUsage(
            "calibration-unreadable",
            f"{file} cannot be read: {error.strerror}",
            hint=f"check the name with: ls -l {file.parent}",
            fault=Fault.YOU,
        ) from error
    if len(data) > MOST_BYTES:
        raise BadUsage(
            "calibration-unreadable",
            f"{file} is larger than any calibration",
            hint="make one on the box, with its engine running: ./aibox calibrate",
            fault=Fault.YOU,
        )
    return data
