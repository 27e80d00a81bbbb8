"""The one way to Docker Engine: its local socket, spoken to through Docker's own library.

The library takes a tenth of a second to import, so it is imported by the first question. What it
raises leaves this module as an `AiboxError` that says whose matter it is. Neither DOCKER_HOST nor
a context is looked at: the box runs on this host or not at all.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aibox.errors import AiboxError, Failed, Fault

SOCKET = Path("/run/docker.sock")
ANSWER_TIMEOUT_S = 60
# The last layer of an image of 20 GB is unpacked without a word, on slow disks for minutes.
LOAD_TIMEOUT_S = 1800
# At most: as long as an engine's container has when its unit stops it.
STOP_TIMEOUT_S = 180
# Docker 23: the first that unpacks zstd layers of an archive.
OLDEST_API = (1, 42)
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
_CONTAINERD = "io.containerd.snapshotter.v1"
_NO_ROOM = "no space left on device"
# On a busy host runc loses its own process now and then ("read init-p: connection reset by peer").
# It says so before the program has begun in the container, so nothing is done twice.
_NOT_BEGUN, _NOT_BEGUN_CODE = "OCI runtime exec failed", 126
_PAUSES_S = (1.0, 4.0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What Docker says of itself. `keeps_manifests`: its image ids are digests of manifests
    (containerd's image store), not of configurations. `root` is its data folder."""

    version: str
    api: tuple[int, int]
    root: Path
    keeps_manifests: bool


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a Compose project. Ids are whole; `image` is the id of its image.

    `state` is Docker's word (created, running, paused, restarting, removing, exited, dead),
    `health` "" without a health check, else starting, healthy, unhealthy. `started` is seconds
    since the epoch, 0.0 if it never was; `error` is why Docker could not start it.
    """

    id: str
    service: str
    labels: dict[str, str]
    image: str
    state: str
    health: str = ""
    pid: int | None = None
    started: float = 0.0
    exit_code: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Tagged:
    """An image by one of its names."""

    tag: str
    id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program that was run in a container ended, and what it said."""

    code: int
    output: str
    error: str


class _Told(OSError):
    """An error in the middle of an answer that had begun well."""


class Engine(Protocol):
    """What the box needs of Docker; every method may raise an `AiboxError`."""

    def facts(self) -> EngineFacts:
        """Version and data folder."""

    def image_id(self, tag: str) -> str | None:
        """The id (`sha256:…`) of the image of that name; None when there is none."""

    def tagged(self, repositories: str) -> tuple[Tagged, ...]:
        """Every name below a pattern such as `aibox/*`."""

    def load(self, archive: Iterable[bytes], on_line: Callable[[str], None]) -> None:
        """Give Docker an image archive; `on_line` hears what it unpacks."""

    def remove_image(self, tag: str) -> None:
        """Take a name away, and the image with its last name; nothing if it is gone."""

    def containers(self, project: str) -> tuple[Container, ...]:
        """All containers of a Compose project, also stopped ones."""

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        """The last lines a container wrote; empty if it is gone."""

    def stop_container(self, container: str) -> None:
        """End its process: TERM, then KILL; nothing if it is gone or stopped."""

    def remove_container(self, container: str) -> None:
        """Remove it even if it runs, with its anonymous volumes; nothing if it is gone."""

    def remove_networks(self, project: str) -> None:
        """Remove the networks of a Compose project that no container uses any more."""


