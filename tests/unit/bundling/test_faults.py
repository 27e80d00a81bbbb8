"""Builds that are killed, interrupted, slowed down or left without room: the next one goes on."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox import bundling, digest
from aibox.bundle.build import assembly, checkout, download, hub, registry, transfer
from aibox.bundle.partial import Partial
from aibox.bundle.trust import signing
from aibox.bundle.writer import BundleWriter
from aibox.errors import AiboxError, Failed
from aibox.progress import Progress
from bundle_media import snapshot
from faults import in_a_process
from packager_project import DRIVER, PackagerProject

BEFORE: tuple[tuple[Any, str], ...] = (
    (checkout, "program_files"),
    (hub, "fetch"),
    (registry, "fetch"),
    (download, "fetch"),
    (assembly, "write"),
    (BundleWriter, "add_objects"),
    (signing, "sign_manifest"),
    (BundleWriter, "finish"),
    (Partial, "publish"),
)
SLOW = b"s" * (1 << 20)


def killing(holder: Any, name: str) -> Callable[[], None]:
    """Let the process be killed when this is called."""

    def arrange() -> None:
        def kill(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(holder, name, kill)

    return arrange


@pytest.mark.parametrize(
    ("holder", "name"), BEFORE, ids=[f"{holder.__name__}.{name}" for holder, name in BEFORE]
)
@pytest.mark.parametrize("volume_bytes", [None, 3_000_000], ids=["whole", "volumes"])
def test_a_killed_build_goes_on_to_the_same_bundle(
    project: PackagerProject,
    output: Path,
    place: Path,
    holder: Any,
    name: str,
    volume_bytes: int | None,
) -> None:
    keys = project.keys()
    arrange = killing(holder, name)

    def build() -> None:
        arrange()
        project.build(output, sign=keys, volume_bytes=volume_bytes)

    assert in_a_process(build) == -signal.SIGKILL
    assert not output.exists()
    made = project.build(output, sign=keys, volume_bytes=volume_bytes)
    assert {path.name for path in output.parent.iterdir()} == {"box"}
    project.build(place / "undisturbed", sign=keys, volume_bytes=volume_bytes)
    assert snapshot(output) == snapshot(place / "undisturbed")
    assert made.folders


def test_a_build_killed_in_the_middle_of_a_file_asks_for_the_rest_alone(
    project: PackagerProject, output: Path
) -> None:
    address = project.web.put("/driver.run", SLOW)
    project.change("file", address=address, size=len(SLOW), sha256=digest.of_bytes(SLOW))
    project.web.faults.stop_after = len(SLOW) // 2
    child = os.fork()
    if child == 0:
        try:
            project.build(output)
        finally:
            os._exit(1)
    assert project.web.faults.stopped.wait(20)
    # What the server sent lies in the part soon, not at once.
    parts = project.cache_folder / "parts"
    grown = threading.Event()
    for _ in range(400):
        if any(path.stat().st_size for path in parts.iterdir()):
            break
        grown.wait(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    project.web.faults.stop_after = 0
    project.web.faults.go_on.set()
    project.build(output)
    assert project.web.ranges()[-1].startswith("bytes=")


def test_a_disk_that_is_full_is_said_and_the_same_command_goes_on(
    project: PackagerProject, output: Path, place: Path
) -> None:
    project.build(place / "first")  # so that everything is in the cache
    told = place / "told"

    def build() -> None:
        # No file may grow beyond this: the disk is full for the weights and for nothing else.
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            project.build(output)
        except AiboxError as error:
            told.write_text(f"{error.reference} {error.exit_code} {error.hint}")

    assert in_a_process(build) == 0
    reference, code, hint = told.read_text().split(maxsplit=2)
    assert (reference, code) == ("bundle-not-written", "1")
    assert hint.endswith("./aibox bundle build")
    assert not output.exists()
    project.build(output)
    assert snapshot(output) == snapshot(place / "first")


def test_a_cache_that_is_full_is_said_and_the_same_command_goes_on(
    project: PackagerProject, output: Path, place: Path
) -> None:
    told = place / "told"

    def build() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            project.build(output)
        except AiboxError as error:
            told.write_text(f"{error.reference} {error.exit_code} {error.hint}")

    assert in_a_process(build) == 0
    reference, code, hint = told.read_text().split(maxsplit=2)
    assert (reference, code) == ("cache-refused", "1")
    assert "AIBOX_CACHE" in hint
    assert not output.exists()
    project.build(output)


def test_a_link_that_breaks_is_taken_up_again(
    project: PackagerProject, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.0)
    project.web.faults.drops, project.web.faults.drop_after = 2, len(DRIVER) // 2
    project.registry.drops.append(10)
    project.build(output)
    assert "attempt 2 of" in project.said or len(project.web.asked) >= 2


def test_something_is_said_while_a_server_is_silent(
    project: PackagerProject, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everybody's clock faster: several lines come before the server goes on."""
    monkeypatch.setattr(download, "REPORT_S", 0.05)
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.0)
    project.web.faults.stop_after = len(DRIVER) // 2
    enough = threading.Event()
    silent: list[Progress] = []

    def report(progress: Progress) -> None:
        if project.web.faults.stopped.is_set():
            silent.append(progress)
            if len(silent) >= 5:
                project.web.faults.go_on.set()
                enough.set()

    bundling.build(project.content, project.order(output), report)
    assert enough.is_set()
    assert all("driver.run" in line.message for line in silent[:5])


def test_an_interrupt_ends_a_download_that_waits(
    project: PackagerProject, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "REPORT_S", 0.05)
    project.web.faults.stop_after = len(DRIVER) // 2

    def report(_progress: Progress) -> None:
        if project.web.faults.stopped.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bundling.build(project.content, project.order(output), report)
    assert not output.exists()
    assert not list(output.parent.iterdir())
    project.web.faults.stop_after = 0
    project.web.faults.go_on.set()
    project.build(output)


def test_a_file_that_changes_after_it_was_read_is_packed_as_it_was(
    project: PackagerProject, output: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.build(place / "undisturbed")
    write = assembly.write

    def later(*given: Any, **named: Any) -> Any:
        (project.root / "stacks/prompts/system.txt").write_text("Say yes.\n")
        return write(*given, **named)

    monkeypatch.setattr(assembly, "write", later)
    project.build(output)
    assert snapshot(output) == snapshot(place / "undisturbed")


def test_two_builds_to_one_folder_do_not_mix(project: PackagerProject, output: Path) -> None:
    with BundleWriter(output), pytest.raises(Failed) as found:
        project.build(output)
    assert found.value.reference == "bundle-busy"
    assert not project.requests
    project.build(output)
