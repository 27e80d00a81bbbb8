"""What a generation is made of: the listing sealed into it as `contents.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from aibox import digest as digests
from aibox.box.layout import checked, relative
from aibox.errors import BadUsage, Fault

NAME = "contents.json"
MANIFEST = "manifest.json"
TREE = "tree"


class Piece(BaseModel):
    """One file of the tree: the blob it is a hardlink of, and its size in bytes."""

    model_config = ConfigDict(frozen=True)

    digest: str
    size: int


class Contents(BaseModel):
    """The listing. `tree` paths are below `tree/`; `files` paths below the generation itself."""

    model_config = ConfigDict(frozen=True)

    version: int = 1
    manifest: str
    tree: dict[str, Piece]
    files: dict[str, str]

    def encode(self) -> bytes:
        """Canonical JSON: two generations of equal content have equal listings."""
        return digests.canonical_json(self.model_dump(mode="json"))

    def blobs(self) -> dict[str, int]:
        """Digest -> size in bytes of every blob the tree needs."""
        return {piece.digest: piece.size for piece in self.tree.values()}

    def rendered(self) -> dict[str, str]:
        """Path -> digest of every file that is not a link to a blob."""
        return {MANIFEST: self.manifest, **self.files}


def describe(manifest: bytes, tree: Mapping[str, Piece], files: Mapping[str, bytes]) -> Contents:
    """The listing of a generation about to be made; refuses names that lead astray.

    Raises:
        VerificationRefused: an unsafe path or a name that is no digest.
        BadUsage: a rendered file that would hide the store's own, or two that collide.
    """
    for path, piece in tree.items():
        relative(path)
        checked(piece.digest)
    for path in files:
        if relative(path).parts[0] in {TREE, NAME, MANIFEST}:
            raise _collision(path)
    for path in (*tree, *files):
        if any(str(parent) in tree or str(parent) in files for parent in relative(path).parents):
            raise _collision(path)
    return Contents(
        manifest=digests.of_bytes(manifest),
        tree=dict(tree),
        files={path: digests.of_bytes(data) for path, data in files.items()},
    )


def load(generation: Path) -> Contents | None:
    """The listing of a sealed generation; None when it is missing or says nothing usable."""
    try:
        contents = Contents.model_validate_json((generation / NAME).read_bytes())
        for path in (*contents.tree, *contents.files):
            relative(path)
        for digest in contents.blobs():
            checked(digest)
    except (OSError, ValidationError):
        return None
    return contents if contents.version == 1 else None


def _collision(path: str) -> BadUsage:
    return BadUsage(
        "colliding-path",
        "a rendered file would take the place of another file of the generation",
        context=f"path: {path}",
        hint="rename it in the stack's templates, then: ./aibox plan --profile local",
        fault=Fault.US,
    )
