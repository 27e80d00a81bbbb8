"""The proof that a release runs from its bundle alone: installed, asked, removed, with no network.

The box is a folder of its own, its home is empty, and it lives in a network namespace that holds
nothing but loopback. Its gate asks the golden questions, so what is proven is an answer.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
_MODULE = "aibox.bundle.build.without_network"


def prove(gathered: Gathered, bundle: Path, report: Report) -> Proof:
    """Install the unsigned `bundle` of the one release, stop it, and remove its folder.

    A builder that cannot do that says so in the proof. Raises `Failed` (`release-does-not-start`)
    when the release does not come up or does not answer: such a bundle is not made.
    """
    (release,) = gathered.releases
    what = f"{release.profile}: its services start and answer from the bundle, with no network"
    if reason := why_not(gathered):
        return Proof(what=what, proven=False, reason=f"not proven on this builder: {reason}")
    report(Progress(STEP, f"{release.profile}: installing it here, with no network"))
    with _box() as (home, box):
        surroundings = _surroundings(home, box)
        install = ["install", "--profile", release.profile, "--bundle", str(bundle), "--yes",
                   "--allow-unsigned", "--port", str(_free_port())]  # fmt: skip
        try:
            ended = _run(bundle, install, surroundings, report, alone=True)
        finally:
            _run(bundle, ["stop"], surroundings, report, alone=False)
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
    """The words that start a command without a network; an ordinary user maps himself to root."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--net", *as_root, "--", sys.executable, "-P", "-m", _MODULE]


def _run(
    bundle: Path,
    words: Sequence[str],
    surroundings: dict[str, str],
    report: Report,
    *,
    alone: bool,
) -> Completed:
    return process.run(
        [*(_alone() if alone else ()), "sh", bundle / "aibox", *words],
        environment=surroundings,
        timeout_s=_INSTALL_S,
        on_line=lambda line: report(Progress(STEP, line)),
    )


@contextmanager
def _box() -> Iterator[tuple[Path, Path]]:
    """An empty home with a box root in it; short, because sockets have short paths."""
    home = Path(tempfile.mkdtemp(prefix="aibox-proof-"))
    try:
        yield home, home / "box"
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _surroundings(home: Path, box: Path) -> dict[str, str]:
    own = {"HOME": str(home), "AIBOX_HOME": str(box), "XDG_RUNTIME_DIR": str(home)}
    return _python_path(process.environment(own))


def _python_path(environment: dict[str, str]) -> dict[str, str]:
    """The builder's own code is found; the box's interpreter is started apart from it."""
    return environment | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _does_not_start(release: Release, ended: Completed) -> Failed:
    return Failed(
        "release-does-not-start",
        f"the release of {release.profile} does not run from its bundle alone; nothing was made",
        context="; ".join(ended.lines[-6:]),
        hint="see what is wrong with the release itself: "
        f"./aibox install --profile {release.profile}",
        fault=Fault.YOU,
    )
