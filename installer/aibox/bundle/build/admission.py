"""What must hold of lock, releases and wishes before anything is fetched for a bundle. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import product

from aibox import objects
from aibox.bundle import licences
from aibox.bundle.build import pylock
from aibox.bundle.packages import python_folder, targets
from aibox.bundle.trust import signing
from aibox.bundle.trust.have import Holdings
from aibox.errors import BadUsage, Fault
from aibox.lock import ModelsLock, Wheel
from aibox.pins import PackageSet, Pin, Redistribution, State
from aibox.release import Release

COMMAND = "./aibox bundle build"


_Licensed = Pin | Wheel


def interpreters(
    lock: ModelsLock, architectures: Iterable[str], pythons: Collection[str]
) -> dict[str, PackageSet]:
    """Architecture -> the packages that its interpreter is made of, where the lock has them.

    An interpreter that the bundle has no packages for would start nothing.
    """
    if python_folder.VERSION not in pythons:
        return {}
    named = {pins.name: pins for pins in lock.packages}
    found = {
        machine: named.get(python_folder.wish(targets.MACHINES[machine]).name)
        for machine in architectures
    }
    return {machine: pins for machine, pins in found.items() if pins is not None}


def require_known(architectures: Iterable[str], pythons: Iterable[str]) -> None:
    """Raises `BadUsage` (`architecture-unknown`, `python-unknown`): models.lock has no builds."""
    for kind, option, given, known in (
        ("architecture", "--architecture", architectures, pylock.ARCHITECTURES),
        ("python", "--python", pythons, pylock.PYTHONS),
    ):
        for value in given:
            if value not in known:
                raise BadUsage(
                    f"{kind}-unknown",
                    f"no bundle is made for {kind} {value[:40]!r}; there are: {', '.join(known)}",
                    hint=f"for example: {COMMAND} {option} {known[0]}",
                    fault=Fault.YOU,
                )


def require_for_box(
    have: Holdings, architectures: Collection[str], pythons: Collection[str]
) -> None:
    """A delta is for the box whose list it is made against; `BadUsage` (`have-of-another-host`)."""
    for option, own, given in (
        ("--architecture", have.architecture, architectures),
        ("--python", have.python, pythons),
    ):
        if own not in given:
            raise BadUsage(
                "have-of-another-host",
                f"the box that wrote the list needs {own}, the bundle is for {', '.join(given)}",
                hint=f"leave {option} out, the list says it: {COMMAND} --have FILE",
                fault=Fault.YOU,
            )


def require_young(lock: ModelsLock, today: datetime.date) -> None:
    """A bundle's life begins with its lock; raises `BadUsage` (`lock-too-old`) when it is over."""
    if today >= lock.date + signing.BUNDLE_LIFE:
        raise BadUsage(
            "lock-too-old",
            f"models.lock is of {lock.date}, and boxes refuse a bundle of it since "
            f"{lock.date + signing.BUNDLE_LIFE}",
            hint="look its pins through, then give it a new date: ./aibox lock --next",
            fault=Fault.YOU,
        )


def require_models(releases: Iterable[Release], without: Collection[str]) -> None:
    """Only a model of the releases can be left out; `BadUsage` (`model-unknown`)."""
    known = sorted({model.name for release in releases for model in release.models})
    for name in sorted(without):
        if name not in known:
            raise BadUsage(
                "model-unknown",
                f"no profile of the bundle has a model named {name[:80]!r}",
                context=f"there are: {', '.join(known) or 'none'}",
                hint=f"name one of them, or leave the option out: {COMMAND} --without MODEL",
                fault=Fault.YOU,
            )


