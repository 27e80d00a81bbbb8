"""The real apt in a tree of its own: nothing of this machine's packages or sources gets in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aibox import process
from aibox.bundle.build import programs
from aibox.bundle.packages import apt_output
from aibox.bundle.packages.apt_output import AGAIN, Listed
from aibox.bundle.packages.mirrors import ArchiveMirror
from aibox.errors import Failed, Fault
from aibox.progress import Progress, Report

STEP = "packages"
UPDATE_S, SOLVE_S, VERIFY_S = 1800.0, 600.0, 60.0
KEYRING_LIMIT = 16 << 20

_ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_INDEX = "$(REPO_URI)|$(RELEASE)|$(METAKEY)|$(FILENAME)"


@dataclass(frozen=True)
class Signed:
    """A suite of an archive and the fingerprints of the keys that signed its Release file."""

    label: str
    suite: str
    components: tuple[str, ...]
    signed_by: tuple[str, ...]


def configuration(folder: Path, architecture: str, certificates: str = "") -> str:
    """apt.conf for a tree below `folder`; the state is that of an empty system."""
    settings = {
        "Dir": folder,
        "Dir::Etc": folder / "etc",
        "Dir::Etc::sourcelist": folder / "etc" / "archives.sources",
        "Dir::Etc::trusted": folder / "etc" / "none",
        "Dir::Etc::trustedparts": folder / "etc" / "empty",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Log": folder / "log",
        "APT::Architecture": architecture,
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::ForceHash": "SHA256",
        "Acquire::Retries": "3",
        "Acquire::http::Timeout": "60",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
    }
    if certificates:
        settings["Acquire::https::CaInfo"] = certificates
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    return "\n".join([*lines, f'APT::Architectures {{ "{architecture}"; }};', ""])


def sources(archives: Sequence[ArchiveMirror], keyrings: Sequence[Path]) -> str:
    """The archives as deb822 sources, each signed by its own keyring."""
    return "\n".join(
        f"Types: deb\nURIs: {archive.address}\nSuites: {' '.join(archive.suites)}\n"
        + (f"Components: {' '.join(archive.components)}\n" if archive.components else "")
        + f"Signed-By: {keyring}\n"
        for archive, keyring in zip(archives, keyrings, strict=True)
    )


class PrivateApt:
    """apt for one architecture and some archives; everything it writes lies below `folder`."""

    def __init__(
        self, folder: Path, architecture: str, archives: Sequence[ArchiveMirror], report: Report
    ) -> None:
        programs.require({"apt-get": "apt", "gpgv": "gpgv", "gpg": "gpg"}, AGAIN)
        self._folder, self._archives, self._report = folder, tuple(archives), report
        for name in (
            "etc/empty",
            "etc/apt.conf.d",
            "etc/preferences.d",
            "state/lists/partial",
            "cache/archives/partial",
            "log",
        ):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        self._keyrings = [
            copy_keyring(archive, folder / "etc" / str(number))
            for number, archive in enumerate(self._archives)
        ]
        (folder / "etc" / "archives.sources").write_text(sources(archives, self._keyrings))
        certificates = os.environ.get(programs.CERTIFICATES, "")
        (folder / "apt.conf").write_text(configuration(folder, architecture, certificates))
        self._environment = programs.network_environment({"APT_CONFIG": str(folder / "apt.conf")})

    def update(self) -> None:
        """Fetch the indexes; apt checks their signatures, dates and digests."""
        labels = ", ".join(archive.label for archive in self._archives)
        self._report(Progress(STEP, f"reading the archives {labels}"))
        status, lines = self._apt("apt-get", "update", timeout_s=UPDATE_S)
        if status:
            raise apt_output.trouble_of_update(lines)

    def names(self, prefix: str) -> tuple[str, ...]:
        """Every package of the archives whose name begins so."""
        _, lines = self._apt("apt-cache", "pkgnames", prefix, timeout_s=SOLVE_S)
        return tuple(line for line in lines if line.startswith(prefix))

    def closure(self, wanted: Sequence[str], target: str) -> tuple[Listed, ...]:
        """All files that an empty system needs for `wanted` (names, name=version, patterns)."""
        options = ("--yes", "--no-install-recommends", "--print-uris", "--no-remove")
        status, lines = self._apt("apt-get", *options, "install", "--", *wanted, timeout_s=SOLVE_S)
        if status:
            raise apt_output.trouble_of_closure(lines, target)
        return apt_output.listed(lines)

    def archive_of(self, file: Listed) -> tuple[ArchiveMirror, str]:
        """The archive that a file comes from, and the file's path in it."""
        for archive in sorted(self._archives, key=lambda item: -len(item.address)):
            path = apt_output.path_below(file.address, archive.address)
            if path is not None:
                return archive, path
        raise AssertionError(f"{file.name} comes from no archive that was given to apt")

    def signed(self) -> tuple[Signed, ...]:
        """Who signed what was read; apt has refused whatever is not signed by its keyring."""
        found: dict[tuple[int, str], Signed] = {}
        options = ("indextargets", "--format", _INDEX, "Created-By: Packages")
        _, lines = self._apt("apt-get", *options, timeout_s=SOLVE_S)
        for line in lines:
            if line.count("|") != 3:  # a warning
                continue
            address, suite, key, file = line.split("|")
            number = self._number(address)
            if (number, suite) not in found:
                release = Path(file.removesuffix(key.replace("/", "_")) + "InRelease")
                archive = self._archives[number]
                keys = self._fingerprints(release, self._keyrings[number])
                found[number, suite] = Signed(archive.label, suite, archive.components, keys)
        return tuple(found.values())

    def _number(self, address: str) -> int:
        for number, archive in enumerate(self._archives):
            if apt_output.path_below(f"{address.rstrip('/')}/x", archive.address) == "x":
                return number
        raise AssertionError("apt read an archive that was not given to it")

    def _fingerprints(self, release: Path, keyring: Path) -> tuple[str, ...]:
        files = [release]
        if not release.exists():
            plain = release.with_name(release.name.removesuffix("InRelease") + "Release")
            files = [plain.with_name(plain.name + ".gpg"), plain]
        done = process.run(
            ["gpgv", "--status-fd", "1", "--keyring", _binary(keyring), *files],
            environment=process.environment({"GNUPGHOME": str(self._folder)}),
            timeout_s=VERIFY_S,
        )
        return valid_signatures(done.lines)

    def _apt(self, *argv: str, timeout_s: float) -> tuple[int, tuple[str, ...]]:
        done, lines = programs.spoken(
            argv,
            environment=self._environment,
            timeout_s=timeout_s,
            report=self._report,
            step=STEP,
            what=" ".join(argv[:2]),
        )
        return done.status, lines


