"""What profiles wish for, and how it stands with what models.lock pins. Pure.

A pin and its wish belong together by kind and name. A pin whose files nobody chose by patterns
was listed file by file, a file pin without address by its digest: they stand for any such wish.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from aibox import objects
from aibox.errors import BadUsage, Fault
from aibox.lock import PIN_KINDS, ModelsLock
from aibox.pins import FilePin, ImagePin, ModelPin, PackageSet, Pin, State
from aibox.profile import FileWish, ImageWish, ModelWish, PackagesWish, Profile

Wish = ModelWish | ImageWish | PackagesWish | FileWish
Key = tuple[str, str]
"""Kind (a field of the lock) and name."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Standing(StrEnum):
    """How a pin stands with its wish; all but the first two ask for `aibox lock`."""

    FITS = "fits"
    UNRESOLVED = "unresolved"
    MISSING = "missing"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Want:
    """A wish, the profiles that have it, and the architectures it is for (as the kernel's)."""

    kind: str
    wish: Wish
    architectures: tuple[str, ...]
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """How one wish stands; `keeps` says that the pin's revision or digest stays as it is."""

    standing: Standing
    detail: str = ""
    keeps: bool = True


def pins_of(lock: ModelsLock | None) -> dict[Key, Pin]:
    """Every pin of a lock by kind and name; none without a lock."""
    if lock is None:
        return {}
    return {(kind, pin.name): pin for kind in PIN_KINDS for pin in getattr(lock, kind)}


def collect(found: Iterable[Profile]) -> dict[Key, Want]:
    """The wishes of all profiles, sorted; `BadUsage` when two of one name are not equal."""
    wants: dict[Key, Want] = {}
    for profile in found:
        for kind in PIN_KINDS:
            for wish in getattr(profile, kind):
                want = Want(kind, wish, profile.requires.architectures, (profile.name,))
                wants[kind, wish.name] = _joined(wants.get((kind, wish.name)), want)
    for want in wants.values():
        _refuse_many_architectures(want)
    return dict(sorted(wants.items()))


def _joined(known: Want | None, want: Want) -> Want:
    if known is None:
        return want
    if known.wish != want.wish:
        raise BadUsage(
            "wishes-differ",
            f"the profiles {known.profiles[0]} and {want.profiles[0]} wish for different things "
            f"named {want.wish.name!r} ({want.kind})",
            context=f"{known.wish!r}; {want.wish!r}"[:600],
            hint=f"give one of them another name: ./aibox profiles show {want.profiles[0]}",
            fault=Fault.YOU,
        )
    return replace(
        known,
        profiles=(*known.profiles, *want.profiles),
        architectures=tuple(sorted({*known.architectures, *want.architectures})),
    )


def _refuse_many_architectures(want: Want) -> None:
    if isinstance(want.wish, PackagesWish) and len(want.architectures) != 1:
        raise BadUsage(
            "packages-of-many-architectures",
            f"the packages {want.wish.name!r} are wished for "
            f"{', '.join(want.architectures) or 'no architecture'}; a set is of exactly one",
            context="profiles: " + ", ".join(want.profiles),
            hint=f"make a profile of each: ./aibox profiles show {want.profiles[0]}",
            fault=Fault.YOU,
        )


def compare(want: Want, pin: Pin | None) -> Finding:
    """How the wish stands with the pin of its kind and name."""
    if pin is None:
        return Finding(Standing.MISSING, "not in models.lock", keeps=False)
    other = _differences(want, pin)
    if other:
        return Finding(Standing.STALE, other, keeps=False)
    lacking = _lacking(want, pin)
    if lacking:
        return Finding(Standing.STALE, lacking)
    if pin.state is State.UNRESOLVED:
        return Finding(Standing.UNRESOLVED, "some sizes or digests are not known")
    return Finding(Standing.FITS)


