"""What an engine compiled on one machine, carried to another of the same kind.

It is code that the engine loads and runs, so it comes from a release alone: a file pinned by its
digest in models.lock and covered by the signature of the bundle (`[[file]]` of the name
`compiled-SERVICE`). It is taken where nothing was compiled yet, and where folder and hardware are
those that it was made for: the name of the folder is a digest of image, model and arguments
(`compose_values.cache`). It lands in that engine's own folder, which nobody else reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from aibox.box.filesystem import Filesystem
from aibox.box.stalls import NOTE
from aibox.errors import Failed, Fault
from aibox.schema import Model, Name

WISH = "compiled-"
"""How the name of the file of a release begins; the service follows."""
LABEL = "aibox-compiled.json"
VERSION = 1
MOST_BYTES, MOST_FILES, LONGEST_PATH = 16 << 30, 500_000, 512
_CHUNK = 1 << 20
_CPU_FEATURES = Path("/proc/cpuinfo")


class Label(Model):
    """For what it was made: the name of the engine's folder, and the hardware."""

    version: int
    folder: Name
    hardware: tuple[str, ...]


def processor() -> str:
    """What code for this host's processor may use, as one digest; code for another may not run."""
    try:
        lines = _CPU_FEATURES.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    features = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    return f"processor {hashlib.sha256(json.dumps(features).encode()).hexdigest()[:16]}"


def pack(folder: Path, hardware: Sequence[str], output: Path) -> int:
    """Write what lies in an engine's folder into a new file; how many files it holds.

    The same content gives the same bytes. Links and special files are left out, and so are notes
    of ours. Raises `Failed` (`compiled-not-written`) and leaves no half a file.
    """
    label = Label(version=VERSION, folder=folder.name, hardware=tuple(hardware))
    count = 0
    try:
        with output.open("xb") as file, tarfile.open(fileobj=file, mode="w") as archive:
            _add(archive, LABEL, json.dumps(label.model_dump(mode="json"), sort_keys=True).encode())
            for path in _files(folder):
                _add(archive, path.relative_to(folder).as_posix(), path.read_bytes())
                count += 1
    except OSError as error:
        if not isinstance(error, FileExistsError):
            with suppress(OSError):
                output.unlink(missing_ok=True)
        raise Failed(
            "compiled-not-written",
            f"{output} cannot be written: {error.strerror or error}",
            hint="name a new file on a disk with room: ./aibox compiled FILE",
            fault=Fault.HOST,
        ) from error
    return count


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.name != NOTE:
            yield path


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    archive.addfile(member, io.BytesIO(data))


def is_wanting(folder: Path) -> bool:
    """Whether an engine has compiled nothing here yet: no folder, or the one that it was given."""
    if folder.is_symlink():
        return False
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def place(
    filesystem: Filesystem, source: Path, target: Path, staging: Path, hardware: Sequence[str]
) -> str:
    """Unpack into a folder that `is_wanting`; "" when done, else why it was not taken.

    `staging` is a folder on the same file system. Nothing is taken in part.
    """
    if not is_wanting(target):
        return ""
    half = staging / f"{WISH}{target.name}"
    filesystem.remove_tree(half)
    try:
        with closing(tarfile.open(source, "r:")) as archive:
            if reason := _unfit(archive, target.name, hardware):
                return reason
            filesystem.make_directory(half)
            _unpack(filesystem, archive, half)
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        filesystem.remove_tree(half)
        return f"it is no archive of ours ({str(error)[:120]})"
    filesystem.make_directory(target.parent)
    filesystem.move(half, target)
    return ""


def _unfit(archive: tarfile.TarFile, folder: str, hardware: Sequence[str]) -> str:
    first = archive.next()
    content = archive.extractfile(first) if first and first.name == LABEL else None
    if content is None or first is None or first.size > _CHUNK:
        return "it does not say what it was made for"
    try:
        label = Label.model_validate_json(content.read())
    except ValidationError:
        return "it does not say what it was made for"
    if label.version != VERSION:
        return f"it is of version {label.version}, this program reads {VERSION}"
    if label.folder != folder:
        return "it was made with another image, model or arguments"
    if label.hardware != tuple(hardware):
        return f"it was made on {', '.join(label.hardware)}; here is {', '.join(hardware)}"
    return ""


def _unpack(filesystem: Filesystem, archive: tarfile.TarFile, folder: Path) -> None:
    """Plain files alone, below the folder; `ValueError` for anything else."""
    size = 0
    for number, member in enumerate(archive):
        size += member.size
        if number > MOST_FILES or size > MOST_BYTES:
            raise ValueError("it is larger than anything an engine compiles")
        if member.name == LABEL:
            continue
        path = folder / _below(member)
        content = archive.extractfile(member)
        if content is None:
            raise ValueError(f"{member.name!r} is no plain file")
        for parent in reversed(path.relative_to(folder).parents[:-1]):
            if not (folder / parent).is_dir():
                filesystem.make_directory(folder / parent)
        with filesystem.open(path, fresh=True) as file:
            while data := content.read(_CHUNK):
                filesystem.write(file, data)


def _below(member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    odd = path.is_absolute() or ".." in path.parts or "\0" in member.name or not path.parts
    if not member.isreg() or odd or len(os.fsencode(member.name)) > LONGEST_PATH:
        raise ValueError(f"{member.name[:80]!r} is no plain file below its folder")
    return path
