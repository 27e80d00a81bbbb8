"""Every path in a bundle, and the limits of what is read before it is believed.

A bundle is a folder. Nothing else may lie in it::

    bundle.json               signed manifest: what this is, and the digest of all that matters
    bundle.json.sig           its signature for `ssh-keygen -Y verify` (namespace bundle@aibox)
    root/<n>.root.json        the chain of roots of trust, from the first to the newest
    revoked.json              what was revoked, signed by the root keys; absent when nothing was
    volume.json               which volume of a split bundle this is; absent when it is whole
    aibox  launcher/ …        the program's first steps, named in the manifest
    blobs/sha256/<hex>        everything else, in files of at most `CHUNK_BYTES`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aibox.digest import is_digest
from aibox.errors import Fault, VerificationRefused

MANIFEST = "bundle.json"
SSH_SIGNATURE = "bundle.json.sig"
REVOCATIONS = "revoked.json"
VOLUME = "volume.json"
ROOTS = "root"
BLOBS = "blobs/sha256"

CHUNK_BYTES = 256 << 20
"""Blobs are cut at this size: below the 4 GiB of FAT32, small enough for a nearly full disc."""

MANIFEST_LIMIT = 8 << 20
"""Bytes of a manifest, a root or a revocation list that are read at the most."""

INDEX_LIMIT = 64 << 20
"""Bytes of the index of blobs at the most: more than a million blobs."""

ROOTS_LIMIT = 256
"""Roots in a chain at the most (as in the TUF client)."""

FOLDER_LIMIT = 10_000
"""Blobs of one volume: a FAT32 folder holds 65,534 entries and a name of 64 digits takes six."""

VOLUMES_LIMIT = 999
"""Volumes of a split bundle at the most."""

LABEL_LIMIT = INDEX_LIMIT
"""Bytes of a volume.json at the most: it names every blob once, as the index does."""

_ROOT = re.compile(r"root/([1-9][0-9]{0,5})\.root\.json")


@dataclass(frozen=True, slots=True)
class BundleLayout:
    """Paths below `root`, the folder of a bundle or of one of its volumes; touches no disk."""

    root: Path

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def ssh_signature(self) -> Path:
        return self.root / SSH_SIGNATURE

    @property
    def revocations(self) -> Path:
        return self.root / REVOCATIONS

    @property
    def volume(self) -> Path:
        return self.root / VOLUME

    @property
    def roots(self) -> Path:
        return self.root / ROOTS

    @property
    def blobs(self) -> Path:
        return self.root / BLOBS

    def root_metadata(self, version: int) -> Path:
        return self.roots / f"{version}.root.json"

    def blob(self, sha256: str) -> Path:
        """Where a blob lies; refuses anything but 64 lower-case hex digits."""
        if not is_digest(sha256):
            raise VerificationRefused(
                "not-a-digest",
                "the bundle names a blob by something that is not a SHA-256 digest",
                context=f"name: {sha256[:80]!r}",
                hint="the bundle is damaged or forged; ask for it again, then: "
                "./aibox bundle verify BUNDLE",
                fault=Fault.UPSTREAM,
            )
        return self.blobs / sha256


def root_version(path: str) -> int | None:
    """The version of a root by its path in the bundle; None for any other path."""
    match = _ROOT.fullmatch(path)
    return int(match[1]) if match else None