def _differences(want: Want, pin: Pin) -> str:
    """Where the pin is of something else than what is wished for."""
    pairs: Mapping[str, tuple[object, object]] = {}
    match want.wish, pin:
        case ModelWish() as wish, ModelPin():
            pairs = {"repository": (pin.repository, wish.repository)}
            if _COMMIT.fullmatch(wish.revision):
                pairs = {**pairs, "revision": (pin.revision, wish.revision)}
        case ImageWish() as wish, ImagePin():
            pairs = {"reference": (pin.reference, wish.reference)}
        case PackagesWish() as wish, PackageSet():
            names = objects.ARCHITECTURES.get(want.architectures[0], frozenset())
            same = pin.architecture in {*names, want.architectures[0]}
            pairs = {
                "format": (pin.format.value, wish.format.value),
                "target": (pin.target, wish.target),
                "wanted": (sorted(pin.wanted), sorted(wish.wanted)),
                "kernels": (sorted(pin.kernels), sorted(wish.kernels)),
                "architecture": (pin.architecture, pin.architecture if same else "another"),
            }
        case FileWish() as wish, FilePin():
            pairs = {"filename": (pin.filename, wish.filename)}
            if pin.address is not None:
                pairs = {**pairs, "address": (pin.address, wish.address)}
    return "; ".join(f"{key} is {a}, wished {b}" for key, (a, b) in pairs.items() if a != b)


def _lacking(want: Want, pin: Pin) -> str:
    """What the pin lacks although it is of the right thing."""
    match want.wish, pin:
        case ModelWish() as wish, ModelPin() if pin.patterns and pin.patterns != wish.patterns:
            return f"patterns are {', '.join(pin.patterns)}, wished {', '.join(wish.patterns)}"
        case ImageWish(), ImagePin() if pin.platforms:
            wanted = {objects.PLATFORMS.get(name, f"linux/{name}") for name in want.architectures}
            absent = sorted(wanted - {found.platform for found in pin.platforms})
            return f"lacks {', '.join(absent)}" if absent else ""
    return ""


def adopted(want: Want, pin: Pin) -> Pin:
    """The pin with what its wish knows better and no byte depends on: a file's address."""
    if isinstance(want.wish, FileWish) and isinstance(pin, FilePin) and pin.address is None:
        return pin.model_copy(update={"address": want.wish.address})
    return pin


def want_of(kind: str, pin: Pin) -> Want:
    """A wish for a pin of the catalogue, so that it can be moved although no profile wishes it.

    Raises `BadUsage` for a file without address: nobody knows where to ask for another.
    """
    match pin:
        case ModelPin():
            wish = ModelWish(name=pin.name, repository=pin.repository)
            if pin.patterns:
                wish = wish.model_copy(update={"patterns": pin.patterns})
            return Want(kind, wish, ())
        case ImagePin():
            found = {item.platform for item in pin.platforms}
            machines = [m for m, platform in objects.PLATFORMS.items() if platform in found]
            wanted = tuple(machines or objects.PLATFORMS)
            return Want(kind, ImageWish(name=pin.name, reference=pin.reference), wanted)
        case PackageSet():
            packages = PackagesWish(
                name=pin.name,
                format=pin.format,
                target=pin.target,
                wanted=pin.wanted,
                kernels=pin.kernels,
            )
            return Want(kind, packages, (_machine(pin.architecture),))
        case FilePin() if pin.address is not None:
            file = FileWish(name=pin.name, address=pin.address, filename=pin.filename)
            return Want(kind, file, ())
    raise BadUsage(
        "upgrade-without-address",
        f"no profile wishes for {pin.name!r}, and models.lock does not say where it comes from",
        hint="wish for it in a profile, with its address, then: ./aibox lock",
        fault=Fault.YOU,
    )


def _machine(architecture: str) -> str:
    found = (name for name, known in objects.ARCHITECTURES.items() if architecture in known)
    return next(found, architecture)
