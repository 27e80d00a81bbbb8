"""What `apt-get` prints, as values: the files of a closure, and what went wrong in our words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from aibox.digest import is_digest
from aibox.errors import AiboxError, BadUsage, Failed, Fault, VerificationRefused

AGAIN = "./aibox lock"
SHOWN_LINES = 6

_URI = re.compile(
    r"'(?P<address>[^']+)' (?P<file>\S+\.deb) (?P<size>[0-9]+) SHA256:(?P<sha256>[0-9a-f]{64})"
)
_SECRET = re.compile(r"(?<=://)[^/@\s]+@")
_UNKNOWN = re.compile(
    r"E: (?:Unable to locate package (?P<name>\S+)"
    r"|Package '?(?P<without>[^' ]+)'? has no installation candidate"
    r"|Version '(?P<version>[^']+)' for '(?P<of>[^']+)' was not found"
    r"|Couldn't find any package by (?:glob|regex) '(?P<pattern>[^']+)')"
)


@dataclass(frozen=True)
class Listed:
    """A package file of a closure as the signed index names it; size in bytes."""

    name: str
    version: str
    architecture: str
    address: str
    size: int
    sha256: str


def listed(lines: Iterable[str]) -> tuple[Listed, ...]:
    """The files that `apt-get install --print-uris` names, in its order.

    Raises `VerificationRefused` (`package-without-digest`) for one whose index has no SHA-256.
    """
    found = []
    for line in lines:
        if not line.startswith("'"):
            continue
        match = _URI.fullmatch(line.strip())
        if match is None or not is_digest(match["sha256"]):
            raise VerificationRefused(
                "package-without-digest",
                "an archive's index has no SHA-256 of a package",
                context=scrubbed(line),
                hint=f"take the package from another archive, then: {AGAIN}",
                fault=Fault.UPSTREAM,
            )
        found.append(_listed(match))
    return tuple(found)


def _listed(match: re.Match[str]) -> Listed:
    # apt names files by <package>_<version>_<architecture>.deb, a colon in the version as %3a.
    name, version, architecture = match["file"].removesuffix(".deb").rsplit("_", 2)
    return Listed(
        name, unquote(version), architecture, match["address"], int(match["size"]), match["sha256"]
    )


def path_below(address: str, base: str) -> str | None:
    """The decoded path of a file in the archive at `base`, or None when it lies elsewhere."""
    prefix = _plain(base) + "/"
    found = _plain(address)
    return (
        unquote(found.removeprefix(prefix)).removeprefix("./") if found.startswith(prefix) else None
    )


def _plain(address: str) -> str:
    """One spelling: `file:/x` and `file:///x` are the same; apt prints no credentials."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def scrubbed(text: str) -> str:
    """Without user and password of addresses."""
    return _SECRET.sub("", text)


# What apt says -> reference, meaning, hint, whether bytes or signatures are wrong.
_TROUBLES: tuple[tuple[str, str, str, str, bool], ...] = (
    (
        r"Hash Sum mismatch|unexpected size|does not match expected|Hashes of expected file",
        "archive-index-refused",
        "an archive's index is not what its signed Release file says",
        "the mirror is being updated, or was tampered with: try later or another mirror, then: ",
        True,
    ),
    (
        r"is expired|Release file .* expired|not valid yet",
        "archive-expired",
        "an archive's Release file is not valid today: it is out of date, or the clock is wrong",
        "name a mirror that is kept up to date and set the clock, then: ",
        True,
    ),
    (
        r"NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|not signed|signatures? w\S* (?:in|couldn't)|"
        r"Clearsigned file|Sub-process .*sqv|GPG error|OpenPGP signature",
        "archive-signature-refused",
        "an archive's Release file has no valid signature of the keyring it must be signed with",
        "correct `keyring` in the mirrors file or name another mirror, then: ",
        True,
    ),
    (
        r"does not have a Release file",
        "archive-without-release",
        "there is no Release file of the wanted suite at an archive's address",
        "correct address and suites in the mirrors file, then: ",
        False,
    ),
    (
        r"Failed to fetch|Could not (?:resolve|connect)|Unable to fetch|File not found|initiate",
        "archive-unreachable",
        "an archive cannot be reached",
        "see network and proxy (http_proxy, https_proxy) and the mirror's address, then: ",
        False,
    ),
)


def trouble_of_update(lines: Sequence[str]) -> AiboxError:
    """Why `apt-get update` failed."""
    complaints = [line for line in lines if line.startswith(("E:", "W:", "Err:"))] or list(lines)
    text = "\n".join(lines)
    for pattern, reference, message, hint, refused in _TROUBLES:
        if re.search(pattern, text):
            kind = VerificationRefused if refused else Failed
            fault = Fault.UPSTREAM if refused else Fault.HOST
            return kind(
                reference, message, context=_few(complaints), hint=hint + AGAIN, fault=fault
            )
    return Failed(
        "archive-update-failed",
        "apt could not read the archives",
        context=_few(complaints),
        hint=f"correct what apt complains about, then: {AGAIN}",
        fault=Fault.UPSTREAM,
    )


def trouble_of_closure(lines: Sequence[str], target: str) -> AiboxError:
    """Why `apt-get install --print-uris` failed."""
    unknown = [match for line in lines if (match := _UNKNOWN.match(line))]
    if unknown:
        names = sorted({_unknown_name(match) for match in unknown})
        return BadUsage(
            "package-unknown",
            f"the archives of {target} have no package {', '.join(names)}",
            context="components that are not enabled are not searched",
            hint=f"correct the name or version in the profile, then: {AGAIN}",
            fault=Fault.YOU,
        )
    unmet = [line.strip() for line in lines if re.search(r"Depends:|Conflicts:|Breaks:", line)]
    if unmet or any("held broken packages" in line for line in lines):
        return Failed(
            "packages-unsatisfiable",
            f"what is wanted cannot be installed together on {target}",
            context=_few(unmet or lines),
            hint="take one of them out, or name an archive that has what lacks, in the mirrors "
            f"file, then: {AGAIN}",
            fault=Fault.UPSTREAM,
        )
    complaints = [line for line in lines if line.startswith("E:")] or list(lines)
    return Failed(
        "packages-unresolved",
        f"apt could not resolve the packages of {target}",
        context=_few(complaints),
        hint=f"correct what apt complains about, then: {AGAIN}",
        fault=Fault.UPSTREAM,
    )


def _unknown_name(match: re.Match[str]) -> str:
    if match["of"]:
        return f"{match['of']} (version {match['version']})"
    return next(name for name in match.groups() if name)


def _few(lines: Sequence[str]) -> str:
    shown = [scrubbed(line.strip()) for line in lines[:SHOWN_LINES]]
    return "; ".join(shown) + ("; …" if len(lines) > SHOWN_LINES else "")
