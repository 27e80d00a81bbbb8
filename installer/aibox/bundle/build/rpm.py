"""Rpm packages: the closure of a wish by dnf's own solver, and the signatures of its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from aibox import process
from aibox.bundle.build import archive_files, programs
from aibox.bundle.build.apt import copy_keyring
from aibox.bundle.build.archive_files import STEP
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.debian import check_wanted, narrowest
from aibox.bundle.packages import kernels, targets
from aibox.bundle.packages.apt_output import AGAIN, scrubbed
from aibox.bundle.packages.mirrors import ArchiveMirror, Mirrors
from aibox.errors import AiboxError, BadUsage, Failed, Fault, VerificationRefused
from aibox.pins import Archive, Package, PackageFormat, PackageSet
from aibox.profile import PackagesWish
from aibox.progress import Report

QUERY = Path(__file__).with_name("dnf_query.py")
SOLVE_S, VERIFY_S = 1800.0, 300.0
ANSWER_LIMIT = 64 << 20


def resolve(wish: PackagesWish, architecture: str, mirrors: Mirrors, report: Report) -> PackageSet:
    """The closure of what is wished for in an empty root; `architecture` as rpm calls it.

    Kernels add their `kernel-devel`. Raises what `debian.resolve` raises, and `Failed`
    (`dnf-unsuited`) where dnf is not one of the generation 4.
    """
    target = targets.target(wish.target)
    check_wanted(wish, target, PackageFormat.RPM)
    archives = mirrors.archives(target, architecture)
    with programs.workspace("dnf") as folder:
        query = _Query(folder, wish, architecture, archives, report)
        wanted = list(wish.wanted)
        if wish.kernels:
            known = query.ask("names", ())["kernels"]
            wanted += kernels.packages_of(wish.format, wish.wanted, wish.kernels, known)
        packages = [_package(item) for item in query.ask("closure", wanted)["packages"]]
        keys = {archive.label: _fingerprints(path) for archive, path in query.keyrings}
        return _package_set(wish, architecture, archives, packages, keys)


class _Query:
    """Questions to dnf, each in a folder of its own so that nothing is left from the last one."""

    def __init__(
        self,
        folder: Path,
        wish: PackagesWish,
        architecture: str,
        archives: Sequence[ArchiveMirror],
        report: Report,
    ) -> None:
        self._folder, self._wish, self._architecture = folder, wish, architecture
        self._report = report
        self.keyrings = [
            (archive, copy_keyring(archive, folder / f"key-{archive.label}"))
            for archive in archives
        ]
        self._python = dnf_python()

    def ask(self, name: str, wanted: Sequence[str]) -> Mapping[str, Any]:
        folder = self._folder / name
        folder.mkdir()
        request, answer = folder / "request.json", folder / "answer.json"
        request.write_text(json.dumps(self._request(folder, wanted)))
        # Isolated, or the modules beside the script would stand for those that dnf wants.
        done, lines = programs.spoken(
            [self._python, "-I", "-B", QUERY, request, answer],
            environment=programs.network_environment({}),
            timeout_s=SOLVE_S,
            report=self._report,
            step=STEP,
            what="dnf",
        )
        if done.status or not answer.exists() or answer.stat().st_size > ANSWER_LIMIT:
            raise _unsuited("; ".join(lines[-2:]))
        found: Mapping[str, Any] = json.loads(answer.read_text())
        if "error" in found:
            raise trouble(str(found["error"]), str(found["message"]), self._wish.target)
        return found

    def _request(self, folder: Path, wanted: Sequence[str]) -> dict[str, object]:
        return {
            "folder": str(folder),
            "release": targets.release_version(self._wish.target),
            "architecture": self._architecture,
            "wanted": list(wanted),
            "kernel_pattern": "kernel-devel*",
            "repositories": [
                {
                    "id": archive.label,
                    "address": archive.address,
                    "key": str(path),
                    "signed_index": archive.signed_index,
                }
                for archive, path in self.keyrings
            ],
        }


def dnf_python() -> str:
    """The Python that dnf of this machine runs with, named by its first line."""
    programs.require({"dnf": "dnf", "gpg": "gpg"}, AGAIN)
    with Path(shutil.which("dnf") or "").open("rb") as stream:
        first = stream.readline(256)
    if not first.startswith(b"#!/") or b"python" not in first:
        raise _unsuited("it is no Python program")
    return first[2:].split()[0].decode("utf-8", "replace")


def _unsuited(facts: str) -> Failed:
    return Failed(
        "dnf-unsuited",
        "dnf of this machine cannot be asked through its library (dnf 4)",
        context=facts[:400],
        hint=f"resolve on a machine with dnf 4 (Debian and Ubuntu: apt-get install dnf): {AGAIN}",
        fault=Fault.HOST,
    )


def trouble(kind: str, message: str, target: str) -> AiboxError:
    """What dnf's library complains about, in our words."""
    facts = scrubbed(" ".join(message.split()))[:600]
    if kind == "unknown":
        return BadUsage(
            "package-unknown",
            f"the archives of {target} lack a package that is wanted",
            context=facts,
            hint=f"correct the name or version in the profile, then: {AGAIN}",
            fault=Fault.YOU,
        )
    if kind == "unsatisfiable":
        return Failed(
            "packages-unsatisfiable",
            f"what is wanted cannot be installed together on {target}",
            context=facts,
            hint="take one of them out, or name an archive that has what lacks, in the mirrors "
            f"file, then: {AGAIN}",
            fault=Fault.UPSTREAM,
        )
    return _repository_trouble(facts)


