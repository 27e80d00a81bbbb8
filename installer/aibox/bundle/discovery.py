"""Finding a bundle on media: which folders are volumes, and whether they are of one bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from aibox import digest
from aibox.bundle import label as labels
from aibox.bundle.finding import COMMAND, printable, unreadable
from aibox.bundle.folder import Folder, TooLarge
from aibox.bundle.label import Label
from aibox.bundle.layout import (
    LABEL_LIMIT,
    MANIFEST,
    MANIFEST_LIMIT,
    REVOCATIONS,
    ROOTS,
    ROOTS_LIMIT,
    SSH_SIGNATURE,
    VOLUME,
    root_version,
)
from aibox.errors import BadUsage, Fault, VerificationRefused

HEAD_LIMIT = 4 * MANIFEST_LIMIT
"""Bytes of manifest, signature, roots and revocations together."""

_FOLDERS_LIMIT = 4096
"""Entries of a folder that are looked at for volumes."""


@dataclass(frozen=True)
class Volume:
    """One folder of a bundle: the whole one (no label), or one of several."""

    folder: Folder
    head: Mapping[str, bytes]
    label: Label | None

    @property
    def name(self) -> str:
        """For messages: which volume, and where it is."""
        path = printable(str(self.folder.path))
        return f"{self.label.name} ({path})" if self.label else path

    @property
    def number(self) -> int:
        """Which volume it is; 0 for a whole bundle."""
        return self.label.number if self.label else 0

    @property
    def bundle(self) -> str:
        """The digest of bundle.json: which bundle this belongs to."""
        return digest.of_bytes(self.head[MANIFEST])

    @property
    def there(self) -> bool:
        """Whether the medium still answers."""
        try:
            return self.folder.look(MANIFEST) is not None
        except OSError:
            return False


def find(paths: Sequence[Path], closing: ExitStack) -> tuple[Volume, ...]:
    """The volumes of one bundle in `paths`, by number; their folders are closed by `closing`.

    Raises what `Media.open` says.
    """
    found: list[Volume] = []
    for path in paths:
        here = _volumes_at(path, closing)
        if not here:
            raise _not_found(path)
        found += here
    _refuse_strangers(found)
    _refuse_contradictions(found)
    return tuple(sorted(found, key=lambda volume: volume.number))


def _volumes_at(path: Path, closing: ExitStack) -> list[Volume]:
    try:
        folder = Folder.at(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(printable(str(path)), error) from error
    closing.callback(folder.close)
    volume = _volume(folder)
    return [volume] if volume else _volumes_in(folder, closing)


def _volumes_in(folder: Folder, closing: ExitStack) -> list[Volume]:
    """The volumes among the direct sub-folders."""
    found = []
    try:
        for count, name in enumerate(folder.names()):
            entry = folder.look(name) if count < _FOLDERS_LIMIT else None
            if entry is None or entry.kind != "a folder":
                continue
            child = folder.below(name)
            closing.callback(child.close)
            if (volume := _volume(child)) is not None:
                found.append(volume)
    except OSError as error:
        raise unreadable(printable(str(folder.path)), error) from error
    return found


def _volume(folder: Folder) -> Volume | None:
    """Read the head of a bundle or volume; None if the folder has no bundle.json."""
    where = printable(str(folder.path))
    try:
        if folder.look(MANIFEST) is None:
            return None
        head = _head(folder)
        label = folder.read(VOLUME, LABEL_LIMIT)
    except TooLarge as error:
        raise _head_refused(where, f"{error} is too large") from error
    except OSError as error:
        raise unreadable(where, error) from error
    if MANIFEST not in head:
        raise _head_refused(where, f"{MANIFEST} is not a regular file")
    return Volume(folder, head, labels.parse(label, where) if label is not None else None)


def _head(folder: Folder) -> dict[str, bytes]:
    head: dict[str, bytes] = {}
    left = HEAD_LIMIT
    for name in (MANIFEST, SSH_SIGNATURE, REVOCATIONS, *_root_names(folder)):
        data = folder.read(name, min(MANIFEST_LIMIT, left))
        if data is not None:
            head[name] = data
            left -= len(data)
    return head


def _root_names(folder: Folder) -> list[str]:
    """The roots' paths, by version; more than the limit are too many to look at."""
    found: dict[int, str] = {}
    for name in folder.names(ROOTS):
        path = f"{ROOTS}/{name}"
        version = root_version(path)
        if version is not None:
            found[version] = path
        if len(found) > ROOTS_LIMIT:
            raise TooLarge(ROOTS)
    return [found[version] for version in sorted(found)]


