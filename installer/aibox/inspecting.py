"""Looking at a bundle without believing it: at once, whatever its size, from read-only media.

Only the head is read. Nothing is verified here: what is said is what the bundle says of itself.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from aibox.bundle.layout import MANIFEST
from aibox.bundle.manifest import Component, Description, Kind
from aibox.bundle.media import Media
from aibox.bundle.trust.head import Unverified, read_unverified
from aibox.difference import Difference, compare
from aibox.errors import VerificationRefused
from aibox.pins import Redistribution
from aibox.schema import Model


class KindRow(Model):
    """The components of one kind together."""

    kind: Kind
    count: int
    bytes: int
    licences: str
    redistribution: str

    @property
    def megabytes(self) -> str:
        """For people."""
        return f"{self.bytes / 1e6:.1f}"


class Inspection(Model):
    """What a bundle says of itself, and what it would change on the box here."""

    bundle: str
    sequence: int
    created: datetime.date
    expires: datetime.datetime
    signed_by: tuple[str, ...]
    roots: int
    architectures: tuple[str, ...]
    pythons: tuple[str, ...]
    releases: tuple[dict[str, object], ...]
    volumes: tuple[str, ...]
    missing_volumes: tuple[str, ...]
    bytes: int
    carried: int
    sbom: str
    kinds: tuple[KindRow, ...]
    components: tuple[Component, ...]
    proofs: tuple[dict[str, object], ...]
    upstream: tuple[dict[str, object], ...]
    changes: tuple[Difference, ...]


def inspect(paths: Sequence[Path], root: Path) -> Inspection:
    """Look at the bundle on these media, beside the box at `root` (there may be none).

    Raises what `Media.open` and `read_unverified` raise for media that hold no bundle.
    """
    with Media.open(paths) as media:
        said = read_unverified(media.head[MANIFEST])
        return _inspection(media, said, _running(root))


def _inspection(media: Media, said: Unverified, running: Description | None) -> Inspection:
    description = said.description
    return Inspection(
        bundle=media.bundle,
        sequence=said.sequence,
        created=description.created,
        expires=said.expires,
        signed_by=said.signed_by,
        roots=sum(path.startswith("root/") for path in media.head),
        architectures=description.architectures,
        pythons=description.pythons,
        releases=tuple(entry.model_dump(mode="json") for entry in description.releases),
        volumes=tuple(volume.name for volume in media.volumes),
        missing_volumes=tuple(label.missing() for label in media.missing_volumes),
        bytes=description.size,
        carried=description.carried,
        sbom=f"blobs/sha256/{description.sbom.sha256}",
        kinds=tuple(_kinds(description.components)),
        components=description.components,
        proofs=tuple(proof.model_dump(mode="json") for proof in description.proofs),
        upstream=tuple(check.model_dump(mode="json") for check in description.upstream),
        changes=_changes(running, description),
    )


def _kinds(components: Sequence[Component]) -> Iterator[KindRow]:
    def kind(item: Component) -> Kind:
        return item.kind

    for key, items in groupby(sorted(components, key=kind), key=kind):
        group = list(items)
        yield KindRow(
            kind=key,
            count=len(group),
            bytes=sum(item.size for item in group),
            licences=_most({item.licence for item in group}),
            redistribution=_strictest({item.redistribution for item in group}).value,
        )


def _most(licences: set[str]) -> str:
    shown = sorted(licences)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _strictest(classes: set[Redistribution]) -> Redistribution:
    return max(classes, key=list(Redistribution).index)


def _running(root: Path) -> Description | None:
    """What the bundle said that the box here runs; None where no box can say it: there is none, it
    came from a checkout, or its file is damaged."""
    try:
        return read_unverified((root / "current" / MANIFEST).read_bytes()).description
    except (OSError, VerificationRefused):
        return None


def _changes(running: Description | None, offered: Description) -> tuple[Difference, ...]:
    if running is None:
        return ()
    return compare(_versions(running), _versions(offered))


def _versions(description: Description) -> dict[str, str]:
    """Component -> its versions: a package may be there in one for each interpreter."""
    found: dict[str, set[str]] = {}
    for item in description.components:
        found.setdefault(f"{item.kind.value} {item.name}", set()).add(item.version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def summary(found: Inspection) -> Iterator[tuple[str, str]]:
    """The facts as people read them: name and value."""
    yield "bundle", found.bundle
    yield "sequence", f"{found.sequence} of {found.created}, taken in until {found.expires.date()}"
    yield "signed by", ", ".join(key[:16] for key in found.signed_by) or "nobody"
    for release in found.releases:
        yield "release", f"{str(release['id'])[:12]} for {release['profile']}: {release['title']}"
        yield from _needs(release.get("requires"))
    yield "host", f"{', '.join(found.architectures)}; Python {', '.join(found.pythons)} or its own"
    yield "size", f"{found.carried / 1e6:.1f} MB inside of {found.bytes / 1e6:.1f} MB"
    for volume in found.missing_volumes:
        yield "missing", volume
    for proof in found.proofs:
        yield "proof", f"{proof['what']}: {'proven' if proof['proven'] else proof['reason']}"
    yield "SBOM", f"{found.sbom} (CycloneDX)"
    for change in found.changes[:20]:
        yield "changes", f"{change.name}: {change.current} -> {change.desired}"


def _needs(requires: object) -> Iterator[tuple[str, str]]:
    if isinstance(requires, dict):
        yield (
            "needs",
            f"{requires['memory_mib_min']} MiB of memory, {requires['disk_mib_min']} MiB of disk, "
            f"{requires['inodes_min']} inodes",
        )
