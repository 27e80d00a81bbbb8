"""A server whose first process is systemd: a Debian 13 container one can reboot and unplug.

Docker is started when it does not run, and only then stopped again. The image is made from the
packages of the mirror that apt uses on this machine, and kept for the next run; to free its room:
docker rmi $(docker images --quiet aibox-test-host)

A server that is to run containers itself is one `with_packages(DOCKER)`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .journey import Done, listen, wait_until

RELEASE = "trixie"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd"),
    *("python3", "python3-venv", "ca-certificates", "sudo"),
)
DOCKER = ("docker.io", "docker-cli", "docker-compose", "iptables", "busybox-static")
USER = "ann"
BOOTED = ("running", "degraded")
LOCKS = Path("/run/lock")
DAEMON_SECONDS = 60
BOOT_SECONDS = 60
# systemd in a container: every right but one, its own tmpfs, the cgroups, its own signal to halt.
SERVER = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--stop-signal", "SIGRTMIN+3"),
)


def why_not() -> str:
    """Why there can be no such server on this machine and what to do about it, or nothing."""
    if os.geteuid() != 0:
        return "starting a server in a container wants root: run ./test e2e as root"
    needed = {"docker": "docker.io", "dockerd": "docker.io", "debootstrap": "debootstrap"}
    lacking = sorted({needed[name] for name in needed if shutil.which(name) is None})
    if lacking:
        return f"there is no server with systemd: apt-get install {' '.join(lacking)}"
    if not mirror():
        return "apt of this machine names no Debian mirror: run on Debian, after apt-get update"
    return ""


@functools.cache
def mirror() -> str:
    """The address from which apt of this machine has Debian's packages, or nothing."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    wanted = ["Identifier: Packages", "Origin: Debian", "Label: Debian"]
    done = subprocess.run([*asked, *wanted], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[None]:
    """Docker that answers, for the length of the block; `folder` keeps what it says.

    Several test processes may want it at once: the first one starts it, the last one ends it.
    """
    with (LOCKS / "aibox-test-docker-users").open("a+") as users:
        with locked("docker-turn"):
            fcntl.flock(users, fcntl.LOCK_SH)
            started = 0 if _docker_answers() else _start_docker(folder / "dockerd.log")
            if started:
                users.truncate(0)
                users.write(f"{started}")
                users.flush()
        try:
            yield
        finally:
            with locked("docker-turn"):
                _leave_docker(users)


def _start_docker(log: Path) -> int:
    """Its process, once it answers."""
    with log.open("wb") as said:
        process = subprocess.Popen(["dockerd"], stdout=said, stderr=said, start_new_session=True)
    wait_until(
        lambda: _docker_answers() or process.poll() is not None,
        DAEMON_SECONDS,
        "an answer from dockerd",
    )
    assert process.poll() is None, f"dockerd ended:\n{log.read_text()[-2000:]}"
    return process.pid


def _leave_docker(users: TextIO) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    users.seek(0)
    if started := users.read():
        users.truncate(0)
        os.kill(int(started), signal.SIGTERM)
        wait_until(lambda: _has_ended(int(started)), DAEMON_SECONDS, "the end of dockerd")


def _has_ended(process: int) -> bool:
    """Whether it is gone, or waits for its parent alone."""
    try:
        return not Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Alone among the test processes of this machine, for the length of the block."""
    with (LOCKS / f"aibox-test-{name}").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def making(image: str) -> Iterator[bool]:
    """Whether Docker lacks this image; who is told so makes it, and all others wait for that."""
    with locked(image):
        yield not docker("images", "--quiet", image).out


def image(folder: Path, release: str = RELEASE) -> str:
    """The name of the image, made if there is none of the same release and packages."""
    recipe = hashlib.sha256(repr((release, PACKAGES)).encode()).hexdigest()
    name = f"aibox-test-host:{recipe[:12]}"
    with making(name) as missing:
        if missing:
            _bootstrap(name, release, folder)
    return name


def _bootstrap(name: str, release: str, folder: Path) -> None:
    with in_memory(folder / "server") as root:
        checked(
            "debootstrap",
            *("--variant=minbase", f"--include={','.join(PACKAGES)}"),
            *(release, str(root), mirror()),
        )
        packed = folder / "server.tar"
        checked("tar", "--directory", str(root), "--create", "--file", str(packed), ".")
    docker("import", str(packed), name)
    packed.unlink()


def with_packages(packages: tuple[str, ...], folder: Path) -> str:
    """The name of an image that also has these packages; made once, with what apt finds."""
    base = image(folder)
    recipe = hashlib.sha256(repr((base, packages)).encode()).hexdigest()
    name = f"aibox-test-host:{recipe[:12]}"
    with making(name) as missing:
        if missing:
            _add_packages(base, packages, name)
    return name


def _add_packages(base: str, packages: tuple[str, ...], name: str) -> None:
    maker = f"aibox-test-{uuid.uuid4().hex[:8]}"
    install = f"apt-get install --yes --no-install-recommends {shlex.join(packages)}"
    script = f"apt-get update && {install} && apt-get clean"
    quiet = ("--env", "DEBIAN_FRONTEND=noninteractive")
    try:
        docker("run", "--name", maker, *quiet, base, "sh", "-c", script)
        docker("commit", maker, name)
    finally:
        subprocess.run(["docker", "rm", "--force", maker], capture_output=True)


@dataclass(frozen=True)
class Server:
    """A machine with one ordinary user; `id` is the container's."""

    id: str

    def root(self, *words: str) -> str:
        """What a command of root says; it must succeed."""
        return docker("exec", self.id, *words).out

    def logs_in(self, folder: str, *words: str) -> Done:
        """Run a command of the user in a log-in session, as ssh gives one."""
        typed = f"cd {shlex.quote(folder)} && exec {shlex.join(words)}"
        settings = _pip_settings()
        given = [word for name in settings for word in ("--env", name)]
        kept = ["--whitelist-environment", ",".join(settings)] if settings else []
        login = ["runuser", "--login", USER, *kept, "--command", typed]
        return _listened("docker", "exec", *given, self.id, *login)

    def without_session(self, folder: str, *words: str) -> Done:
        """Run a command of the user with nothing but HOME, as sudo and cron do."""
        return _listened("docker", "exec", "--user", USER, "--workdir", folder, self.id, *words)

    def receives(self, source: Path, target: str) -> None:
        """Copy a folder to the user."""
        docker("cp", str(source), f"{self.id}:{target}")
        self.root("chown", "--recursive", f"{USER}:", target)

    def is_unplugged(self) -> None:
        """Take every network away but loopback, now and after every boot."""
        docker("network", "disconnect", "bridge", self.id)
        assert len(self.root("cat", "/proc/net/route").splitlines()) == 1

    def reboots(self) -> None:
        """Shut everything down in order, and boot."""
        docker("restart", "-t", "120", self.id)
        self.has_booted()

    def loses_power(self) -> None:
        """End every process at once, and boot."""
        docker("kill", self.id)
        docker("start", self.id)
        self.has_booted()

    def has_booted(self) -> None:
        """Wait for the end of the boot."""
        state = ("docker", "exec", self.id, "systemctl", "is-system-running")
        wait_until(lambda: _listened(*state).out.strip() in BOOTED, BOOT_SECONDS, "a boot")


@contextlib.contextmanager
def server(
    folder: Path,
    *,
    packages: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    release: str = RELEASE,
) -> Iterator[Server]:
    """A booted server with network and its user, for the length of the block.

    `options` are more of `docker run`; `packages` are added to a server of the usual release.
    """
    made_from = with_packages(packages, folder) if packages else image(folder, release)
    # Host files that pip's settings name (certificates of the index) lie at the same place there.
    files = [value for value in _pip_settings().values() if Path(value).is_absolute()]
    shared = [word for path in files for word in ("--volume", f"{path}:{path}:ro")]
    name = f"aibox-test-{uuid.uuid4().hex[:8]}"
    try:
        given = (*SERVER, *shared, *options)
        docker("run", "--detach", "--name", name, *given, made_from, "/sbin/init")
        made = Server(name)
        made.has_booted()
        made.root("useradd", "--create-home", "--shell", "/bin/bash", USER)
        yield made
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True)


def docker(*words: str) -> Done:
    """A command of docker; it must succeed."""
    return checked("docker", *words)


def _docker_answers() -> bool:
    return _listened("docker", "version").code == 0


def _pip_settings() -> dict[str, str]:
    """How pip of this machine reaches the package index; a container reaches it likewise."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


@contextlib.contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """An empty folder in memory: dpkg waits for the disk after every package otherwise."""
    folder.mkdir()
    checked("mount", "-t", "tmpfs", "-o", "size=2g,mode=755", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        checked("umount", str(folder))


def checked(*command: str) -> Done:
    done = _listened(*command)
    assert done.code == 0, f"{command} ended with {done.code}:\n{done.out[-2000:]}\n{done.err}"
    return done


def _listened(*command: str) -> Done:
    return listen(list(command), Path("/"), dict(os.environ))