def require_licences(
    releases: Sequence[Release],
    others: Iterable[_Licensed],
    without: Collection[str],
    *,
    for_operator: bool,
) -> None:
    """No bundle holds what nobody may hand on; what only the operator may have, is for him.

    `others` is what the bundle holds beside the releases. Raises `BadUsage`:
    `redistribution-forbidden`, `redistribution-operator-only`.
    """
    models = {model.name for release in releases for model in release.models}
    pins = [*(pin for release in releases for pin in _pins(release, without)), *others]
    forbidden = _of(Redistribution.FORBID, pins)
    if forbidden:
        brought = sorted(models.intersection(forbidden))
        raise BadUsage(
            "redistribution-forbidden",
            f"no bundle may hold: {', '.join(forbidden.values())}",
            context=licences.explain(Redistribution.FORBID),
            hint="leave it out and let the operator bring the weights: "
            f"{COMMAND} --without {brought[0]}, and on the box: "
            "./aibox install --bundle BUNDLE --weights FOLDER"
            if brought
            else "let the profile wish for something else, then: ./aibox lock",
            fault=Fault.YOU,
        )
    own = _of(Redistribution.OPERATOR_ONLY, pins)
    if own and not for_operator:
        raise BadUsage(
            "redistribution-operator-only",
            f"only the operator may have: {', '.join(own.values())}",
            context=licences.explain(Redistribution.OPERATOR_ONLY),
            hint=f"say that the bundle goes to nobody else: {COMMAND} --for-operator",
            fault=Fault.YOU,
        )


def _pins(release: Release, without: Collection[str]) -> Iterator[_Licensed]:
    yield from (model for model in release.models if model.name not in without)
    yield from release.images
    yield from release.packages
    yield from release.files
    yield from release.wheels


def _of(redistribution: Redistribution, pins: Iterable[_Licensed]) -> dict[str, str]:
    """Name -> name and licence, of the pins of one class."""
    return {
        pin.name: f"{pin.name} ({pin.licence})"
        for pin in pins
        if pin.redistribution is redistribution
    }


def require_wheels(
    wheels: Iterable[Wheel], architectures: Collection[str], pythons: Collection[str]
) -> None:
    """Every package has a build for each kind of host; `BadUsage` (`wheel-missing-for-host`)."""
    for wheel, machine, python in product(wheels, architectures, pythons):
        if not any(objects.fits(file.filename, (python,), (machine,)) for file in wheel.files):
            raise BadUsage(
                "wheel-missing-for-host",
                f"models.lock has no build of {wheel.name} {wheel.version} for Python {python} on "
                f"{machine}, so such a host could not install the bundle",
                hint="choose hosts that it has builds for (--python, --architecture), or resolve "
                "its packages anew: ./aibox lock",
                fault=Fault.YOU,
            )


def require_key(releases: Iterable[Release], architectures: Iterable[str]) -> None:
    """For a bundle that nobody signs: nothing in it needs a key; `BadUsage`
    (`packages-need-a-key`)."""
    machines = tuple(architectures)
    for release in releases:
        for pins in (found for machine in machines for found in objects.packages(release, machine)):
            raise BadUsage(
                "packages-need-a-key",
                f"the packages of {pins.name} become a repository, and one is always signed",
                hint=f"make keys with: ./aibox trust init DIR, then: {COMMAND} --sign DIR",
                fault=Fault.YOU,
            )


def require_sources(releases: Iterable[Release], architectures: Iterable[str]) -> None:
    """What is pinned can be fetched: images are built for the hosts, files have an address.

    Raises `BadUsage`: `image-does-not-fit`, `file-without-address`. What is unresolved is completed
    first, and asked about again.
    """
    machines = tuple(architectures)
    for release in releases:
        for image in release.images:
            if image.state is State.RESOLVED:
                for machine in machines:
                    objects.platform(image, machine)
        for file in release.files:
            if file.state is State.RESOLVED and file.address is None:
                raise BadUsage(
                    "file-without-address",
                    f"models.lock does not say where {file.name} can be fetched",
                    context=f"its pin was read from: {file.source}",
                    hint="name its address in the profile's [[file]], then: ./aibox lock",
                    fault=Fault.YOU,
                )
