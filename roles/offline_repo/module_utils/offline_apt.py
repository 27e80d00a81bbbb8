"""Debian and Ubuntu: apt that knows one signed folder and no other source."""

from __future__ import annotations

import fcntl
import re
import shutil
import struct
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

from ansible.module_utils.offline_manager import (  # type: ignore[import-not-found]
    Steps,
    name_of,
)
from ansible.module_utils.offline_refusal import (  # type: ignore[import-not-found]
    Ended,
    Refused,
    run,
)

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
LOCK_SECONDS = 60

# `#clear`: hooks of the host that look at the lists of the host, which are not touched.
CONFIGURATION = """\
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{work}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{work}/lists";
Dir::Cache "{work}/cache";
APT::Update::Error-Mode "any";
APT::Default-Release "";
APT::Get::AllowUnauthenticated "false";
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
DPkg::Lock::Timeout "{lock_seconds}";
Dpkg::Use-Pty "false";
Dpkg::Options {{ "--force-confdef"; "--force-confold"; }};
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
// The folder belongs to root alone, and the user of apt's sandbox could not read it.
APT::Sandbox::User "root";
"""
SOURCE = """\
Types: deb
URIs: file:{folder}
Suites: {suite}
Components: {components}
Signed-By: {key}
"""

_STEP = re.compile(
    r"(?P<step>Inst|Remv|Purg) (?P<name>\S+)(?: \[(?P<old>[^\]]+)\])?(?: \((?P<new>\S+))?"
)
_INSTALLED = frozenset("itW")
_UNFINISHED = frozenset("HUF")


def files(
    work: Path, source: Path, suite: str, components: Sequence[str], key: bytes
) -> dict[str, bytes]:
    """The files of a repository's work folder, by their path below it."""
    written = SOURCE.format(
        folder=quote(str(source)),
        suite=suite,
        components=" ".join(components),
        key=work / "key.gpg",
    )
    return {
        "apt.conf": configuration(work).encode(),
        "key.gpg": key,
        "sources/aibox.sources": written.encode(),
    }


def configuration(work: Path) -> str:
    """apt's settings: read after those of the host, so that these hold."""
    return CONFIGURATION.format(work=work, lock_seconds=LOCK_SECONDS)


def index_of(source: Path, suite: str) -> Path:
    """The file without which a folder is no apt repository of that suite."""
    return source / "dists" / suite / "InRelease"


def steps(lines: Sequence[str]) -> Steps:
    """What `apt-get --simulate` says it would do."""
    found = [match for match in map(_STEP.match, lines) if match is not None]
    installs = [match for match in found if match["step"] == "Inst"]
    return Steps(
        new=tuple(match["name"] for match in installs if match["old"] is None),
        changed=tuple(match["name"] for match in installs if match["old"] is not None),
        removed=tuple(match["name"] for match in found if match["step"] != "Inst"),
    )


