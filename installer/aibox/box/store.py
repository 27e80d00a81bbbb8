"""The store of a box: blobs, and generations built from them.

A generation is sealed once and never changed: `tree/` holds hardlinks to blobs, the rendered
files lie beside it, and `contents.json` lists both by digest. `current` names the one that
serves; it is the only thing a boot follows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from aibox import digest as digests
from aibox import record
from aibox.box import contents as listing
from aibox.box.blobs import BlobStore, Damage, damaged
from aibox.box.contents import Contents, Piece
from aibox.box.filesystem import CLOSED, READABLE, DiskTrouble, Filesystem
from aibox.box.history import RecordFile
from aibox.box.journal import Journal
from aibox.box.layout import Layout, relative
from aibox.box.state import Slots
from aibox.box.verified import this_boot
from aibox.errors import BadUsage, Fault, NeedsPerson

_T = TypeVar("_T")

RESERVE_BYTES = 16 << 20
"""Room kept back for a rollback on a full disk: intents, slots and the record need kilobytes."""

_CURRENT = re.compile(r"gens/([1-9][0-9]{0,8})")


class Store(BlobStore):
    """One box root. Whoever changes it holds `guard.hold(root)`.

    Attributes:
        layout: every path.
        boot: the name of this boot.
        slots, journal, history: state, intent and record of the box.
    """

    def __init__(
        self,
        root: Path,
        filesystem: Filesystem | None = None,
        *,
        boot: str | None = None,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self.boot = boot or this_boot()
        layout, filesystem = Layout(root), filesystem or Filesystem()
        super().__init__(layout, filesystem, self.boot)
        self.slots = Slots(layout.slots, filesystem)
        self.journal = Journal(layout.intent, filesystem)
        self.history = RecordFile(layout.record, filesystem)
        self._reserve_bytes = reserve_bytes

    def initialise(self) -> None:
        """Make what is missing, and make names durable that a killed command left in memory."""
        for directory in self.layout.directories():
            self.filesystem.make_directory(directory)
        for directory in self.layout.directories():
            self.filesystem.sync_directory(directory)

    # -- generations --------------------------------------------------------------------------

    def generations(self) -> tuple[int, ...]:
        """The sealed generations, ascending. They appear whole, by one rename."""
        try:
            names = [entry.name for entry in self.layout.generations.iterdir()]
        except OSError:
            return ()
        return tuple(sorted(int(name) for name in names if _CURRENT.fullmatch(f"gens/{name}")))

    def current(self) -> int | None:
        """The generation that serves; None if `current` is missing or does not name one.

        A link that is absolute, dangling or a loop names none: it is not what `switch` makes.
        """
        try:
            match = _CURRENT.fullmatch(str(self.layout.current.readlink()))
        except OSError:
            return None
        number = int(match[1]) if match else 0
        return number if self.layout.generation(number).is_dir() else None

    def is_lost(self) -> bool:
        """Whether `current` names nothing although a generation must serve; `recover` mends it."""
        return self.current() is None and self.slots.load().last_good is not None

    def contents(self, number: int) -> Contents:
        """The listing of a generation.

        Raises:
            NeedsPerson: `generation-unreadable`, if it is missing or says nothing usable.
        """
        found = listing.load(self.layout.generation(number))
        if found is None:
            raise NeedsPerson(
                "generation-unreadable",
                f"generation {number} is missing or its listing is damaged",
                context=str(self.layout.generation(number)),
                hint="go back to another one: ./aibox rollback",
                fault=Fault.HOST,
            )
        return found

    def manifest(self, number: int) -> bytes:
        """The release manifest the generation was made from, byte for byte."""
        return self.file(number, listing.MANIFEST)

    def file(self, number: int, path: str) -> bytes:
        """One rendered file of a generation (`plan.json`, `config/rag.toml`)."""
        rendered = self.contents(number).rendered()
        if path not in rendered:
            raise NeedsPerson(
                "no-such-file",
                f"generation {number} has no file {path}",
                hint="see what is there: ./aibox history",
                fault=Fault.US,
            )
        return (self.layout.generation(number) / path).read_bytes()

    def release(self, number: int) -> str:
        """The id of the generation's release: the digest of its manifest."""
        return self.contents(number).manifest

    def prepare_generation(
        self, manifest: bytes, tree: Mapping[str, str], files: Mapping[str, bytes]
    ) -> int:
        """Seal a generation and return its number; it does not serve yet.

        A sealed generation of the very same content is mended and used again, so that a re-run
        after a crash ends where the first run would have ended.

        Args:
            manifest: the release manifest, kept byte for byte.
            tree: path below `tree/` -> digest of a blob in the store.
            files: path below the generation -> bytes (`plan.json`, `config/rag.toml`).

        Raises:
            VerificationRefused: a blob is missing or damaged, or a path leads outside.
            PreflightVeto: `no-room`.
        """
        wanted = listing.describe(manifest, self._pieces(tree), files)
        self._refuse_damaged(self._damaged_blobs(wanted))
        number = self._twin(wanted)
        if number is None:
            self.require_room(sum(map(len, files.values())), len(tree) + len(files))
            number = self._next_number()
            self._seal(number, wanted, {**files, listing.MANIFEST: manifest})
        self._mend()
        self.verified.save()
        return number

    def damage(self, number: int, *, deep: bool = False) -> tuple[Damage, ...]:
        """What is wrong with a generation; changes nothing.

        Shallow: every file of the tree is the blob it should be (a stat each), every rendered
        file has its digest. Deep: every blob is hashed too, unless this boot has done so.
        """
        found = listing.load(self.layout.generation(number))
        if found is None:
            return (Damage(str(self.layout.generation(number)), "", "missing or unreadable"),)
        tree = self._damaged_tree(number, found)
        return (*tree, *self._damaged_files(number, found), *(self._damaged_blobs(found) * deep))

    def require_sound(self, number: int) -> None:
        """Refuse a generation that is not, byte for byte, what was sealed.

        Damaged blobs go to quarantine, which marks every generation that needs them: a blob
        that is not there is damage to each of them.

        Raises:
            NeedsPerson: `generation-damaged`.
        """
        found = self.damage(number, deep=True)
        self.verified.save()
        if not found:
            return
        for one in found:
            if one.digest and one.path == str(self.layout.blob(one.digest)):
                self.quarantine(one.digest)
        raise NeedsPerson(
            "generation-damaged",
            f"generation {number} is damaged and is not served",
            context="; ".join(f"{one.path}: {one.reason}" for one in found[:3]),
            hint="mend it by installing its release again: ./aibox install --profile local"
            " — or go back to another one: ./aibox rollback",
            fault=Fault.HOST,
        )

    def rollback_target(self, wanted: int | None = None) -> int:
        """Where a rollback goes: `wanted`, or the newest sound generation before `current`.

        Raises:
            BadUsage: `no-such-generation`, `already-current`, `nothing-to-roll-back-to`.
            NeedsPerson: `generation-damaged`, when `wanted` is.
        """
        current, history = self.current(), self.history.read()
        # A record that was damaged forgets a generation; the state remembers the last two.
        before = self.slots.load().prev_good
        forgotten = () if before is None or before in history.good() else (before,)
        if wanted is not None:
            self._require_good(wanted, current, (*history.good(), *forgotten))
            self.require_sound(wanted)
            return wanted
        older = tuple(number for number in forgotten if current is not None and number < current)
        for number in (*record.before(history, current, self.generations()), *older):
            if self.is_sound(number):
                return number
        raise BadUsage(
            "nothing-to-roll-back-to",
            "no earlier generation is on this box and whole",
            hint="see what there is: ./aibox history",
            fault=Fault.YOU,
        )

    def is_sound(self, number: int) -> bool:
        """Whether `require_sound` lets it pass; quarantines what it finds damaged."""
        try:
            self.require_sound(number)
        except NeedsPerson:
            return False
        return True

    def switch(self, number: int | None) -> None:
        """Make `current` name a generation, or nothing (None). Durable on return.

        The target is relative: a box that is moved or mounted elsewhere still works.
        """
        current, temporary = self.layout.current, self.layout.root / "current.new"
        if number is None:
            self.filesystem.unlink(current)
        elif self.current() != number:
            self.filesystem.unlink(temporary)
            self.filesystem.symlink(f"gens/{number}", temporary)
            self.filesystem.rename(temporary, current)
        self.filesystem.sync_directory(self.layout.root)

    # -- room ---------------------------------------------------------------------------------

    def keep_reserve(self) -> None:
        """Hold some room back for the day the disk is full: at most 1 % of it, or half of what
        is left."""
        room = os.statvfs(self.layout.root)
        share, free = room.f_blocks * room.f_frsize // 100, room.f_bavail * room.f_frsize
        size = min(self._reserve_bytes, share, free // 2)
        if size and not self.layout.reserve.exists():
            with self.filesystem.open(self.layout.reserve, fresh=True) as file:
                self.filesystem.allocate(file, size, keep_size=False)

    def release_reserve(self) -> bool:
        """Give the reserve up; False if there is none."""
        if not self.layout.reserve.exists():
            return False
        self.filesystem.unlink(self.layout.reserve)
        self.filesystem.sync_directory(self.layout.root)
        return True

    def with_room(self, step: Callable[[], _T]) -> _T:
        """Take a step that may be taken twice; on a full disk the reserve is given up for it."""
        try:
            return step()
        except DiskTrouble as error:
            if not (error.full and self.release_reserve()):
                raise
        return step()

    def clear_staging(self, *, parts: bool) -> None:
        """Remove what a transaction left half-made; half-imported blobs only if `parts`."""
        for entry in _entries(self.layout.staging):
            if entry != self.layout.parts:
                self.filesystem.remove_tree(entry)
        for part in _entries(self.layout.parts) if parts else ():
            self.filesystem.unlink(part)

    # -- inside -------------------------------------------------------------------------------

    def _pieces(self, tree: Mapping[str, str]) -> dict[str, Piece]:
        return {
            path: Piece(digest=digest, size=self._size(digest)) for path, digest in tree.items()
        }

    def _size(self, digest: str) -> int:
        try:
            return self.layout.blob(digest).lstat().st_size
        except OSError:
            self._refuse_damaged((Damage(str(self.layout.blob(digest)), digest, "missing"),))
            raise

    def _twin(self, wanted: Contents) -> int | None:
        """A sealed generation of the same content, mended; None if there is none."""
        for number in self.generations():
            if listing.load(self.layout.generation(number)) == wanted:
                self._relink(number, wanted)
                if not self.damage(number):
                    return number
        return None

    def _mend(self) -> None:
        """Let every generation profit from blobs that were replaced: a blob and its links rot
        together, and a rollback wants the old generations whole too."""
        for number in self.generations():
            found = listing.load(self.layout.generation(number))
            if found is not None:
                self._relink(number, found)

    def _relink(self, number: int, wanted: Contents) -> None:
        """Put sound blobs in the place of damaged tree files, one atomic rename each."""
        by_path = {str(self.layout.tree(number) / path): path for path in wanted.tree}
        for one in self._damaged_tree(number, wanted):
            if self.verify(one.digest):
                continue
            target = self.layout.tree(number) / by_path[one.path]
            temporary = self.layout.staging / "relink"
            self.filesystem.unlink(temporary)
            self._link(one.digest, temporary)
            self.filesystem.move(temporary, target)

    def _next_number(self) -> int:
        """Never used before: a number in the record keeps its meaning after `gc`."""
        recorded = (entry.generation or 0 for entry in self.history.read().entries)
        return max((*self.generations(), *recorded), default=0) + 1

    def _seal(self, number: int, wanted: Contents, files: Mapping[str, bytes]) -> None:
        staged = self.layout.staging / f"gen-{number}"
        self.filesystem.remove_tree(staged)
        directories = _directories(
            staged, (f"{listing.TREE}/{path}" for path in wanted.tree), files
        )
        tree = staged / listing.TREE
        for directory in directories:
            # Containers get folders of the tree mounted, each to a user of its own. Who is on
            # the host and is neither does not come past the folders above.
            readable = directory == tree or tree in directory.parents
            self.filesystem.make_directory(directory, READABLE if readable else CLOSED)
        for path, piece in wanted.tree.items():
            self._link(piece.digest, staged / listing.TREE / path)
        for path, data in {**files, listing.NAME: wanted.encode()}.items():
            self.filesystem.write_new(staged / path, data, 0o444)
        for directory in reversed(directories):
            self.filesystem.sync_directory(directory)
        self.filesystem.move(staged, self.layout.generation(number))

    def _link(self, digest: str, target: Path) -> None:
        blob = self.layout.blob(digest)
        known = self.verified.knows(digest, blob.stat())
        self.filesystem.link(blob, target)
        if known:  # Our own link moved its ctime; nobody wrote to it.
            self.verified.note(digest, blob.stat())

    def _damaged_blobs(self, wanted: Contents) -> tuple[Damage, ...]:
        return tuple(found for digest in wanted.blobs() if (found := self.verify(digest)))

    def _damaged_tree(self, number: int, wanted: Contents) -> tuple[Damage, ...]:
        tree = self.layout.tree(number)
        return tuple(
            Damage(str(tree / path), piece.digest, "not the blob it should be")
            for path, piece in wanted.tree.items()
            if not _same_file(tree / path, self.layout.blob(piece.digest), piece.size)
        )

    def _damaged_files(self, number: int, wanted: Contents) -> tuple[Damage, ...]:
        folder = self.layout.generation(number)
        return tuple(
            Damage(str(folder / path), digest, "other bytes than were sealed")
            for path, digest in wanted.rendered().items()
            if _content(folder / path) != digest
        )

    def _refuse_damaged(self, found: tuple[Damage, ...]) -> None:
        if found:
            raise damaged(found)

    def _require_good(self, wanted: int, current: int | None, good: tuple[int, ...]) -> None:
        if wanted == current:
            raise BadUsage(
                "already-current",
                f"generation {wanted} serves already",
                hint="see what there is: ./aibox history",
                fault=Fault.YOU,
            )
        if wanted not in good or wanted not in self.generations():
            raise BadUsage(
                "no-such-generation",
                f"generation {wanted} is not on this box, or it never passed its gate",
                hint="see what there is: ./aibox history",
                fault=Fault.YOU,
            )


def _directories(staged: Path, *groups: Iterable[str]) -> list[Path]:
    """Every directory the files need, parents first."""
    parents = {staged, staged / listing.TREE}
    for group in groups:
        for path in group:
            parents.update(staged / parent for parent in relative(path).parents)
    return sorted(parents)


def _same_file(path: Path, blob: Path, size: int) -> bool:
    try:
        one, other = path.lstat(), blob.lstat()
    except OSError:
        return False
    return (one.st_dev, one.st_ino, one.st_size) == (other.st_dev, other.st_ino, size)


def _content(path: Path) -> str:
    try:
        return digests.of_bytes(path.read_bytes())
    except OSError:
        return ""


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
