"""Fetching the Python packages of the application.

On a connected machine pip fetches from whatever index it is configured for, so mirrors, proxies
and credentials are set where everybody sets them. pip is trusted for the transport only: every
file is compared with its locked digest before it counts.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from aibox import digest, process
from aibox.errors import BadUsage, Failed, Fault, VerificationRefused

ATTEMPTS = 3
PAUSE_S = 2.0
REPORT_EVERY_S = 4.0
# pip hands files over when a whole call is done, so a large set is split. Not finely: a call costs
# seconds, and what an interrupted call had finished usually rests in pip's own cache.
BATCH_BYTES = 64 * 1024 * 1024
# A batch that needs longer than this at the lowest rate is stuck, not slow.
LOWEST_RATE = 20 * 1024
LEAST_TIMEOUT_S = 300.0
MEGABYTE = 1e6
RETRY = "./aibox install --profile local"
OLDEST_MINOR = 11
"""The oldest Python 3 that a box runs on."""

_DOWNLOAD = (
    "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes",
    "--progress-bar", "off", "--no-input", "--disable-pip-version-check",
)  # fmt: skip
_KEPT = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "NETRC",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CACHE_HOME",
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
_WRONG_BYTES = "DO NOT MATCH THE HASHES"
_UNREACHABLE = (
    "Retrying (",
    "ConnectionError",
    "Connection refused",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Max retries exceeded",
    "Read timed out",
    "timed out",
    "ProxyError",
    "SSLError",
)


@dataclass(frozen=True, slots=True)
class WheelPin:
    """One locked build of a package: size in bytes, sha256 as 64 hex digits."""

    name: str
    version: str
    filename: str
    size: int
    sha256: str


def fetch(
    wheels: Sequence[WheelPin],
    folder: Path,
    on_event: Callable[[str], None],
    *,
    foreign: bool = False,
    again: str = RETRY,
) -> None:
    """Bring every wheel into `folder` under its file name, from the index pip is configured for.

    Files that are already right are kept, so an interrupted fetch goes on where it stopped.
    `foreign` wheels may be builds for other interpreters and platforms than this host's; `again`
    is the command that goes on after a failure.
    `on_event` gets a line of progress at least every 5 s. Raises `Failed` when the index cannot be
    reached or lacks a file, `VerificationRefused` when it serves other bytes than the locked ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [wheel for wheel in wheels if not is_right(folder / wheel.filename, wheel)]
    if not missing:
        return
    progress = _Progress(sum(wheel.size for wheel in missing), len(missing), on_event)
    for options, group in by_target(missing) if foreign else [((), missing)]:
        for batch in batches(group):
            _fetch_batch(batch, folder, progress, options, again)
    progress.report()


def is_right(path: Path, wheel: WheelPin) -> bool:
    """Whether the file is there with the locked size and digest."""
    try:
        if path.stat().st_size != wheel.size:
            return False
        with path.open("rb") as stream:
            return digest.of_stream(stream)[0] == wheel.sha256
    except OSError:
        return False


def batches(wheels: Sequence[WheelPin], limit: int = BATCH_BYTES) -> Iterator[list[WheelPin]]:
    """Groups of at most `limit` bytes; a larger wheel stands alone. Pure."""
    batch: list[WheelPin] = []
    for wheel in wheels:
        if batch and sum(item.size for item in batch) + wheel.size > limit:
            yield batch
            batch = []
        batch.append(wheel)
    if batch:
        yield batch


def by_target(wheels: Iterable[WheelPin]) -> list[tuple[tuple[str, ...], list[WheelPin]]]:
    """Wheels with the pip options that make it take builds for their targets. Pure."""
    groups: dict[tuple[str, ...], list[WheelPin]] = {}
    for wheel in wheels:
        groups.setdefault(_target_options(wheel), []).append(wheel)
    return list(groups.items())


def _target_options(wheel: WheelPin) -> tuple[str, ...]:
    tags = parse_wheel_filename(wheel.filename)[3]
    platforms = sorted({tag.platform for tag in tags} - {"any"})
    if not platforms:
        return ()
    tag = min(tags, key=str)
    chosen = [option for platform in platforms for option in ("--platform", platform)]
    if tag.interpreter.startswith("py"):
        return (*chosen, "--abi", tag.abi)
    implementation, major, minor = tag.interpreter[:2], tag.interpreter[2], tag.interpreter[3:]
    # The package may want a newer interpreter than the one its stable ABI goes back to.
    newest = max(int(minor), OLDEST_MINOR) if tag.abi == "abi3" else minor
    return (*chosen, "--implementation", implementation, "--abi", tag.abi,
            "--python-version", f"{major}.{newest}")  # fmt: skip


def requirement(wheel: WheelPin) -> str:
    """The line of a pip requirements file that allows exactly this file. Pure.

    Raises `BadUsage` for a pin that is not one: nothing of it may act as a pip option.
    """
    try:
        name, version, _, _ = parse_wheel_filename(wheel.filename)
        told = (canonicalize_name(wheel.name), Version(wheel.version))
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise _bad_pin(wheel, str(error)) from error
    if told != (name, version):
        raise _bad_pin(wheel, "the file name says another name or version")
    if not digest.is_digest(wheel.sha256):
        raise _bad_pin(wheel, "its sha256 is not 64 hex digits")
    return f"{name}=={version} --hash=sha256:{wheel.sha256}"