class DockerEngine:
    """Docker Engine behind a Unix socket of this host; implements `Engine`."""

    def __init__(self, socket: Path = SOCKET) -> None:
        self._socket = socket
        self._connected: Any = None

    def facts(self) -> EngineFacts:
        """Raises `Failed` (`docker-too-old`) below Docker 23."""
        version, info = self._ask(lambda api: (api.version(), api.info()))
        major, _, minor = str(version["ApiVersion"]).partition(".")
        facts = EngineFacts(
            version=str(version["Version"]),
            api=(int(major), int(minor)),
            root=Path(info["DockerRootDir"]),
            keeps_manifests=["driver-type", _CONTAINERD] in (info.get("DriverStatus") or []),
        )
        if facts.api < OLDEST_API:
            raise _too_old(facts.version)
        return facts

    def image_id(self, tag: str) -> str | None:
        found = self._ask(lambda api: _unless_gone(lambda: api.inspect_image(tag)))
        return str(found["Id"]) if found else None

    def tagged(self, repositories: str) -> tuple[Tagged, ...]:
        found = self._ask(lambda api: api.images(filters={"reference": repositories}))
        return tuple(
            Tagged(tag, image["Id"]) for image in found for tag in sorted(image["RepoTags"] or ())
        )

    def load(self, archive: Iterable[bytes], on_line: Callable[[str], None]) -> None:
        """Raises whatever `archive` raises; Docker then keeps nothing of it."""
        with self._explaining():
            api = self._connect(LOAD_TIMEOUT_S)
            for told in api.load_image(iter(archive), quiet=False):
                _hear(told, on_line)

    def remove_image(self, tag: str) -> None:
        self._ask(lambda api: _unless_gone(lambda: api.remove_image(tag)))

    def containers(self, project: str) -> tuple[Container, ...]:
        return self._ask(lambda api: tuple(_containers(api, project)))

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        said = self._ask(lambda api: _unless_gone(lambda: api.logs(container, tail=lines)))
        return tuple((said or b"").decode("utf-8", "replace").splitlines())

    def log_since(self, container: str, since: float, most: int) -> str:
        """What a container wrote since then (seconds since the epoch), its first `most` bytes."""
        with self._explaining():
            said = self._connect(ANSWER_TIMEOUT_S).logs(
                container, since=max(since, 1.0), stream=True, follow=False
            )
            kept = bytearray()
            for piece in said:
                kept += piece
                if len(kept) >= most:
                    break
            return bytes(kept[:most]).decode("utf-8", "replace")

    def execute(self, container: str, command: Sequence[str], timeout_s: float) -> Ended:
        """Run a program in a container as the container's own user, and wait for its end.

        One that Docker could not begin is begun again. Raises `Failed` (`docker-no-answer`) when
        it says nothing for `timeout_s`.
        """
        for pause_s in _PAUSES_S:
            ended = self._execute(container, command, timeout_s)
            if ended.code != _NOT_BEGUN_CODE or _NOT_BEGUN not in ended.output + ended.error:
                return ended
            time.sleep(pause_s)
        return self._execute(container, command, timeout_s)

    def _execute(self, container: str, command: Sequence[str], timeout_s: float) -> Ended:
        with self._explaining():
            api = self._connect(int(timeout_s))
            made = api.exec_create(container, list(command))["Id"]
            output, error = api.exec_start(made, demux=True)
            code = api.exec_inspect(made)["ExitCode"]
        said = ((one or b"").decode("utf-8", "replace") for one in (output, error))
        return Ended(int(code), *said)

    def stop_container(self, container: str) -> None:
        self._ask(lambda api: _unless_gone(lambda: api.stop(container, timeout=STOP_TIMEOUT_S)))

    def remove_container(self, container: str) -> None:
        self._ask(
            lambda api: _unless_gone(lambda: api.remove_container(container, v=True, force=True))
        )

    def remove_networks(self, project: str) -> None:
        self._ask(lambda api: _remove_networks(api, project))

    def _ask(self, question: Callable[[Any], T]) -> T:
        with self._explaining():
            if self._connected is None:
                self._connected = self._connect(ANSWER_TIMEOUT_S)
            return question(self._connected)

    def _connect(self, timeout_s: int) -> Any:
        from docker import APIClient

        address = f"unix://{self._socket}"
        return APIClient(base_url=address, version="auto", timeout=timeout_s)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            yield
        except (DockerException, RequestException, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> AiboxError:
        """What a failed question means, from the operating-system error at its root."""
        from docker.errors import APIError

        numbers = {cause.errno for cause in _causes(error) if isinstance(cause, OSError)}
        if _NO_ROOM in str(error).casefold() or errno.ENOSPC in numbers:
            return _no_room(str(error))
        if isinstance(error, APIError | _Told):
            return _refused(error)
        if numbers & {errno.EACCES, errno.EPERM}:
            return _no_permission(self._socket)
        if errno.ENOENT in numbers and shutil.which("dockerd") is None:
            return _not_installed()
        return _no_answer(self._socket, str(error))


def _unless_gone(question: Callable[[], T]) -> T | None:
    """The answer; None for what does not exist, no longer, or not for long any more."""
    from docker.errors import APIError, NotFound

    try:
        return question()
    except NotFound:
        return None
    except APIError as error:
        if "already in progress" in str(error):
            return None
        raise


def _containers(api: Any, project: str) -> Iterator[Container]:
    for listed in api.containers(all=True, filters={"label": f"{PROJECT_LABEL}={project}"}):
        if found := _unless_gone(partial(api.inspect_container, listed["Id"])):
            yield _container(found)


def _remove_networks(api: Any, project: str) -> None:
    for listed in api.networks(filters={"label": f"{PROJECT_LABEL}={project}"}):
        _unless_gone(partial(api.remove_network, listed["Id"]))


def _container(found: dict[str, Any]) -> Container:
    state, labels = found["State"], dict(found["Config"]["Labels"] or {})
    return Container(
        id=found["Id"],
        service=labels.get(SERVICE_LABEL, ""),
        labels=labels,
        image=found["Image"],
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status", "").replace("none", ""),
        pid=state["Pid"] or None,
        started=seconds(state["StartedAt"]),
        exit_code=state["ExitCode"],
        error=state.get("Error", ""),
    )


def seconds(timestamp: str) -> float:
    """Docker's time (RFC 3339, nanoseconds) as seconds since the epoch; 0.0 for its "never"."""
    try:
        return max(0.0, datetime.fromisoformat(timestamp).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def _hear(told: Any, on_line: Callable[[str], None]) -> None:
    """One object of Docker's progress; raises when it is an error."""
    if not isinstance(told, dict):
        return
    if problem := told.get("error") or told.get("message"):
        raise _Told(str(problem))
    line = str(told.get("stream") or told.get("status") or "").strip()
    if line:
        detail = told.get("progress")
        on_line(f"{line} {detail}" if detail else line)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and everything it came from: HTTP libraries hide it in chains and arguments."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [item for item in inner if isinstance(item, BaseException)]


def _not_installed() -> Failed:
    return Failed(
        "docker-absent",
        "Docker Engine is not installed on this host",
        hint="install it from the bundle with: ./aibox install",
        fault=Fault.HOST,
    )


def _no_permission(socket: Path) -> Failed:
    return Failed(
        "docker-not-permitted",
        "this user may not speak to Docker",
        context=str(socket),
        hint="run the command as root: sudo ./aibox status",
        fault=Fault.YOU,
    )


def _no_answer(socket: Path, why: str) -> Failed:
    return Failed(
        "docker-no-answer",
        "Docker does not answer",
        context=f"{socket}: {why[:300]}",
        hint="read why with: journalctl --unit docker; then: systemctl restart docker",
        fault=Fault.HOST,
    )


def _no_room(why: str) -> Failed:
    return Failed(
        "docker-disk-full",
        "the disk that holds Docker's data is full",
        context=why[:300],
        hint="see what fills it with: docker system df; free old generations with: ./aibox gc",
        fault=Fault.HOST,
    )


def _refused(error: Exception) -> Failed:
    return Failed(
        "docker-refused",
        "Docker refused what it was asked for",
        context=str(error)[:400],
        hint="read what Docker says of it with: journalctl --unit docker",
        fault=Fault.UPSTREAM,
    )


def _too_old(version: str) -> Failed:
    return Failed(
        "docker-too-old",
        f"Docker {version} is too old for this box",
        context="23.0 is the oldest that works",
        hint="install the one of the bundle with: ./aibox install",
        fault=Fault.HOST,
    )
