"""The proof that a release runs from its bundle alone: installed, asked, removed, with no network.

The box is a folder of its own, its home is empty, and it lives in a network namespace that holds
nothing but loopback. Its gate asks the golden questions, so what is proven is an answer. It lives
in a process namespace, too: what it started ends with the builder, even with one that is killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aibox import process
from aibox.bundle.build.assembly import Gathered
from aibox.bundle.manifest import Proof
from aibox.errors import Failed, Fault
from aibox.process import Completed
from aibox.profile import Runtime
from aibox.progress import Progress, Report
from aibox.release import Release

STEP = "prove"
_INSTALL_S = 1800.0
_PROBE_S = 30.0
_PREFIX = "aibox-proof-"
_PORT = 8700
"""Any will do where nobody else is."""
_MODULE = "aibox.bundle.build.without_network"


def prove(gathered: Gathered, bundle: Path, report: Report) -> Proof:
    """Install the unsigned `bundle` of the one release; its services and its folder are gone then.

    A builder that cannot do that says so in the proof. Raises `Failed` (`release-does-not-start`)
    when the release does not come up or does not answer: such a bundle is not made.
    """
    (release,) = gathered.releases
    what = f"{release.profile}: its services start and answer from the bundle, with no network"
    if reason := why_not(gathered):
        return Proof(what=what, proven=False, reason=f"not proven on this builder: {reason}")
    report(Progress(STEP, f"{release.profile}: installing it here, with no network"))
    install = ("install", "--profile", release.profile, "--bundle", str(bundle), "--yes",
               "--allow-unsigned", "--port", str(_PORT))  # fmt: skip
    with room() as home:
        ended = process.run(
            [*_alone(), "sh", bundle / "aibox", *install],
            environment=_surroundings(home),
            timeout_s=_INSTALL_S,
            on_line=lambda line: report(Progress(STEP, line)),
        )
    if ended.status != 0:
        raise _does_not_start(release, ended)
    return Proof(what=what, proven=True)


def why_not(gathered: Gathered) -> str:
    """Why this machine cannot prove the one release, or nothing."""
    (release,) = gathered.releases
    machine, brought = os.uname().machine, _brought(release, gathered)
    if release.runtime is not Runtime.PROCESS:
        return "its services run in containers, which the builder does not start"
    if brought:
        return f"its operator brings {', '.join(brought)}"
    if machine not in gathered.architectures:
        return f"it is a {machine}, the bundle is for {', '.join(gathered.architectures)}"
    if machine not in gathered.listing.interpreters and not _has_python(gathered.pythons):
        return f"it has no Python {' or '.join(gathered.pythons)}, nor has the bundle"
    if shutil.which("unshare") is None:
        return "unshare is missing"
    probe = process.run(
        [*_alone(), "true"], environment=_python_path(process.environment()), timeout_s=_PROBE_S
    )
    return "" if probe.status == 0 else f"the network cannot be taken away: {probe.text[-200:]}"


def _brought(release: Release, gathered: Gathered) -> list[str]:
    """The models of a release that its operator brings."""
    return [
        model.name
        for model in release.models
        if any(file.sha256 in gathered.brought for file in model.files)
    ]


def _has_python(versions: Sequence[str]) -> bool:
    """Whether the launcher of the bundle finds an interpreter that there are packages for."""
    return any(shutil.which(f"python{version}") for version in versions)


def _alone() -> list[str]:
    """The words that start a command apart; an ordinary user maps himself to root."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    apart = ("--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    return ["unshare", *apart, *as_root, "--", sys.executable, "-P", "-m", _MODULE]


@contextmanager
def room() -> Iterator[Path]:
    """An empty folder; its path is short, because sockets have short paths.

    What a killed builder left behind goes when the next one comes: nobody holds its lock.
    """
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{_PREFIX}*"):
        with suppress(OSError), _held(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    try:
        with _held(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of our own; raises `OSError` when somebody else does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(str(folder))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _surroundings(home: Path) -> dict[str, str]:
    own = {"HOME": str(home), "AIBOX_HOME": str(home / "box"), "XDG_RUNTIME_DIR": str(home)}
    return _python_path(process.environment(own))


def _python_path(environment: dict[str, str]) -> dict[str, str]:
    """The builder's own code is found; the box's interpreter is started apart from it."""
    return environment | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def _does_not_start(release: Release, ended: Completed) -> Failed:
    return Failed(
        "release-does-not-start",
        f"the release of {release.profile} does not run from its bundle alone; nothing was made",
        context="; ".join(ended.lines[-6:]),
        hint="see what is wrong with the release itself: "
        f"./aibox install --profile {release.profile}",
        fault=Fault.YOU,
    )
