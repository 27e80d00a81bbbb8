"""Which entries of the lock an upgrade moves, and that a completion moves none. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from packaging.utils import canonicalize_name

from aibox.bundle.build import wishes
from aibox.bundle.build.wishes import Key, Want
from aibox.errors import BadUsage, Fault, VerificationRefused
from aibox.lock import ModelsLock
from aibox.pins import FilePin, ImagePin, ModelPin, Pin

WHEEL = "wheel"
_LISTED = 8


def find(upgrade: Sequence[str], lock: ModelsLock, wants: Mapping[Key, Want]) -> frozenset[Key]:
    """The entries that `upgrade` names, as NAME or, where two kinds share it, as KIND/NAME.

    Raises `BadUsage` for an unknown name (with close matches by kind) and for an ambiguous one.
    """
    known = {*wishes.pins_of(lock), *wants, *((WHEEL, wheel.name) for wheel in lock.wheel)}
    return frozenset(_find(name, known) for name in upgrade)


def _find(name: str, known: set[Key]) -> Key:
    kind, _, rest = name.rpartition("/")
    spellings = {rest, canonicalize_name(rest)}
    found = sorted(key for key in known if key[1] in spellings and kind in ("", key[0]))
    if len(found) == 1:
        return found[0]
    if found:
        raise BadUsage(
            "upgrade-ambiguous",
            f"models.lock has several entries named {name!r}",
            context="they are: " + ", ".join("/".join(key) for key in found),
            hint=f"name one of them: ./aibox lock --upgrade {'/'.join(found[0])}",
            fault=Fault.YOU,
        )
    raise BadUsage(
        "upgrade-unknown",
        f"models.lock has nothing named {name!r}",
        context=_close(rest, known),
        hint="name one of them: ./aibox lock --upgrade NAME",
        fault=Fault.YOU,
    )


def _close(name: str, known: set[Key]) -> str:
    """Names like `name` by kind; where none is like it, the first few there are."""
    kinds = sorted({kind for kind, _ in known})
    all_of = {kind: sorted(found for k, found in known if k == kind) for kind in kinds}
    close = {kind: difflib.get_close_matches(name, names) for kind, names in all_of.items()}
    shown = {kind: names for kind, names in close.items() if names} or {
        kind: names[:_LISTED] + ["…"] * (len(names) > _LISTED) for kind, names in all_of.items()
    }
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in shown.items())


def refuse_other_bytes(known: Pin, found: Pin) -> None:
    """Raises `VerificationRefused` when a completed pin is not of the bytes it was of before."""
    before, after = _facts(known), _facts(found)
    differing = [name for name, value in before.items() if after.get(name, value) != value]
    if differing:
        raise VerificationRefused(
            "pin-differs",
            f"{known.name} is not what models.lock says of it: {', '.join(differing[:5])}",
            context="; ".join(f"{n}: {before[n]}, found {after[n]}" for n in differing[:3]),
            hint="if it is meant to be another, take it in and review it with: "
            f"./aibox lock --upgrade {known.name}",
            fault=Fault.UPSTREAM,
        )


def _facts(pin: Pin) -> dict[str, object]:
    """What of a pin is about bytes, as far as it is known."""
    facts: dict[str, object] = {}
    match pin:
        case ModelPin():
            facts = {"revision": pin.revision}
            for file in pin.files:
                facts |= {f"size of {file.path}": file.size, file.path: file.sha256}
        case ImagePin():
            facts = {"digest": pin.digest}
        case FilePin():
            facts = {"size": pin.size, "digest": pin.sha256}
    return {name: value for name, value in facts.items() if value is not None}
