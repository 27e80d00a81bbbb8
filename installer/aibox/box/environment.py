"""The installed packages of the application: `environments/<id>/`, made from wheels alone.

It is derived data. The id names its input, so an environment is never changed in place: it is
built beside, checked file by file, made durable and renamed in. Whatever a crash leaves is either
a whole environment or a folder in `staging/` that the next build removes.

    environments/<id>/
      bin/python -> the interpreter of this host      pyvenv.cfg   (PEP 405: sees nothing else)
      lib/python3.x/site-packages/                    files.json   (size and sha256 of every file)
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aibox import digest, process
from aibox.box import host, wheel_file
from aibox.box.filesystem import Filesystem
from aibox.box.layout import Layout, checked
from aibox.errors import AiboxError, Failed, Fault, VerificationRefused
from aibox.plan import environment_id

LIST = "files.json"
INSTALL_TIMEOUT_S = 900.0
SAY_EVERY_S = 4.0
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = Path("lib") / _PYTHON / "site-packages"
_LEFTOVER = "environment-"
_INSTALL = (
    "-m", "pip", "--isolated", "install", "--no-index", "--no-deps", "--no-compile",
    "--no-cache-dir", "--no-input", "--disable-pip-version-check", "--no-warn-script-location",
    "--root-user-action", "ignore", "--progress-bar", "off",
)  # fmt: skip
_COMPILE = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
Listing = Mapping[str, tuple[int, str]]


def ensure(
    root: Path,
    environment: str,
    wheels: Sequence[Path],
    *,
    filesystem: Filesystem,
    on_event: Callable[[str], None],
) -> Path:
    """The folder of a whole, checked environment; built offline when missing or damaged.

    Raises `VerificationRefused` when the wheels are not the ones `environment` names or one of
    them is refused, `Failed` when pip fails. The caller holds the box.
    """
    final = Layout(root).environments / checked(environment)
    for leftover in Layout(root).staging.glob(f"{_LEFTOVER}*"):
        filesystem.remove_tree(leftover)
    problem = problem_of(final)
    if not problem:
        return final
    if final.exists():
        on_event(f"environment: {problem}; building it again")
    _check_id(environment, wheels)
    expected = wheel_file.merged(wheels)
    with _building(root, environment, filesystem) as (folder, sync):
        _install(folder, wheels, on_event)
        _keep_only(folder / PACKAGES, expected, filesystem)
        _compile(folder, environment)
        filesystem.write_new(folder / LIST, _encoded(_listing(folder)))
        sync()
        _put_in_place(folder, final, filesystem)
    return final


def problem_of(folder: Path) -> str:
    """What is wrong with an environment, or an empty string: every file is hashed again."""
    try:
        text = (folder / LIST).read_text(encoding="utf-8")
        listed = {path: (size, sha256) for path, (size, sha256) in json.loads(text).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return "its list of files is missing or damaged"
    if not (folder / "bin/python").exists():
        return "its interpreter is gone from this host"
    return difference(listed, _listing(folder))


def difference(listed: Listing, found: Listing) -> str:
    """The first file that is not as it was listed, in words, or an empty string. Pure."""
    for path in sorted({*listed, *found}):
        if path not in found:
            return f"{path} is missing"
        if path not in listed:
            return f"{path} does not belong there"
        if listed[path] != found[path]:
            return f"{path} was changed"
    return ""


def _check_id(environment: str, wheels: Sequence[Path]) -> None:
    if environment_id(map(_digest_of, wheels), host.python_tag()) != environment:
        raise VerificationRefused(
            "environment-id-differs",
            "the packages of this generation are not the ones its configuration was made for, "
            "or the Python of this host was changed",
            context=f"{len(wheels)} packages, {host.python_tag()}",
            hint="put the release on this host again with: ./aibox install --profile local",
            fault=Fault.HOST,
        )


@contextmanager
def _building(
    root: Path, environment: str, filesystem: Filesystem
) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A fresh folder below `staging/`, and the call that makes all that was written durable.

    Its name is new every time: a pip that outlived a killed CLI writes into a folder that is gone.
    """
    layout = Layout(root)
    for folder in (layout.environments, layout.staging):
        filesystem.make_directory(folder)
    folder = layout.staging / f"{_LEFTOVER}{environment[:12]}-{os.getpid()}"
    filesystem.make_directory(folder)
    # Opened before the first byte is written: syncfs reports the write errors since then.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder, lambda: _sync_filesystem(descriptor)
    except Exception:
        # Room matters when the disk is full; what a kill leaves is removed by the next call.
        with suppress(AiboxError):
            filesystem.remove_tree(folder)
        raise
    finally:
        os.close(descriptor)


