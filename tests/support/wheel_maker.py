"""Wheels made on the spot, so that tests need neither an index nor a network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path


def make_wheel(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    name: str = "demo",
    version: str = "1.0",
    tag: str = "py3-none-any",
    unrecorded: Mapping[str, bytes] | None = None,
) -> Path:
    """A well-formed wheel holding `files`; `unrecorded` are added behind the back of its RECORD."""
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    about = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
    recorded = {
        **files,
        f"{information}/METADATA": metadata.encode(),
        f"{information}/WHEEL": about.encode(),
    }
    record = "".join(f"{path},{_digest(data)},{len(data)}\n" for path, data in recorded.items())
    record += f"{information}/RECORD,,\n"
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in {**recorded, **(unrecorded or {})}.items():
            archive.writestr(
                zipfile.ZipInfo(member), data
            )  # without a time: same files, same bytes
        archive.writestr(zipfile.ZipInfo(f"{information}/RECORD"), record)
    return path


def wheel_of_installed(folder: Path, name: str) -> Path:
    """A wheel with the modules of a package that is installed beside the tests."""
    found = distribution(name)
    files = {
        str(entry): Path(str(entry.locate())).read_bytes()
        for entry in found.files or ()
        if entry.suffix != ".pyc" and ".." not in entry.parts and "dist-info" not in str(entry)
    }
    return make_wheel(folder, files, name=name, version=found.version)


def _digest(data: bytes) -> str:
    raw = hashlib.sha256(data).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
