"""Archives of made packages on disk, signed by a key of their own, for the real apt and dnf."""

from __future__ import annotations

import datetime
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from aibox.bundle.build import deb_file, rpm_repository
from aibox.bundle.build.deb_repository import make as make_apt
from aibox.bundle.build.package_key import PackageKey, load_or_make
from aibox.bundle.packages.mirrors import ArchiveMirror
from aibox.pins import Package, PackageFormat, PackageSet, Redistribution
from aibox.progress import Progress

DATE = datetime.date(2026, 1, 15)


@dataclass
class Said:
    """Hears what long work reports."""

    lines: list[Progress] = field(default_factory=list)

    def __call__(self, progress: Progress) -> None:
        self.lines.append(progress)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_of(paths: Sequence[Path]) -> Callable[[str], Path]:
    """Which of the files has a digest."""
    known = {sha256(path): path for path in paths}
    return known.__getitem__


def a_key(folder: Path) -> PackageKey:
    folder.mkdir(mode=0o700, exist_ok=True)
    return load_or_make(folder)


def pinned(
    paths: Sequence[Path],
    *,
    name: str = "some",
    target: str = "debian-13",
    architecture: str = "amd64",
    kernels: Sequence[str] = (),
    archive: str = "debian",
) -> PackageSet:
    """A resolved set of .deb files as a lock would hold it."""
    packages = []
    for path in paths:
        control = deb_file.control(path)
        packages.append(
            Package(
                name=control.get("Package"),
                version=control.get("Version"),
                architecture=control.get("Architecture"),
                archive=archive,
                path=f"pool/main/{path.name}",
                size=path.stat().st_size,
                sha256=sha256(path),
            )
        )
    return a_set(packages, name=name, target=target, architecture=architecture, kernels=kernels)


def pinned_rpms(paths: Sequence[Path], archive: str = "base") -> PackageSet:
    """A resolved set of .rpm files of `make_rpm`."""
    packages = [
        Package(
            name=path.name.rsplit("-", 2)[0],
            version=path.name.split("-", path.name.count("-") - 1)[-1].removesuffix(".noarch.rpm"),
            architecture="noarch",
            archive=archive,
            path=f"pool/{path.name}",
            size=path.stat().st_size,
            sha256=sha256(path),
        )
        for path in paths
    ]
    return a_set(packages, form=PackageFormat.RPM, target="rocky-9", architecture="x86_64")


def a_set(
    packages: Sequence[Package],
    *,
    name: str = "some",
    form: PackageFormat = PackageFormat.DEB,
    target: str = "debian-13",
    architecture: str = "amd64",
    kernels: Sequence[str] = (),
) -> PackageSet:
    return PackageSet(
        name=name,
        licence="as each package says",
        redistribution=Redistribution.ALLOW,
        owner="test",
        source="made by a test",
        format=form,
        target=target,
        architecture=architecture,
        wanted=tuple(package.name for package in packages),
        kernels=tuple(kernels),
        packages=tuple(packages),
    )


def publish(
    folder: Path, paths: Sequence[Path], key: PackageKey, *, label: str = "debian"
) -> ArchiveMirror:
    """An apt archive of the files in `folder`, for debian-13."""
    files = file_of(paths)
    made = make_apt(pinned(paths, name=label), files, key, DATE, Said())
    made.write(folder, files)
    keyring = folder / "aibox-packages.gpg"
    return ArchiveMirror(
        label=label,
        targets=("debian-13",),
        address=f"file:{folder}",
        suites=("trixie",),
        components=("main",),
        keyring=str(keyring),
        redistribution=Redistribution.ALLOW,
    )


def publish_rpms(
    folder: Path, paths: Sequence[Path], key: PackageKey, *, label: str = "base"
) -> ArchiveMirror:
    """A dnf archive of the files in `folder`, for rocky-9."""
    files = file_of(paths)
    made = rpm_repository.make(pinned_rpms(paths, label), files, key, DATE, Said())
    made.write(folder, files)
    return ArchiveMirror(
        label=label,
        targets=("rocky-9",),
        address=f"file://{folder}",
        keyring=str(folder / "aibox-packages.asc"),
        redistribution=Redistribution.ALLOW,
    )


def overwrite(path: Path, data: bytes) -> None:
    """Other bytes at a path that may be linked to elsewhere."""
    path.unlink()
    path.write_bytes(data)


def copied(archives: Sequence[ArchiveMirror], folder: Path) -> tuple[ArchiveMirror, ...]:
    """The same archives at other places, to be spoilt there."""
    copies = []
    for archive in archives:
        old = Path(urlsplit(archive.address).path)
        new = folder / archive.label
        shutil.copytree(old, new)
        keyring = str(new / Path(archive.keyring).relative_to(old))
        copies.append(archive.model_copy(update={"address": f"file://{new}", "keyring": keyring}))
    return tuple(copies)