class Apt:
    """apt-get and dpkg, given the work folder of a repository (or an empty one, to remove)."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._apt = ("apt-get", "-c", str(work / "apt.conf"))

    def refresh(self) -> None:
        """Read the index anew; `Refused` unless its signature and every digest are right.

        The lists are thrown away first: apt would not look again at an index whose signature it
        has seen, and some of its lists are links to the files of the repository itself.
        """
        shutil.rmtree(self.work / "lists", ignore_errors=True)
        for folder in ("lists/partial", "cache/archives/partial"):
            (self.work / folder).mkdir(parents=True, exist_ok=True)
        done = run([*self._apt, "update"])
        if done.status:
            raise Refused(
                "the package repository is damaged, or not signed by the key of this bundle",
                cause=done.complaint,
                fix="check the bundle and install from it again: aibox bundle verify BUNDLE",
            )

    def installed(self) -> dict[str, str]:
        """Names and versions of what is installed; of a foreign architecture as `name:arch`."""
        return {name: version for name, state, version in self._known() if state in _INSTALLED}

    def interrupted(self) -> list[str]:
        """Packages that are unpacked and not configured."""
        return [name for name, state, _ in self._known() if state in _UNFINISHED]

    def wanting(self, wanted: Sequence[str], ours: Collection[str]) -> list[str]:
        """What to ask apt for: what is not installed, and what we brought and may be renewed.

        What the host had before is left in the version that its owner chose.
        """
        have = self.installed()
        return [item for item in wanted if name_of(item) not in have or name_of(item) in ours]

    def plan(self, asked: Sequence[str]) -> Steps:
        """What an installation would do; `Refused` when it cannot be done."""
        if not asked:
            return Steps()
        options = ("--simulate", "--allow-change-held-packages", "--fix-broken")
        done = run([*self._apt, *options, "install", *asked])
        if done.status:
            raise self._impossible(asked, done)
        return steps(done.lines)

    def install(self, asked: Sequence[str], *, change_held: bool) -> None:
        """Install; nothing is ever removed for it."""
        options = ("--allow-change-held-packages",) if change_held else ()
        done = run([*self._apt, "--no-remove", "--fix-broken", *options, "install", *asked])
        if done.status:
            raise self._impossible(asked, done)

    def repair(self) -> None:
        """Go on where an installation of ours was cut off."""
        run(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"])

    def plan_removal(self, names: Sequence[str]) -> Steps:
        """What would go with these packages."""
        return steps(run([*self._apt, "--simulate", *_GOES, "purge", *names]).lines)

    def remove(self, names: Sequence[str]) -> None:
        """Take the packages and their settings away."""
        done = run([*self._apt, *_GOES, "purge", *names])
        if done.status:
            raise Refused(
                "the packages could not be removed",
                cause=done.complaint,
                fix="repair the host's packages and try again: dpkg --configure -a",
            )

    def held(self) -> set[str]:
        """Packages that stay at their version."""
        return set(run(["apt-mark", "showhold"]).lines)

    def hold(self, names: Collection[str]) -> None:
        """Keep packages at their version."""
        self._mark("hold", names)

    def release(self, names: Collection[str]) -> None:
        """Let packages change their version again."""
        self._mark("unhold", names)

    def holder(self) -> str:
        """Which program works with the packages of this host now, or nothing."""
        return next(filter(None, map(lock_holder, LOCKS)), "")

    def _mark(self, mark: str, names: Collection[str]) -> None:
        if not names:
            return
        done = run(["apt-mark", mark, *sorted(names)])
        if done.status:
            raise Refused(
                f"apt-mark {mark} failed", cause=done.complaint, fix="look: apt-mark showhold"
            )

    def _known(self) -> list[tuple[str, str, str]]:
        shown = "${Package}\t${Architecture}\t${db:Status-Abbrev}\t${Version}\n"
        lines = run(["dpkg-query", "--show", f"--showformat={shown}"]).lines
        native = "".join(run(["dpkg", "--print-architecture"]).lines)
        rows = [line.split("\t") for line in lines if line.count("\t") == 3]
        return [
            (name if arch in ("all", native) else f"{name}:{arch}", state[1:2], version)
            for name, arch, state, version in rows
        ]

    def _impossible(self, asked: Sequence[str], done: Ended) -> Refused:
        said = "\n".join(done.lines)
        command = f"{' '.join(self._apt)} --simulate install {' '.join(asked)}"
        if "Hash Sum mismatch" in said or "unexpected size" in said or "Failed to fetch" in said:
            return Refused(
                "a package of the repository is damaged or missing",
                cause=done.complaint,
                fix="check the bundle and install from it again: aibox bundle verify BUNDLE",
            )
        if "dpkg was interrupted" in said:
            return Refused(
                "an installation of packages was interrupted on this host before",
                cause=done.complaint,
                fix="finish it, then try again: dpkg --configure -a",
            )
        cause = " | ".join(part.strip() for part in (*_unmet(done.lines), done.complaint))
        return Refused(
            "these packages cannot be installed beside what the host has",
            cause=cause,
            fix=f"see what is in the way: {command}",
        )


_GOES = ("-o", "APT::Get::Remove=true", "--allow-change-held-packages")


def _unmet(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if re.match(r" +\S+ ?: (Depends|Conflicts|Breaks)", line)][:4]


def lock_holder(path: str) -> str:
    """The program that holds a lock of dpkg, as `name (process id)`, or nothing.

    Nothing, too, for a user who may not look (in check mode): whoever installs is root.
    """
    try:
        with Path(path).open("rb+") as lock:
            asked = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)
            answer = fcntl.fcntl(lock, fcntl.F_GETLK, asked)
    except (FileNotFoundError, PermissionError):
        return ""
    kind, _, _, _, process = struct.unpack("hhqqi", answer)
    return "" if kind == fcntl.F_UNLCK else _named(process)


def _named(process: int) -> str:
    try:
        name = Path(f"/proc/{process}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = "a program that is not to be seen from here"
    return f"{name} ({process})"
