"""Every path of a box root that the store owns, and the only place where they are joined.

A name from outside (a digest, a path in a manifest) is checked here before it becomes a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from aibox.digest import is_digest
from aibox.errors import Fault, VerificationRefused


@dataclass(frozen=True)
class Layout:
    """Paths below `root`; nothing here touches the disk."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @cached_property
    def blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @cached_property
    def parts(self) -> Path:
        """Half-imported blobs; kept over a crash, so that an import goes on where it stopped."""
        return self.staging / "parts"

    @property
    def generations(self) -> Path:
        return self.root / "gens"

    @property
    def current(self) -> Path:
        return self.root / "current"

    @property
    def intent(self) -> Path:
        return self.root / "journal" / "intent.json"

    @property
    def slots(self) -> tuple[Path, Path]:
        return self.root / "state.a.json", self.root / "state.b.json"

    @property
    def record(self) -> Path:
        return self.root / "record.jsonl"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def environments(self) -> Path:
        """Derived directories, one per environment id; rebuilt from blobs when missing."""
        return self.root / "environments"

    @property
    def reserve(self) -> Path:
        return self.root / "reserve"

    @property
    def verified(self) -> Path:
        """The blobs hashed since this boot; losing it costs time, never safety."""
        return self.root / "run" / "verified.json"

    @property
    def loaded_images(self) -> Path:
        """The images that Docker was given and whose layers are durable; losing it costs time."""
        return self.root / "run" / "images.json"

    def directories(self) -> tuple[Path, ...]:
        """What must exist before the first transaction, parents first."""
        return (
            self.root,
            self.blobs.parent,
            self.blobs,
            self.staging,
            self.parts,
            self.generations,
            self.intent.parent,
            self.quarantine,
            self.verified.parent,
        )

    def blob(self, digest: str) -> Path:
        """Where the blob lives; refuses anything but 64 lower-case hex digits."""
        return self.blobs / f"{checked(digest)[:2]}/{digest}"

    def part(self, digest: str) -> Path:
        return self.parts / f"{checked(digest)}.part"

    def quarantined(self, digest: str) -> Path:
        return self.quarantine / checked(digest)

    def generation(self, number: int) -> Path:
        return self.generations / str(number)

    def tree(self, number: int) -> Path:
        return self.generation(number) / "tree"


def checked(digest: str) -> str:
    """The digest itself; anything else is refused before it can become a path."""
    if is_digest(digest):
        return digest
    raise VerificationRefused(
        "not-a-digest",
        "a blob is named by something that is not a SHA-256 digest",
        context=f"name: {digest[:80]!r}",
        hint="the release is damaged or forged; compare it with its lock: ./aibox lock --check",
        fault=Fault.UPSTREAM,
    )


def relative(path: str) -> PurePosixPath:
    """A path inside a generation; refuses what is absolute, empty or leads outside.

    Raises:
        VerificationRefused: `unsafe-path`.
    """
    parts = path.split("/")
    if "\0" not in path and "\\" not in path and not {"", ".", ".."} & set(parts):
        return PurePosixPath(path)
    raise VerificationRefused(
        "unsafe-path",
        "a release names a file outside its own folder",
        context=f"path: {path[:200]!r}",
        hint="the release is damaged or forged; compare it with its lock: ./aibox lock --check",
        fault=Fault.UPSTREAM,
    )