def _repository_trouble(facts: str) -> AiboxError:
    if "GPG" in facts or "signature" in facts.lower():
        return VerificationRefused(
            "archive-signature-refused",
            "an archive's index has no valid signature of the key it must be signed with",
            context=facts,
            hint="correct `keyring` in the mirrors file or name another mirror, then: " + AGAIN,
            fault=Fault.UPSTREAM,
        )
    if "checksum" in facts.lower():
        return VerificationRefused(
            "archive-index-refused",
            "an archive's index is not what its repomd.xml says",
            context=facts,
            hint="the mirror is being updated, or was tampered with: try later, then: " + AGAIN,
            fault=Fault.UPSTREAM,
        )
    return Failed(
        "archive-unreachable",
        "an archive cannot be reached",
        context=facts,
        hint="see network and proxy and the mirror's address, then: " + AGAIN,
        fault=Fault.HOST,
    )


def _package(item: Mapping[str, Any]) -> Package:
    kind, value = item["checksum"]
    if kind != "sha256":
        raise VerificationRefused(
            "package-without-digest",
            "an archive's index has no SHA-256 of a package",
            context=f"{item['name']} {item['version']}: {kind}",
            hint=f"take the package from another archive, then: {AGAIN}",
            fault=Fault.UPSTREAM,
        )
    return Package(
        name=item["name"],
        version=item["version"],
        architecture=item["architecture"],
        archive=item["repository"],
        path=item["path"],
        size=item["size"],
        sha256=value,
        licence=item["licence"] or "unknown",
    )


def _package_set(
    wish: PackagesWish,
    architecture: str,
    archives: Sequence[ArchiveMirror],
    packages: Sequence[Package],
    keys: Mapping[str, tuple[str, ...]],
) -> PackageSet:
    used = [archive for archive in archives if archive.label in {p.archive for p in packages}]
    return PackageSet(
        name=wish.name,
        licence="as each package says",
        redistribution=narrowest({archive.redistribution for archive in used}),
        owner=", ".join(sorted({archive.owner or archive.label for archive in used})),
        source=f"{wish.target}, archives: {', '.join(sorted(archive.label for archive in used))}",
        format=wish.format,
        target=wish.target,
        architecture=architecture,
        wanted=wish.wanted,
        kernels=wish.kernels,
        archives=tuple(
            Archive(label=archive.label, suite=wish.target, signed_by=keys[archive.label])
            for archive in archives
        ),
        packages=tuple(sorted(packages, key=lambda item: (item.name, item.architecture))),
    )


def _fingerprints(keyring: Path) -> tuple[str, ...]:
    """The primary keys in a file, in lower case."""
    done = process.run(
        ["gpg", "--batch", "--with-colons", "--show-keys", keyring],
        environment=process.environment({"GNUPGHOME": str(keyring.parent)}),
        timeout_s=VERIFY_S,
    )
    records = [line.split(":") for line in done.lines]
    prints = [
        after[9].lower()
        for before, after in pairwise(records)
        if before[0] == "pub" and after[0] == "fpr"
    ]
    return tuple(sorted(prints))


def fetch(pins: PackageSet, cache: BlobCache, mirrors: Mirrors, report: Report) -> None:
    """Like `archive_files.fetch`; packages of an archive with unsigned index must be signed.

    Raises `VerificationRefused` (`package-signature-refused`) too.
    """
    archive_files.fetch(pins, cache, mirrors, report)
    archives = mirrors.archives(targets.target(pins.target), pins.architecture)
    for archive in archives:
        packages = [item for item in pins.packages if item.archive == archive.label]
        if packages and not archive.signed_index:
            _check_signatures(archive, packages, cache)


def _check_signatures(
    archive: ArchiveMirror, packages: Sequence[Package], cache: BlobCache
) -> None:
    programs.require({"rpmkeys": "rpm"}, AGAIN)
    with programs.workspace("rpmkeys") as folder:
        keyring = copy_keyring(archive, folder / "key")
        _rpmkeys(folder, "--import", keyring)
        for package in packages:
            path = cache.find(package.sha256, package.size)
            done = _rpmkeys(folder, "--checksig", path) if path else None
            if done is None or done.status:
                raise _unsigned(archive, package, done.lines if done else ())


def _rpmkeys(folder: Path, *words: str | Path) -> process.Completed:
    level = ("--define", "_pkgverify_level all", "--define", "_pkgverify_flags 0x0")
    return process.run(
        ["rpmkeys", "--dbpath", folder / "db", *level, *words],
        environment=process.environment(),
        timeout_s=VERIFY_S,
    )


def _unsigned(
    archive: ArchiveMirror, package: Package, lines: Sequence[str]
) -> VerificationRefused:
    return VerificationRefused(
        "package-signature-refused",
        f"{package.name} {package.version} has no valid signature of the archive's key",
        context="; ".join(lines[-2:])[:400],
        hint=f"correct `keyring` of {archive.label!r} in the mirrors file, then: {AGAIN}",
        fault=Fault.UPSTREAM,
    )
