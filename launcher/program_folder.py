"""The folder of a program in the box; the only place that unpacking writes to."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from program_text import ProgramFile
from refusal import HOST_CANNOT, Refused

BLOCK = 1 << 20
HEADROOM = 16 << 20
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class ProgramFolder:
    """Holds the files of one program at `path`; `again` is the command that goes on."""

    def __init__(self, path: Path, again: str) -> None:
        self.path = path
        self._again = again
        self._stamp = path / "program.txt"
        self._partial = path / "program.partial"

    @property
    def lock(self) -> Path:
        """Held by whoever unpacks."""
        return self.path / "program.lock"

    def is_whole(self, digest: str) -> bool:
        """Whether everything of the program.txt of this digest was unpacked."""
        return self._stamp.is_file() and _digest(self._stamp) == digest

    def begin(self) -> None:
        """From here on the folder is not whole; tells ./aibox that it lies in no checkout."""
        self._stamp.unlink(missing_ok=True)
        (self.path / "bundled-wheels").mkdir(exist_ok=True)

    def finish(self, text: bytes) -> None:
        """Say that all of `text` is there; the files are on the disk before that is."""
        self._partial.write_bytes(text)
        os.sync()
        self._partial.rename(self._stamp)

    def has(self, wanted: ProgramFile) -> bool:
        """Whether a file is there and what it should be: its bytes are read."""
        path = self.path / wanted.path
        try:
            found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        as_wanted = (stat.S_IFREG | wanted.mode, wanted.size)
        return (found.st_mode, found.st_size) == as_wanted and _digest(path) == wanted.sha256

    def take(
        self, wanted: ProgramFile, blocks: Iterable[bytes], on_bytes: Callable[[int], None]
    ) -> None:
        """Write a file, replacing what has its name; it gets the name when `blocks` ended well."""
        path = self.path / wanted.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(self._partial, _FLAGS, 0o600), "wb") as file:
                for block in blocks:
                    file.write(block)
                    on_bytes(len(block))
                os.fchmod(file.fileno(), wanted.mode)
            self._partial.rename(path)
        except BaseException:
            self._partial.unlink(missing_ok=True)
            raise

    def require_room(self, size: int) -> None:
        """Refuse before the first byte what the disk cannot take; `size` in bytes."""
        room = os.statvfs(self.path)
        free = room.f_bavail * room.f_frsize
        if free < size + HEADROOM:
            raise self._full(f"needed: {size + HEADROOM} bytes; free: {free} bytes")

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """What the disk refuses in here becomes `Refused`."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise self._full(str(error)) from error
            raise Refused(
                "program-not-writable",
                f"{self.path} cannot be written: {error.strerror}",
                fault="the host",
                hint=f"name another place: AIBOX_HOME=/path/of/the/box {self._again}",
                context=str(error),
                exit_code=HOST_CANNOT,
            ) from error

    def _full(self, facts: str) -> Refused:
        return Refused(
            "disk-full",
            f"the disk of {self.path} has no room for the program",
            fault="the host",
            hint=f"free 500 MB, or name another place: AIBOX_HOME=/path/of/the/box {self._again}",
            context=facts,
            exit_code=HOST_CANNOT,
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
