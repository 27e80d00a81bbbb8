"""Folders that look like a bundle to whoever starts it; the manifest is a double, unsigned."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from aibox.bundle import program
from aibox.pins import Blob

REPOSITORY = Path(__file__).parents[2]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
MACHINE = os.uname().machine


def launcher_files() -> dict[str, tuple[bytes, bool]]:
    """The real launcher, as a program's files."""
    parts = [REPOSITORY / "aibox", *sorted((REPOSITORY / "launcher").glob("*.*"))]
    return {
        str(path.relative_to(REPOSITORY)): (path.read_bytes(), path.name == "aibox")
        for path in parts
        if path.is_file()
    }


def write_bundle(
    root: Path,
    files: program.Files,
    wheels: Iterable[Path],
    interpreter: bytes | None = None,
    pythons: Iterable[str] = (PYTHON,),
    machine: str = MACHINE,
) -> None:
    """Write blobs and first steps below `root`, without modes, as a FAT file system has none."""
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    packages = {wheel.name: wheel.read_bytes() for wheel in wheels}
    interpreters = {} if interpreter is None else {machine: interpreter}
    for data in (*(data for data, _ in files.values()), *packages.values(), *interpreters.values()):
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
    made = program.listing(files, _blobs(packages), _blobs(interpreters))
    open_files = program.first_steps(files, made, pythons, (machine,))
    for path, (data, _) in open_files.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(data)
    digest = hashlib.sha256(open_files[program.SUMS][0]).hexdigest()
    (root / "bundle.json").write_text(json.dumps({"double": True, program.SUMS: digest}))


def interpreter_double() -> bytes:
    """A tar whose bin/python3 hands on to the Python that runs the tests."""
    script = f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n'.encode()
    member = tarfile.TarInfo("bin/python3")
    member.size, member.mode = len(script), 0o755
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(member, io.BytesIO(script))
    return stream.getvalue()


def path_of_tools(folder: Path, *tools: str) -> str:
    """A PATH that holds nothing but these tools."""
    folder.mkdir()
    for tool in tools:
        found = shutil.which(tool)
        assert found, f"{tool} is needed to run this test"
        (folder / tool).symlink_to(found)
    return str(folder)


def _blobs(files: Mapping[str, bytes]) -> dict[str, Blob]:
    return {
        name: Blob(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in files.items()
    }
