"""The command line in the box: unpacked from a sealed generation, started under one name.

A bundle carries its own command line, and a generation keeps it as it keeps everything else. What
starts is derived from there: a folder per program, made by the bundle's own launcher, exactly as
it does on a medium. So a delta needs no more than what changed, and the box works when the medium
is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from aibox import process
from aibox.box import program_link
from aibox.box.store import Store
from aibox.bundle import program as listings
from aibox.bundle.layout import BundleLayout
from aibox.bundle.manifest import ProgramListing
from aibox.errors import Failed, Fault
from aibox.progress import Progress, Report

STEP = "program"
_TIMEOUT_S = 900.0


def ensure(
    store: Store,
    listing: ProgramListing,
    architecture: str,
    open_files: Mapping[str, bytes],
    report: Report,
) -> str:
    """Have the program in the box and make `bin/aibox` name it; returns its id.

    Args:
        listing: the program; its objects are in the store.
        architecture: whose interpreter to bring, where the listing has one.
        open_files: what lies open in its bundle, `bundle.json` included, compared with its digests.

    Raises `Failed` (`program-not-unpacked`) and `DiskTrouble`.
    """
    text = open_files[listings.TEXT]
    name = listings.program_id(text)
    if not _is_there(store.layout.root, name, text):
        report(Progress(STEP, "unpacking the command line of the bundle into the box"))
        _unpack(store, listing, architecture, open_files, report)
    program_link.point_to(store.filesystem, store.layout.root, name)
    return name


def _is_there(root: Path, name: str, text: bytes) -> bool:
    try:
        return (root / program_link.PROGRAMS / name / listings.TEXT).read_bytes() == text
    except OSError:
        return False


def _unpack(
    store: Store,
    listing: ProgramListing,
    architecture: str,
    open_files: Mapping[str, bytes],
    report: Report,
) -> None:
    """Lay the bundle's first steps beside links to the blobs, and let them unpack."""
    view = store.layout.staging / "program"
    store.filesystem.remove_tree(view)
    _lay_out(view, store, listing, architecture, open_files)
    ended = process.run(
        ["sh", view / listings.LAUNCHER, "--version"],
        environment=process.environment({"AIBOX_HOME": str(store.layout.root)}),
        timeout_s=_TIMEOUT_S,
        on_line=lambda line: report(Progress(STEP, line)),
    )
    store.filesystem.remove_tree(view)
    text = open_files[listings.TEXT]
    there = _is_there(store.layout.root, listings.program_id(text), text)
    if ended.status != 0 or not there:
        facts = f"it ended with status {ended.status}" if ended.status else "it unpacked nothing"
        raise Failed(
            "program-not-unpacked",
            "the command line of the bundle does not start on this host",
            context=ended.lines[-1] if ended.lines else facts,
            hint="see what this host lacks with: ./aibox doctor",
            fault=Fault.HOST,
        )


def _lay_out(
    view: Path,
    store: Store,
    listing: ProgramListing,
    architecture: str,
    open_files: Mapping[str, bytes],
) -> None:
    """A bundle of the program alone. Scratch: whatever a kill leaves here is removed later."""
    layout = BundleLayout(view)
    layout.blobs.mkdir(parents=True)
    digests = {file.sha256 for file in (*listing.files, *listing.wheels)}
    if architecture in listing.interpreters:
        digests.add(listing.interpreters[architecture].sha256)
    for sha256 in digests:
        layout.blob(sha256).hardlink_to(store.layout.blob(sha256))
    for path, data in open_files.items():
        (view / path).parent.mkdir(parents=True, exist_ok=True)
        (view / path).write_bytes(data)


def sweep(store: Store, running: str | None) -> int:
    """Remove the programs that neither the link, an environment nor this process needs; how many.

    An environment made with a program's interpreter links into its folder.
    """
    folder = store.layout.root / program_link.PROGRAMS
    needed = {program_link.linked(store.layout.root), running, *_linked_by_environments(store)}
    doomed = [path for path in _entries(folder) if path.name not in needed]
    for path in doomed:
        shutil.rmtree(path)
    return len(doomed)


def _linked_by_environments(store: Store) -> set[str]:
    # An environment names its interpreter without a link in the path; the box may be behind one.
    folder = store.layout.root.resolve() / program_link.PROGRAMS
    found = set()
    for environment in _entries(store.layout.environments):
        try:
            target = (environment / "bin/python").readlink()
        except OSError:
            continue
        if target.is_relative_to(folder):
            found.add(target.relative_to(folder).parts[0])
    return found


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