def valid_signatures(lines: Sequence[str]) -> tuple[str, ...]:
    """Fingerprints of the primary keys whose signatures gpgv found valid, in lower case."""
    words = [line.split() for line in lines if line.startswith("[GNUPG:] VALIDSIG ")]
    return tuple(sorted({found[-1].lower() for found in words}))


def copy_keyring(archive: ArchiveMirror, target: Path) -> Path:
    """An archive's keys beside apt's configuration, with the ending that apt goes by."""
    try:
        with Path(archive.keyring).open("rb") as stream:
            keys = stream.read(KEYRING_LIMIT)
    except OSError as error:
        raise Failed(
            "archive-keyring-missing",
            f"the keys that sign the archive {archive.label!r} cannot be read",
            context=f"{archive.keyring}: {error.strerror}",
            hint="install the distribution's keyring package, or name the file in `keyring` of "
            f"the mirrors file, then: {AGAIN}",
            fault=Fault.HOST,
        ) from error
    copy = target.with_suffix(".asc" if keys.lstrip().startswith(_ARMOUR) else ".gpg")
    copy.write_bytes(keys)
    return copy


def _binary(keyring: Path) -> Path:
    """The keyring without its armour: gpgv reads no other."""
    if keyring.suffix != ".asc":
        return keyring
    binary = keyring.with_suffix(".gpg")
    process.run(
        ["gpg", "--batch", "--yes", "--output", binary, "--dearmor", keyring],
        environment=process.environment({"GNUPGHOME": str(keyring.parent)}),
        timeout_s=VERIFY_S,
    )
    return binary