def _refuse_strangers(found: Sequence[Volume]) -> None:
    """All volumes must be of one bundle: same manifest, and the same head around it."""
    sets: dict[str, list[Volume]] = {}
    for volume in found:
        sets.setdefault(volume.bundle, []).append(volume)
    if len(sets) > 1:
        ordered = sorted(sets.items(), key=lambda item: len(item[1]), reverse=True)
        raise _strangers(ordered)
    first, *others = found
    for other in others:
        for name in sorted({*first.head, *other.head}):
            if first.head.get(name) != other.head.get(name):
                raise _head_differs(name, first, other)


def _refuse_contradictions(found: Sequence[Volume]) -> None:
    """Labels must fit the bundle and one another, and no volume may come twice."""
    labelled = [(volume, volume.label) for volume in found if volume.label is not None]
    if len(found) > 1 and len(labelled) < len(found):
        raise _several(found)
    seen: dict[int, Volume] = {}
    for volume, label in labelled:
        if label.bundle != volume.bundle:
            raise _label_contradicts(volume, "it is of another bundle than bundle.json")
        if label.volumes != labelled[0][1].volumes:
            raise _label_contradicts(volume, f"it divides otherwise than on {labelled[0][0].name}")
        first = seen.setdefault(label.number, volume)
        if first is not volume:
            raise _twice(first, volume)


def _strangers(sets: Sequence[tuple[str, Sequence[Volume]]]) -> VerificationRefused:
    facts = "; ".join(
        f"{bundle[:12]}: {', '.join(volume.name for volume in members)}" for bundle, members in sets
    )
    odd = ", ".join(volume.name for _, members in sets[1:] for volume in members)
    return VerificationRefused(
        "volume-of-another-bundle",
        f"these volumes are not of one bundle: {odd} does not belong to {sets[0][0][:12]}",
        context=facts,
        hint=f"give the volumes of one bundle only: {COMMAND}",
        fault=Fault.YOU,
    )


def _head_differs(name: str, first: Volume, other: Volume) -> VerificationRefused:
    return VerificationRefused(
        "volume-head-differs",
        f"{name} on {other.name} is not the same as on {first.name}",
        hint=f"one of them is damaged; check each alone: {COMMAND}",
        fault=Fault.HOST,
    )


def _several(found: Sequence[Volume]) -> BadUsage:
    return BadUsage(
        "bundles-several",
        "several copies of a bundle were given, a whole one and volumes of it, or a volume that "
        f"lost its {VOLUME}",
        context=", ".join(volume.name for volume in found),
        hint=f"give one whole bundle, or the volumes of one: {COMMAND}",
        fault=Fault.YOU,
    )


def _twice(first: Volume, second: Volume) -> VerificationRefused:
    return VerificationRefused(
        "volume-twice",
        f"{first.name} is there a second time: {printable(str(second.folder.path))}",
        hint=f"give each volume once; one of the media may hold a wrong copy: {COMMAND}",
        fault=Fault.YOU,
    )


def _label_contradicts(volume: Volume, facts: str) -> VerificationRefused:
    return VerificationRefused(
        "volume-label-invalid",
        f"volume.json contradicts the rest of the bundle on {volume.name}",
        context=facts,
        hint=f"copy the volume again from where it was written, then: {COMMAND}",
        fault=Fault.HOST,
    )


def _head_refused(where: str, facts: str) -> VerificationRefused:
    return VerificationRefused(
        "bundle-head-refused",
        f"what lies in {where} is not the head of a bundle",
        context=printable(facts),
        hint=f"ask whoever made the bundle for it again, then: {COMMAND}",
        fault=Fault.UPSTREAM,
    )


def _not_found(path: Path) -> BadUsage:
    return BadUsage(
        "bundle-not-found",
        f"no bundle lies in {printable(str(path))}",
        context=f"neither a {MANIFEST} nor folders with one",
        hint=f"give the folder that holds {MANIFEST}, or the folder of its volumes: {COMMAND}",
        fault=Fault.YOU,
    )
