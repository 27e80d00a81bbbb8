"""The proof that services start from a bundle alone; the program in it is a script of the test."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from aibox import process
from aibox.bundle.build import service_proof
from aibox.bundle.build.assembly import Gathered
from aibox.bundle.manifest import ProgramListing, Proof
from aibox.errors import Failed, Fault
from aibox.pins import Blob
from aibox.profile import Runtime
from aibox.progress import Progress
from contents_examples import release
from examples import lock
from pin_examples import model

MACHINE = os.uname().machine
PYTHON = "3.11"
SCRIPT = """\
#!/bin/sh
printf '%s\\n' "$*" >>"{folder}/words"
env >"{folder}/$1.environment"
cut -s -d : -f 1 /proc/net/dev | tr -d ' ' >"{folder}/$1.interfaces"
ls -A "$HOME" >"{folder}/$1.home"
printf '%s' "$HOME" >"{folder}/home"
echo "$1 says a line"
{more}
exit {status}
"""


def can_be_alone() -> str:
    """Why no network can be taken away here, or nothing."""
    return service_proof.why_not(gathered())


def gathered(**changes: object) -> Gathered:
    """One release of services that are processes, for this machine."""
    listing = ProgramListing(
        format=1, files=(), wheels=(), interpreters={MACHINE: Blob(sha256="a" * 64, size=1)}
    )
    values: dict[str, object] = {
        "lock": lock(),
        "releases": (release(),),
        "architectures": (MACHINE,),
        "pythons": (PYTHON,),
        "version": "1.0",
        "program": {},
        "listing": listing,
        "stated": {},
        "sources": {},
    }
    return Gathered(**values | changes)  # type: ignore[arg-type]


@pytest.fixture
def bundle(place: Path) -> Path:
    folder = place / "bundle 묶음"
    folder.mkdir()
    return folder


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := can_be_alone():
        pytest.skip(
            f"{reason}; run as root, or allow user namespaces: "
            "sysctl kernel.unprivileged_userns_clone=1"
        )


def prove(
    bundle: Path, status: int = 0, told: list[Progress] | None = None, more: str = ""
) -> Proof:
    script = SCRIPT.format(folder=bundle, status=status, more=more)
    (bundle / "aibox").write_text(script, encoding="utf-8")
    said = [] if told is None else told
    return service_proof.prove(gathered(), bundle, said.append)


def words(bundle: Path) -> list[str]:
    return (bundle / "words").read_text().splitlines()


def environment(bundle: Path, command: str = "install") -> dict[str, str]:
    lines = (bundle / f"{command}.environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_services_that_answer_are_proven(alone: None, bundle: Path) -> None:
    told: list[Progress] = []
    proof = prove(bundle, told=told)
    assert proof.proven
    assert proof.reason == ""
    assert proof.what == "local: its services start and answer from the bundle, with no network"
    (install,) = words(bundle)
    assert install.startswith(f"install --profile local --bundle {bundle} --yes --allow-unsigned ")
    assert "install says a line" in [line.message for line in told]


def test_the_release_is_installed_where_only_loopback_is(alone: None, bundle: Path) -> None:
    prove(bundle)
    assert (bundle / "install.interfaces").read_text().split() == ["lo"]


def test_the_box_is_a_folder_of_its_own_that_is_gone_afterwards(alone: None, bundle: Path) -> None:
    prove(bundle)
    own = environment(bundle)
    home = (bundle / "home").read_text()
    assert own["HOME"] == own["XDG_RUNTIME_DIR"] == home
    assert own["AIBOX_HOME"] == f"{home}/box"
    assert (bundle / "install.home").read_text() == ""
    assert not Path(home).exists()


def test_secrets_of_the_builder_reach_nothing_of_the_bundle(
    alone: None, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "PIP_INDEX_URL",
        "HTTPS_PROXY",
        "AIBOX_CACHE",
    ):
        monkeypatch.setenv(name, "hunter2")
    prove(bundle)
    found = environment(bundle)
    assert "hunter2" not in found.values()
    assert set(found) <= {
        *("PATH", "HOME", "TZ", "LANG", "AIBOX_HOME", "XDG_RUNTIME_DIR", "PYTHONPATH"),
        *("PWD", "_", "SHLVL", "OLDPWD"),
    }


@pytest.mark.parametrize("status", [1, 3, 4, 5])
def test_services_that_do_not_start_are_said(alone: None, bundle: Path, status: int) -> None:
    with pytest.raises(Failed) as found:
        prove(bundle, status)
    assert found.value.reference == "release-does-not-start"
    assert "local" in found.value.message
    assert "install says a line" in found.value.context
    assert found.value.fault is Fault.YOU
    assert found.value.hint.endswith("./aibox install --profile local")
    assert not Path((bundle / "home").read_text()).exists()


# A service that goes on when what started it has ended; it holds a lock as long as it lives.
SERVICE = """
exec 9>"{folder}/service"
flock 9
setsid sleep 1000 >/dev/null 2>&1 </dev/null &
{then}
"""


def lives(bundle: Path) -> bool:
    """Whether the service is still there."""
    with (bundle / "service").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("status", [0, 1])
def test_what_was_started_has_ended_when_the_proof_has(
    alone: None, bundle: Path, status: int
) -> None:
    with suppress(Failed):
        prove(bundle, status, more=SERVICE.format(folder=bundle, then=""))
    assert not lives(bundle)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        signal.SIGTERM,
        # Beside other tests Python, forked among threads, may lose each of them: alone it does not.
        pytest.param(signal.SIGINT, marks=pytest.mark.e2e),
    ],
)
def test_what_was_started_ends_with_a_builder_that_is_killed(
    alone: None, bundle: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "KILL_AFTER_S", 0.2)
    started = SERVICE.format(folder=bundle, then=f'touch "{bundle}/ready"; sleep 1000')
    child = os.fork()
    if child == 0:
        try:
            prove(bundle, more=started)
        finally:
            os._exit(1)
    wait_until((bundle / "ready").exists)
    assert lives(bundle)
    end(child, number)
    wait_until(lambda: not lives(bundle))


def end(child: int, number: signal.Signals) -> None:
    """As a person does it: once, and again when nothing happens (Python may lose a Ctrl-C)."""
    for _ in range(4):
        os.kill(child, number)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if os.waitpid(child, os.WNOHANG)[0]:
                return
            time.sleep(0.01)
    raise AssertionError("it does not end")


def wait_until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- the room for it ---------------------------------------------------------------------------


def test_a_room_is_gone_afterwards_whatever_happens(temporary: Path) -> None:
    with pytest.raises(ZeroDivisionError), service_proof.room() as folder:
        (folder / "file").write_text("x")
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


def test_what_a_killed_builder_left_goes_with_the_next_one(temporary: Path) -> None:
    left = temporary / "aibox-proof-left"
    (left / "box").mkdir(parents=True)
    (temporary / "aibox-proof-file").write_text("somebody's file")
    (temporary / "aibox-proof-link").symlink_to("/etc")
    with service_proof.room() as one, service_proof.room() as other:
        assert one.is_dir()
        assert other.is_dir()
        assert not left.exists()
    assert {path.name for path in temporary.iterdir()} == {"aibox-proof-file", "aibox-proof-link"}


@pytest.fixture
def temporary(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = place / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# -- what a builder cannot prove ---------------------------------------------------------------


def reason(made: Gathered, bundle: Path) -> str:
    proof = service_proof.prove(made, bundle, lambda _progress: None)
    assert not proof.proven
    return proof.reason.removeprefix("not proven on this builder: ")


def test_containers_are_not_started(bundle: Path) -> None:
    made = gathered(releases=(release(runtime=Runtime.CONTAINER),))
    assert (
        reason(made, bundle) == "its services run in containers, which the builder does not start"
    )


def test_another_architecture_is_not_started(bundle: Path) -> None:
    told = reason(gathered(architectures=("riscv64",)), bundle)
    assert told == f"it is a {MACHINE}, the bundle is for riscv64"


def test_weights_that_the_operator_brings_are_not_here(bundle: Path) -> None:
    pin = model("secret")
    made = gathered(
        releases=(release(models=(pin,)),),
        brought=frozenset(file.sha256 for file in pin.files if file.sha256),
    )
    assert reason(made, bundle) == "its operator brings secret"


def test_a_builder_without_unshare_says_so(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bundle))
    assert reason(gathered(), bundle) == "unshare is missing"


def test_a_builder_that_may_not_take_the_network_away_says_why(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = bundle / "tools"
    tools.mkdir()
    (tools / "unshare").write_text("#!/bin/sh\necho unshare failed: not permitted >&2\nexit 1\n")
    (tools / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    assert reason(gathered(), bundle) == (
        "the network cannot be taken away: unshare failed: not permitted"
    )


@pytest.mark.parametrize("versions", [("3.98",), ("3.98", "3.99")])
def test_a_builder_without_an_interpreter_for_the_bundle_says_so(
    bundle: Path, versions: tuple[str, ...]
) -> None:
    bare = ProgramListing(format=1, files=(), wheels=())
    told = reason(gathered(pythons=versions, listing=bare), bundle)
    assert told == f"it has no Python {' or '.join(versions)}, nor has the bundle"


def test_a_builder_with_the_right_interpreter_needs_none_of_the_bundle(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    (place / "python3.99").symlink_to(shutil.which("true") or "/bin/true")
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    made = gathered(pythons=("3.99",), listing=ProgramListing(format=1, files=(), wheels=()))
    assert "no Python" not in service_proof.why_not(made)
