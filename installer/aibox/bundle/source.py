"""Where the bytes of a release come from before they are in a store.

A checkout has every file of its trees; Python packages come from the index configured for pip
(see `box/wheels.py`). A bundle has everything (`bundle/media.py`). Nothing is believed: the store
compares every byte with its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aibox import digest
from aibox.errors import Fault, VerificationRefused
from aibox.lock import Role
from aibox.release import Artifact, Release

# Opens an object for reading from its start; what it gives is not believed yet.
Opener = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Checkout:
    """The project's own files; `roots` are searched in order (beside the lock file first)."""

    roots: tuple[Path, ...]

    def find(self, artifact: Artifact) -> Path:
        """The file holding exactly the artifact's bytes; raises `VerificationRefused` if none."""
        seen = []
        for root in self.roots:
            path = root / artifact.source
            if not path.is_file():
                continue
            with path.open("rb") as stream:
                found, _ = digest.of_stream(stream)
            if found == artifact.sha256:
                return path
            seen.append(f"{path} has {found[:12]}")
        raise VerificationRefused(
            "artifact-differs" if seen else "artifact-missing",
            f"{artifact.source} is not what models.lock names ({artifact.sha256[:12]})",
            context="; ".join(seen) or "not found below " + ", ".join(map(str, self.roots)),
            hint="take the change into the lock, and review it, with: ./aibox lock",
            fault=Fault.YOU,
        )

    def openers(self, release: Release) -> dict[str, Opener]:
        """Every artifact by digest, each hashed; the `verify` step of a checkout."""
        return {item.sha256: opener(self.find(item)) for item in release.artifacts}


def opener(path: Path) -> Opener:
    """Opens a file that lies on this host."""
    return lambda: path.open("rb", buffering=0)


def templates(release: Release, openers: Mapping[str, Opener]) -> dict[str, bytes]:
    """The release's template texts, by name, each compared with its digest."""
    return {
        item.target.removeprefix(f"{Role.TEMPLATES.value}/"): read(
            openers, item.sha256, item.size, item.source
        )
        for item in release.of_role(Role.TEMPLATES)
    }


def read(openers: Mapping[str, Opener], sha256: str, size: int, what: str) -> bytes:
    """A small object as a whole; raises `VerificationRefused` when its bytes are others."""
    with openers[sha256]() as stream:
        data = stream.read(size + 1)
    if digest.of_bytes(data) != sha256:
        raise VerificationRefused(
            "artifact-differs",
            f"{what} is not what the release names",
            context=f"sha256:{sha256}",
            hint="check where the bytes come from, then: ./aibox lock --check"
            " — or, for a bundle: ./aibox bundle verify BUNDLE",
            fault=Fault.UPSTREAM,
        )
    return data
