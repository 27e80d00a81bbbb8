"""RHEL and its relatives: dnf that knows one signed folder and no other source.

The packages themselves are not checked for their makers' signatures: the index is signed by the
key of the bundle and names every package by its SHA-256.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

from ansible.module_utils.offline_manager import (  # type: ignore[import-not-found]
    Steps,
    name_of,
)
from ansible.module_utils.offline_refusal import (  # type: ignore[import-not-found]
    Refused,
    run,
)

CONFIGURATION = """\
[main]
reposdir={work}/repos
cachedir={work}/cache
gpgcheck=0
best=1
assumeyes=1
install_weak_deps=0
clean_requirements_on_remove=0
metadata_expire=0
skip_if_unavailable=0
"""
REPOSITORY = """\
[aibox]
name=aibox
baseurl=file://{folder}
enabled=1
repo_gpgcheck=1
gpgkey=file://{key}
module_hotfixes=1
"""
INDEX = "repodata/repomd.xml"
_QUERY = "%{NAME}\t%{VERSION}-%{RELEASE}\n"


def files(work: Path, source: Path, key: bytes) -> dict[str, bytes]:
    """The files of a repository's work folder, by their path below it."""
    written = REPOSITORY.format(folder=quote(str(source)), key=work / "key.asc")
    return {
        "dnf.conf": configuration(work).encode(),
        "key.asc": key,
        "repos/aibox.repo": written.encode(),
    }


def configuration(work: Path) -> str:
    """dnf's settings, in the place of those of the host."""
    return CONFIGURATION.format(work=work)


class Dnf:
    """dnf and rpm, given the work folder of a repository; the same methods as `Apt`."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._dnf = ("dnf", "--config", str(work / "dnf.conf"))

    def refresh(self) -> None:
        """Read the index anew; `Refused` unless its signature and every digest are right."""
        shutil.rmtree(self.work / "cache", ignore_errors=True)
        done = run([*self._dnf, "makecache"])
        if done.status:
            raise Refused(
                "the package repository is damaged, or not signed by the key of this bundle",
                cause=done.complaint,
                fix="check the bundle and install from it again: aibox bundle verify BUNDLE",
            )

    def installed(self) -> dict[str, str]:
        """Names and versions of what is installed."""
        lines = run(["rpm", "--query", "--all", "--queryformat", _QUERY]).lines
        return dict(line.split("\t") for line in lines if line.count("\t") == 1)

    def interrupted(self) -> list[str]:
        """rpm finishes or leaves a package; it has no unconfigured ones."""
        return []

    def wanting(self, wanted: Sequence[str], ours: Collection[str]) -> list[str]:
        """What to ask dnf for: what is not installed, and what we brought and may be renewed."""
        have = self.installed()
        asked = [item for item in wanted if name_of(item) not in have]
        renewed = [item for item in wanted if name_of(item) in ours and name_of(item) in have]
        return asked + [item for item in renewed if self._is_older(item, have)]

    def plan(self, asked: Sequence[str]) -> Steps:
        """What an installation may bring: all of the repository that the host lacks.

        dnf has no list of a transaction for programs; which of these came is seen afterwards.
        """
        if not asked:
            return Steps()
        have, offered = self.installed(), self._offered()
        missing = sorted({name_of(item) for item in asked} - have.keys() - offered.keys())
        if missing:
            raise Refused(
                "the repository does not have these packages",
                cause=", ".join(missing),
                fix=f"see what it has: {' '.join(self._dnf)} repoquery",
            )
        changed = tuple(name_of(item) for item in asked if name_of(item) in have)
        return Steps(new=tuple(sorted(offered.keys() - have.keys())), changed=changed)

    def install(self, asked: Sequence[str], *, change_held: bool) -> None:
        """Install; nothing is ever removed for it (`--allowerasing` is not given)."""
        options = ("--disableplugin=versionlock",) if change_held else ()
        done = run([*self._dnf, *options, "install", *map(_as_dnf_says, asked)])
        if done.status:
            raise Refused(
                "these packages cannot be installed from the repository of the bundle",
                cause=done.complaint,
                fix=f"see what is in the way: {' '.join(self._dnf)} install {' '.join(asked)}",
            )

    def repair(self) -> None:
        """Nothing: rpm has no unconfigured packages."""

    def plan_removal(self, names: Sequence[str]) -> Steps:
        """What would go with these packages, by rpm's own test of dependencies."""
        lines = run(["rpm", "--erase", "--test", *names]).lines
        needing = (re.search(r"is needed by \(installed\) (\S+)", line) for line in lines)
        full = {match[1] for match in needing if match is not None}
        have = self.installed()
        return Steps(removed=tuple(name for name in have if _is_one_of(name, have[name], full)))

    def remove(self, names: Sequence[str]) -> None:
        """Take the packages away."""
        done = run([*self._dnf, "--disableplugin=versionlock", "remove", *names])
        if done.status:
            raise Refused(
                "the packages could not be removed",
                cause=done.complaint,
                fix="look at the host's packages: dnf check",
            )

    def held(self) -> set[str]:
        """Packages that stay at their version, as far as versionlock knows them."""
        lines = run([*self._dnf, "--quiet", "versionlock", "list"]).lines
        have = self.installed()
        return {name for name in have if any(f"{name}-" in line for line in lines)}

    def hold(self, names: Collection[str]) -> None:
        """Keep packages at their version; wants the plugin versionlock."""
        self._lock("add", names)

    def release(self, names: Collection[str]) -> None:
        """Let packages change their version again."""
        self._lock("delete", names)

    def holder(self) -> str:
        """dnf waits for other programs by itself."""
        return ""

    def _lock(self, verb: str, names: Collection[str]) -> None:
        if not names:
            return
        done = run([*self._dnf, "versionlock", verb, *sorted(names)])
        if done.status:
            raise Refused(
                f"dnf versionlock {verb} failed",
                cause=done.complaint,
                fix="carry its plugin in the bundle: dnf install python3-dnf-plugin-versionlock",
            )

    def _offered(self) -> dict[str, str]:
        shown = "%{name}\t%{version}-%{release}"
        lines = run([*self._dnf, "--quiet", "repoquery", "--queryformat", shown]).lines
        return dict(line.split("\t") for line in lines if line.count("\t") == 1)

    def _is_older(self, item: str, have: dict[str, str]) -> bool:
        return self._offered().get(name_of(item), have[name_of(item)]) != have[name_of(item)]


def _as_dnf_says(wanted: str) -> str:
    return wanted.replace("=", "-", 1)


def _is_one_of(name: str, version: str, full: Collection[str]) -> bool:
    return any(item.startswith(f"{name}-{version}") for item in full)
