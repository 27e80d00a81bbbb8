"""Where the bytes of a release come from before they are in a store.

A checkout has every file of its trees; Python packages come from the index configured for pip
(see `box/wheels.py`). Nothing is believed: the store compares every byte with its digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aibox import digest
from aibox.errors import Fault, VerificationRefused
from aibox.lock import Role
from aibox.release import Artifact, Release


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

    def check(self, release: Release) -> Mapping[str, Path]:
        """Every artifact by target, each hashed; the `verify` step of a checkout."""
        return {item.target: self.find(item) for item in release.artifacts}


def templates(release: Release, files: Mapping[str, Path]) -> dict[str, bytes]:
    """The release's template texts, by name, re-checked after reading."""
    found = {}
    for item in release.of_role(Role.TEMPLATES):
        data = files[item.target].read_bytes()
        if digest.of_bytes(data) != item.sha256:
            raise VerificationRefused(
                "artifact-differs",
                f"{item.source} changed while it was read",
                hint="run the command again when nothing edits the checkout: ./aibox lock --check",
                fault=Fault.YOU,
            )
        found[item.target.removeprefix(f"{Role.TEMPLATES.value}/")] = data
    return found