class _Progress:
    """Bytes and files so far, told as a line every few seconds."""

    def __init__(self, total: int, files: int, on_event: Callable[[str], None]) -> None:
        self._total, self._files, self._on_event = total, files, on_event
        self._bytes = self._done = self._peak = 0
        self._started = self._reported = time.monotonic()

    def add(self, wheel: WheelPin) -> None:
        self._bytes += wheel.size
        self._done += 1

    def tick(self, under_way: int) -> None:
        """Told about twice a second how many bytes of the batch have arrived."""
        # pip moves and deletes its temporary files at the end: what arrived has still arrived.
        self._peak = max(self._peak, self._bytes + under_way)
        if time.monotonic() - self._reported >= REPORT_EVERY_S:
            self.report()

    def report(self) -> None:
        self._reported = now = time.monotonic()
        so_far = min(max(self._bytes, self._peak), self._total)
        rate = so_far / max(now - self._started, 1e-3)
        left = f", {(self._total - so_far) / rate:.0f} s left" if 0 < so_far < self._total else ""
        self._on_event(
            f"packages: {so_far / MEGABYTE:.1f} of {self._total / MEGABYTE:.1f} MB, "
            f"{rate / MEGABYTE:.1f} MB/s, {self._done} of {self._files} files{left}"
        )

    def say(self, line: str) -> None:
        self._on_event(line)


def _fetch_batch(
    batch: Sequence[WheelPin],
    folder: Path,
    progress: _Progress,
    options: Sequence[str],
    again: str,
) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            ended = _pip_download(batch, Path(scratch), progress, options)
            got = [wheel for wheel in batch if is_right(_landed(scratch, wheel), wheel)]
            for wheel in got:
                _landed(scratch, wheel).replace(folder / wheel.filename)
                progress.add(wheel)
        batch = [wheel for wheel in batch if wheel not in got]
        if not batch:
            return
        if _WRONG_BYTES in ended.text or ended.status == 0:
            raise _wrong_bytes(batch)
        if attempt == ATTEMPTS or not _is_unreachable(ended.text):
            raise _not_fetched(batch, ended, again)
        progress.say(f"packages: the index did not answer, attempt {attempt + 1} of {ATTEMPTS}")
        time.sleep(PAUSE_S)


def _landed(scratch: str, wheel: WheelPin) -> Path:
    return Path(scratch) / "wheels" / wheel.filename


def _pip_download(
    batch: Sequence[WheelPin], scratch: Path, progress: _Progress, options: Sequence[str]
) -> process.Completed:
    work, size = scratch / "work", sum(wheel.size for wheel in batch)
    work.mkdir()
    wanted = scratch / "requirements.txt"
    wanted.write_text("".join(requirement(wheel) + "\n" for wheel in batch), encoding="utf-8")
    return process.run(
        [
            sys.executable,
            *_DOWNLOAD,
            *options,
            "--requirement",
            wanted,
            "--dest",
            scratch / "wheels",
        ],
        environment=process.environment({"TMPDIR": str(work)}, keep=_KEPT, keep_prefixes=("PIP_",)),
        timeout_s=max(LEAST_TIMEOUT_S, size / LOWEST_RATE),
        on_tick=lambda: progress.tick(min(_bytes_below(work), size)),
    )


def _bytes_below(work: Path) -> int:
    """What pip has received so far: it writes each file below its temporary folder.

    Folders vanish while they are walked, because pip tidies up: os.walk passes over them.
    """
    return sum(
        _size(Path(folder) / name)
        for folder, _, names in os.walk(work)
        for name in names
        if name.endswith(".whl")
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # moved away meanwhile
        return 0


def _is_unreachable(said: str) -> bool:
    return any(sign in said for sign in _UNREACHABLE)


def _names(wheels: Iterable[WheelPin]) -> str:
    return ", ".join(sorted({f"{wheel.name} {wheel.version}" for wheel in wheels}))


def _bad_pin(wheel: WheelPin, why: str) -> BadUsage:
    return BadUsage(
        "wheel-pin-malformed",
        f"the locked wheel of {wheel.name!r} is malformed: {why}",
        context=repr(wheel.filename),
        hint="resolve it again with: ./aibox lock",
        fault=Fault.YOU,
    )


def _wrong_bytes(batch: Sequence[WheelPin]) -> VerificationRefused:
    return VerificationRefused(
        "wheel-digest-differs",
        f"the index serves other bytes than the locked ones for: {_names(batch)}",
        context="nothing of it was kept or run",
        hint="find out why (a mirror that rebuilds? an attack?), or pin again with: ./aibox lock",
        fault=Fault.UPSTREAM,
    )


def _not_fetched(batch: Sequence[WheelPin], ended: process.Completed, again: str) -> Failed:
    said = ended.lines[-1] if ended.lines else "pip said nothing"
    if _is_unreachable(ended.text):
        return Failed(
            "index-unreachable",
            f"the package index could not be reached for: {_names(batch)}",
            context=said,
            hint="check network, proxy and index with: python3 -m pip config list; "
            f"then go on where it stopped with: {again}",
            fault=Fault.HOST,
        )
    return Failed(
        "package-not-in-index",
        f"the package index does not offer: {_names(batch)}",
        context=said,
        hint="see which index pip uses with: python3 -m pip config list; "
        f"then go on where it stopped with: {again}",
        fault=Fault.HOST,
    )
