"""Reading a bundle: a folder on some medium that nobody vouches for, and that may be pulled out."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from program_text import ProgramFile
from refusal import FAILED, NOT_WHAT_IT_SHOULD_BE, Refused

TEXT_LIMIT = 8 << 20
LABEL_LIMIT = 64 << 20
BLOCK = 1 << 20
NAMED = 3
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Medium:
    """The bundle in the folder `root`; `again` is the command that starts it."""

    def __init__(self, root: Path, again: str) -> None:
        self._root = root
        self._again = again

    def text(self, digest: str) -> bytes:
        """program.txt, whose digest is known. Raises `Refused`."""
        path = self._root / "program.txt"
        with self._reading(path) as file:
            text = file.read(TEXT_LIMIT)
        if hashlib.sha256(text).hexdigest() != digest:
            raise self._damaged(path, "it changed while it was being read")
        return text

    def has(self, wanted: ProgramFile) -> bool:
        """Whether there is a blob of this name."""
        try:
            return stat.S_ISREG(self._blob(wanted).lstat().st_mode)
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise self._unreadable(self._blob(wanted), error) from error

    def blocks(self, wanted: ProgramFile) -> Iterator[bytes]:
        """The bytes of a blob, block by block.

        Raises `Refused` after the last one unless they were exactly those that they should be.
        """
        path, state, left = self._blob(wanted), hashlib.sha256(), wanted.size
        with self._reading(path) as file:
            while block := file.read(BLOCK):
                left -= len(block)
                if left < 0:
                    raise self._damaged(path, f"more than {wanted.size} bytes")
                state.update(block)
                yield block
        if left:
            raise self._damaged(path, f"{wanted.size - left} of {wanted.size} bytes")
        if state.hexdigest() != wanted.sha256:
            raise self._damaged(path, "other bytes")

    def incomplete(self, missing: Sequence[ProgramFile]) -> Refused:
        """The refusal that names what is missing, and the volumes of a split bundle to bring."""
        volumes = self._volumes()
        wanted = sorted({volumes[file.sha256] for file in missing if file.sha256 in volumes})
        shown = [f"{file.path} (blob {file.sha256})" for file in missing[:NAMED]]
        numbers = " and ".join(map(str, wanted))
        return Refused(
            "bundle-incomplete",
            f"{len(missing)} files of the program are not in {self._root}",
            fault="the host",
            hint=f"bring volume {numbers}, and start it from there: sh /path/of/the/volume/aibox"
            if wanted
            else "a delta is for a box that runs: bin/aibox upgrade --bundle, in its folder; "
            f"else copy the bundle again, then: {self._again}",
            context="\n    ".join(shown + ["..."] * (len(missing) > NAMED)),
            exit_code=NOT_WHAT_IT_SHOULD_BE,
        )

    def _volumes(self) -> dict[str, int]:
        """Blob -> number of its volume, as volume.json says; it gives names, nothing more."""
        with contextlib.suppress(Refused, ValueError, KeyError, TypeError, RecursionError):
            with self._reading(self._root / "volume.json") as file:
                label = json.loads(file.read(LABEL_LIMIT))
            return {
                blob: number
                for number, share in enumerate(label["volumes"], start=1)
                for blob in share["blobs"]
            }
        return {}

    def _blob(self, wanted: ProgramFile) -> Path:
        return self._root / "blobs" / "sha256" / wanted.sha256

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[BinaryIO]:
        try:
            with os.fdopen(os.open(path, _FLAGS), "rb") as file:
                yield file
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: Path, error: OSError) -> Refused:
        return Refused(
            "medium-unreadable",
            f"{path} cannot be read: {error.strerror}",
            fault="the host",
            hint=f"check the medium and its connection, then: {self._again}",
            exit_code=FAILED,
        )

    def _damaged(self, path: Path, reason: str) -> Refused:
        return Refused(
            "bundle-damaged",
            f"{path} is not what it should be; nothing of it was taken",
            fault="the host",
            hint=f"copy the bundle again, then: {self._again}",
            context=reason,
            exit_code=NOT_WHAT_IT_SHOULD_BE,
        )
