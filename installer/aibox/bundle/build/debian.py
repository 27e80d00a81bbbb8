"""Debian packages: the closure of a wish for one release, resolved by the real apt."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from aibox.bundle.build import programs
from aibox.bundle.build.apt import PrivateApt, Signed
from aibox.bundle.packages import kernels, targets
from aibox.bundle.packages.apt_output import AGAIN, Listed
from aibox.bundle.packages.mirrors import ArchiveMirror, Mirrors
from aibox.bundle.packages.targets import Target
from aibox.errors import BadUsage, Fault
from aibox.pins import Archive, Package, PackageFormat, PackageSet, Redistribution
from aibox.profile import PackagesWish
from aibox.progress import Report

_FOR_KERNELS = (
    *("linux-headers-", "linux-modules-nvidia-"),
    *("linux-objects-nvidia-", "linux-signatures-nvidia-"),
)
_WANTED = re.compile(r"[a-z0-9][a-z0-9.+-]*(:[a-z0-9-]+)?(=[A-Za-z0-9][A-Za-z0-9.+:~-]*)?")


def resolve(
    wish: PackagesWish,
    architecture: str,
    mirrors: Mirrors,
    report: Report,
    *,
    base: bool = True,
) -> PackageSet:
    """The closure of what is wished for on an empty system; `architecture` as Debian calls it.

    With `base` it holds what every system has besides (essential packages, apt), so that it is
    complete on its own; without, only what is depended on. Kernels add their headers, and modules
    that are built beforehand where the archives have them.

    Raises:
        BadUsage: `target-unknown`, `package-unknown`, `kernel-headers-missing`,
            `archive-address-unknown`, `package-name-invalid`.
        Failed: `tool-missing`, `archive-keyring-missing`, `archive-unreachable`,
            `archive-without-release`, `packages-unsatisfiable`.
        VerificationRefused: `archive-signature-refused`, `archive-index-refused`,
            `archive-expired`.
    """
    target = targets.target(wish.target)
    check_wanted(wish, target, PackageFormat.DEB)
    archives = mirrors.archives(target, architecture)
    with programs.workspace("apt") as folder:
        apt = PrivateApt(folder, architecture, archives, report)
        apt.update()
        wanted = [*wish.wanted, *_for_kernels(apt, wish)]
        if base:
            wanted += [*target.base, "?essential"]
        files = [(*apt.archive_of(file), file) for file in apt.closure(wanted, wish.target)]
        return _package_set(wish, target, architecture, files, apt.signed())


def check_wanted(wish: PackagesWish, target: Target, form: PackageFormat) -> None:
    """Refuse names that are none (`package-name-invalid`), and a format of another system."""
    wrong = [name for name in wish.wanted if not _WANTED.fullmatch(name)]
    if form is PackageFormat.RPM:
        wrong = [name for name in wish.wanted if not re.fullmatch(r"[A-Za-z0-9@][\w.+:~-]*", name)]
    if wrong or wish.format is not form or target.format is not form:
        facts = f"not a name: {wrong[0]!r}" if wrong else f"{wish.format} on {wish.target}"
        raise BadUsage(
            "package-name-invalid",
            f"the packages {wish.name!r} are not packages that {wish.target} can have",
            context=facts,
            hint=f"correct them in the profile, then: {AGAIN}",
            fault=Fault.YOU,
        )


def _for_kernels(apt: PrivateApt, wish: PackagesWish) -> tuple[str, ...]:
    if not wish.kernels:
        return ()
    known = {name for prefix in _FOR_KERNELS for name in apt.names(prefix)}
    return kernels.packages_of(wish.format, wish.wanted, wish.kernels, known)


def _package_set(
    wish: PackagesWish,
    target: Target,
    architecture: str,
    files: Sequence[tuple[ArchiveMirror, str, Listed]],
    signed: Sequence[Signed],
) -> PackageSet:
    used = {archive.label: archive for archive, _, _ in files}
    packages = [_package(archive, path, file) for archive, path, file in files]
    return PackageSet(
        name=wish.name,
        licence="as each package says",
        redistribution=redistribution(target, packages, used),
        owner=", ".join(sorted({archive.owner or archive.label for archive in used.values()})),
        source=f"{wish.target}, archives: {', '.join(sorted(used))}",
        format=wish.format,
        target=wish.target,
        architecture=architecture,
        wanted=wish.wanted,
        kernels=wish.kernels,
        archives=tuple(
            Archive(
                label=item.label,
                suite=item.suite,
                components=item.components,
                signed_by=item.signed_by,
            )
            for item in sorted(signed, key=lambda item: (item.label, item.suite))
        ),
        packages=tuple(sorted(packages, key=lambda item: (item.name, item.architecture))),
    )


def _package(archive: ArchiveMirror, path: str, file: Listed) -> Package:
    return Package(
        name=file.name,
        version=file.version,
        architecture=file.architecture,
        archive=archive.label,
        path=path,
        size=file.size,
        sha256=file.sha256,
    )


def redistribution(
    target: Target, packages: Sequence[Package], archives: dict[str, ArchiveMirror]
) -> Redistribution:
    """The narrowest of what the archives, and the components of the distribution's, allow."""
    own = {label for label, _ in target.archives}
    found = {archive.redistribution for archive in archives.values()}
    if target.distribution is not None:
        paths = tuple(package.path for package in packages if package.archive in own)
        found.add(targets.redistribution(paths, target.distribution))
    return narrowest(found)


def narrowest(classes: Collection[Redistribution]) -> Redistribution:
    """What a whole allows whose parts allow these."""
    order = (Redistribution.FORBID, Redistribution.OPERATOR_ONLY)
    return next((item for item in order if item in classes), Redistribution.ALLOW)