def _install(folder: Path, wheels: Sequence[Path], on_event: Callable[[str], None]) -> None:
    """Let pip unpack the wheels; it sees no index, no configuration and no cache."""
    _link_interpreter(folder)
    work = folder / "work"
    work.mkdir()
    for wheel in wheels:
        # pip reads a semicolon in a path as the start of a condition: it only gets bare names.
        (work / wheel.name).symlink_to(wheel.absolute())
    say = _Ticker(f"environment: installing {len(wheels)} packages", on_event)
    ended = process.run(
        [
            sys.executable,
            *_INSTALL,
            "--target",
            folder / PACKAGES,
            *(f"./{wheel.name}" for wheel in wheels),
        ],
        cwd=work,
        # pip moves files from its temporary folder to the target: on one disk that copies nothing.
        environment=process.environment({"PIP_CONFIG_FILE": os.devnull, "TMPDIR": str(work)}),
        timeout_s=INSTALL_TIMEOUT_S,
        on_tick=say.tick,
    )
    if ended.status != 0:
        raise _pip_failed(ended)


def _link_interpreter(folder: Path) -> None:
    # The interpreter below the CLI's own environment: that one may be deleted with its checkout.
    base = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\n", encoding="utf-8"
    )


def _keep_only(
    packages: Path, expected: Mapping[str, wheel_file.Content], filesystem: Filesystem
) -> None:
    """Compare every file with its wheel's record; remove what pip added (scripts, bookkeeping)."""
    filesystem.remove_tree(packages.parents[2] / "work")
    found = {path.relative_to(packages).as_posix(): path for path in _files(packages)}
    for name in sorted(found.keys() - expected.keys()):
        found[name].unlink()
    for name, content in expected.items():
        path = found.get(name)
        if path is None or _entry(path) != (content.size, content.sha256):
            raise wheel_file.refused(name, "what was installed is not what its wheel records")


def _compile(folder: Path, environment: str) -> None:
    """Byte code beside the sources: without it every start of a service compiles them anew.

    It refers to the digest of its source, never to a time, and the paths in it are those of the
    final place, so that the same wheels give the same bytes. Files of no valid Python are skipped.
    """
    final = f"environments/{environment}"
    process.run(
        [folder / "bin/python", *_COMPILE, "-s", folder, "-p", final, folder / PACKAGES],
        environment=process.environment(),
        timeout_s=INSTALL_TIMEOUT_S,
    )


def _put_in_place(folder: Path, final: Path, filesystem: Filesystem) -> None:
    damaged = folder.with_name(f"{folder.name}-damaged")
    if final.exists():
        filesystem.move(final, damaged)
    filesystem.move(folder, final)
    filesystem.remove_tree(damaged)


def _listing(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and digest of every file below `folder`, but for the list itself."""
    return {
        path.relative_to(folder).as_posix(): _entry(path)
        for path in _files(folder)
        if path != folder / LIST
    }


def _entry(path: Path) -> tuple[int, str]:
    """Size and digest of a file; a symbolic link counts as the text it holds."""
    if path.is_symlink():
        text = os.fsencode(path.readlink())
        return len(text), digest.of_bytes(text)
    with path.open("rb") as stream:
        sha256, size = digest.of_stream(stream)
    return size, sha256


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in files)
        yield from (path for name in folders if (path := Path(parent, name)).is_symlink())


def _digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return digest.of_stream(stream)[0]


def _encoded(listing: Listing) -> bytes:
    return json.dumps(listing, sort_keys=True, indent=0, ensure_ascii=False).encode()


def _sync_filesystem(descriptor: int) -> None:
    """Write everything on this file system to disk: one call instead of thousands of fsyncs."""
    if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise Failed(
            "environment-not-durable",
            "the disk did not take the installed packages",
            context=os.strerror(number),
            hint="check the disk (dmesg), then: ./aibox recover",
            fault=Fault.HOST,
        )


class _Ticker:
    """Says every few seconds that something is still going on."""

    def __init__(self, what: str, on_event: Callable[[str], None]) -> None:
        self._what, self._on_event = what, on_event
        self._started = self._said = time.monotonic()
        on_event(what)

    def tick(self) -> None:
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            self._on_event(f"{self._what}, {now - self._started:.0f} s so far")


def _pip_failed(ended: process.Completed) -> AiboxError:
    lines = [line for line in ended.lines if "ERROR" in line] or list(ended.lines[-1:])
    return Failed(
        "packages-not-installed",
        "pip could not unpack the packages of the release",
        context=lines[-1] if lines else f"pip ended with status {ended.status}",
        hint="see whether this Python has pip with: python3 -m pip --version",
        fault=Fault.HOST,
    )
