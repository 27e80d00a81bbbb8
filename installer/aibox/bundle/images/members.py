"""Which members a layer may have. Pure: one judge per layer, one verdict per member.

What we decided, and why:

- Symbolic links may point anywhere: inside a container they are followed inside it. Nothing may
  lie below one in the same layer, and hard links may not leave the image.
- Device nodes give whoever may open them the device, in the store of the host too. Only those
  that every container has anyway (`/dev/null` and its kin, as debootstrap makes them) pass, and
  are noted. 0:0 is how overlayfs writes a whiteout on disk: it would hide files behind our back.
- A named pipe reaches nobody outside the container: noted.
- Attributes of overlayfs itself would redirect a folder of the unpacked layer: refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from aibox.bundle.images.problems import Note, NoteKind, Problem, ProblemKind
from aibox.bundle.images.tar import Member, Type, shown

LONGEST_PATH = 4096
LONGEST_NAME = 255
WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"

_SET_ID = 0o6000
_CAPABILITY = b"security.capability"
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")
_USUAL_DEVICES = {
    b"dev/null": (1, 3),
    b"dev/zero": (1, 5),
    b"dev/full": (1, 7),
    b"dev/random": (1, 8),
    b"dev/urandom": (1, 9),
    b"dev/tty": (5, 0),
    b"dev/console": (5, 1),
    b"dev/ptmx": (5, 2),
}
"""Linux, Documentation/admin-guide/devices.txt."""

_Finding = tuple[ProblemKind, str]


class Judge:
    """Judges the members of one layer (counted from 1), in their order.

    Remembers 64 bits of every path, so that half a million members take some 50 MB.
    """

    def __init__(self, layer: int, where: str) -> None:
        self._layer, self._where = layer, where
        self._files: set[int] = set()
        self._folders: set[int] = set()
        self._last_parent = b""
        self._notes: dict[NoteKind, tuple[int, str]] = {}

    def judge(self, member: Member) -> list[Problem]:
        """What is wrong with the next member."""
        parts, findings = _path(member)
        if parts is not None:
            name = b"/".join(parts)
            findings = [
                *self._place(name, member.type),
                *_whiteout(parts, member),
                *_type(name, member),
                *_attributes(member),
            ]
            self._note(name, member)
        return [self._problem(member, kind, detail) for kind, detail in findings]

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was met and is not wrong."""
        return tuple(
            Note(kind, self._layer, count, example)
            for kind, (count, example) in self._notes.items()
        )

    def _place(self, name: bytes, kind: Type) -> Iterator[_Finding]:
        """Every path once, and below folders only: else the order decides what is unpacked."""
        yield from self._parents(name)
        key = hash(name)
        if kind is Type.FOLDER:
            if key in self._files:
                yield ProblemKind.DUPLICATE, "a folder where something else was"
            self._folders.add(key)
        elif key in self._files or key in self._folders:
            yield ProblemKind.DUPLICATE, "the path is taken"
        else:
            self._files.add(key)

    def _parents(self, name: bytes) -> Iterator[_Finding]:
        parent = name.rpartition(b"/")[0]
        if parent == self._last_parent:
            return
        cut = len(name)
        while (cut := name.rfind(b"/", 0, cut)) > 0:
            key = hash(name[:cut])
            if key in self._files:
                yield ProblemKind.BELOW_FILE, f"{shown(name[:cut])} is a link or a file"
                return
            self._folders.add(key)
        self._last_parent = parent

    def _problem(self, member: Member, kind: ProblemKind, detail: str) -> Problem:
        return Problem(kind, f"{self._where}: {shown(member.name)}", detail)

    def _note(self, name: bytes, member: Member) -> None:
        if member.type is Type.REGULAR and member.mode & _SET_ID:
            self._count(NoteKind.SET_ID, name)
        if _CAPABILITY in member.attributes:
            self._count(NoteKind.CAPABILITY, name)
        if member.type is Type.CHARACTER:
            self._count(NoteKind.DEVICE, name)
        if member.type is Type.FIFO:
            self._count(NoteKind.FIFO, name)

    def _count(self, kind: NoteKind, name: bytes) -> None:
        count, example = self._notes.get(kind, (0, shown(name)))
        self._notes[kind] = (count + 1, example)


def _path(member: Member) -> tuple[list[bytes] | None, list[_Finding]]:
    """The parts of a member's path ([] is the root); None with a finding when it has no place."""
    name = member.name
    if reason := _no_path(name):
        return None, [(ProblemKind.NAME, reason)]
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if member.type is not Type.FOLDER and (not parts or name.endswith((b"/", b"/."))):
        return None, [(ProblemKind.NAME, "the name of a folder for something else")]
    # kaniko writes the root as "/".
    if name.startswith(b"/") and parts:
        return None, [(ProblemKind.NAME, "an absolute path")]
    return parts, []


def _no_path(name: bytes) -> str:
    """Why these bytes are no path that stays below where it is unpacked; "" if they are one."""
    if not name or b"\x00" in name:
        return "empty, or with a zero byte"
    parts = name.split(b"/")
    if b".." in parts:
        return "a part .."
    if len(name) > LONGEST_PATH or max(map(len, parts)) > LONGEST_NAME:
        return f"longer than {LONGEST_PATH} bytes, or a part longer than {LONGEST_NAME}"
    return ""


def _whiteout(parts: list[bytes], member: Member) -> Iterator[_Finding]:
    """`.wh.NAME` removes NAME of the layers below, `.wh..wh..opq` all of its folder there."""
    if not parts:
        return
    *folders, base = parts
    if any(part.startswith(WHITEOUT) for part in folders):
        yield ProblemKind.WHITEOUT, "something below a whiteout"
    if not base.startswith(WHITEOUT):
        return
    hidden = base.removeprefix(WHITEOUT)
    if member.type is not Type.REGULAR or member.size:
        yield ProblemKind.WHITEOUT, "a whiteout is an empty file"
    # Docker removes what stands behind the prefix: "..", for one, would be the folder above.
    if base != OPAQUE and (hidden in (b"", b".", b"..") or hidden.startswith(WHITEOUT)):
        yield ProblemKind.WHITEOUT, "hides no name"


def _type(name: bytes, member: Member) -> Iterator[_Finding]:
    match member.type:
        case Type.BLOCK:
            yield ProblemKind.DEVICE, "a block device"
        case Type.CHARACTER if _USUAL_DEVICES.get(name) != member.device:
            major, minor = member.device
            yield ProblemKind.DEVICE, f"a character device {major}:{minor}"
        case Type.HARD_LINK:
            if reason := _no_path(member.link):
                yield ProblemKind.HARD_LINK, reason
            elif member.link.startswith(b"/"):
                yield ProblemKind.HARD_LINK, f"to the absolute path {shown(member.link)}"
        case Type.SYMLINK if not member.link or b"\x00" in member.link:
            yield ProblemKind.NAME, "a symbolic link to nothing"
        case _:
            return


def _attributes(member: Member) -> Iterator[_Finding]:
    for name in member.attributes:
        if name.startswith(_OVERLAY):
            yield ProblemKind.ATTRIBUTE, shown(name)
