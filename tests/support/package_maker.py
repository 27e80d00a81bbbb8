"""Packages made on the spot: .deb byte by byte, as wrong as one likes, and .rpm by rpmbuild."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

needs_apt = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("apt-get", "gpg", "gpgv", "dpkg-deb")),
    reason="no apt, gpg or dpkg on this machine: run on Debian or Ubuntu, apt-get install gpg gpgv",
)
needs_dnf = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("dnf", "rpmbuild", "createrepo_c", "gpg")),
    reason="no dnf, rpmbuild or createrepo_c: apt-get install dnf rpm createrepo-c gpg",
)


def make_deb(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    architecture: str = "all",
    fields: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    members: Sequence[tuple[tarfile.TarInfo, bytes]] = (),
) -> Path:
    """A package that dpkg accepts, unless `members` (whole tar headers) are worse than that."""
    control = {
        "Package": name,
        "Version": version,
        "Architecture": architecture,
        "Maintainer": "Test <test@localhost>",
        "Priority": "optional",
        "Description": "made by a test",
        **(fields or {}),
    }
    text = "".join(f"{field}: {value}\n" for field, value in control.items())
    data = [(member(f"./{path}"), content) for path, content in (files or {}).items()]
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar([(member("./control"), text.encode())]),
        "data.tar.gz": _tar([*data, *members]),
    }
    path = folder / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
    path.write_bytes(b"!<arch>\n" + b"".join(_ar(*part) for part in parts.items()))
    return path


def member(path: str, **values: object) -> tarfile.TarInfo:
    """A tar header with these values, else that of an ordinary file."""
    header = tarfile.TarInfo(path)
    for name, value in {"mode": 0o644, **values}.items():
        setattr(header, name, value)
    return header


def _tar(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for header, content in members:
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


def _ar(name: str, data: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    return head + data + b"\n" * (len(data) % 2)


def make_rpm(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    release: str = "1",
    requires: Sequence[str] = (),
    recommends: Sequence[str] = (),
) -> Path:
    """A package without files, made by the real rpmbuild."""
    wants = "".join(f"Requires: {item}\n" for item in requires)
    wants += "".join(f"Recommends: {item}\n" for item in recommends)
    spec = folder / f"{name}-{version}.spec"
    spec.write_text(
        f"Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: made by a test\n"
        f"License: MIT\nBuildArch: noarch\n{wants}%description\nmade by a test\n%files\n"
    )
    target = ("--define", f"_topdir {folder}/build", "--define", f"_rpmdir {folder}")
    flat = ("--define", "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm")
    subprocess.run(
        ["rpmbuild", "--quiet", "-bb", *target, *flat, str(spec)],
        check=True,
        capture_output=True,
        env={**os.environ, "HOME": str(folder)},
    )
    return folder / f"{name}-{version}-{release}.noarch.rpm"
