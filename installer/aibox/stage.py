"""Stage: bring every blob of a plan into the store, seal a generation, install its packages.

Nothing serves yet when this returns; everything that can be wrong with bytes has been found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aibox.box import environment, wheels
from aibox.box.store import Store
from aibox.box.wheels import WheelPin
from aibox.lock import Wheel
from aibox.plan import Plan, Wanted
from aibox.progress import Meter, Progress, Report
from aibox.release import Release

STEP = "stage"
_WHEELS = "tree/wheels/"


@dataclass(frozen=True, slots=True)
class Material:
    """What a generation is made from: its release, plan, rendered files, and files on disk.

    `files` maps a release target (below `tree/`) to the file that holds it.
    """

    release: Release
    plan: Plan
    rendered: Mapping[str, bytes]
    files: Mapping[str, Path]


def run(store: Store, material: Material, report: Report) -> int:
    """Return the number of a sealed generation whose bytes are all verified. Re-runnable.

    Raises what the store, the package index and the packages raise (`AiboxError`).
    """
    _import_files(store, material, report)
    _import_wheels(store, material, report)
    number = store.prepare_generation(
        material.release.manifest(),
        {item.path.removeprefix("tree/"): item.sha256 for item in material.plan.tree},
        {**material.rendered, "plan.json": material.plan.stored()},
    )
    report(Progress(STEP, f"generation {number} is sealed: {len(material.plan.tree)} files"))
    _install_packages(store, number, material.plan.environment, report)
    return number


def _install_packages(store: Store, number: int, name: str, report: Report) -> None:
    environment.ensure(
        store.layout.root,
        name,
        sorted((store.layout.tree(number) / "wheels").glob("*.whl")),
        filesystem=store.filesystem,
        on_event=lambda line: report(Progress(STEP, line)),
    )


def _import_files(store: Store, material: Material, report: Report) -> None:
    wanted = [item for item in material.plan.tree if not item.path.startswith(_WHEELS)]
    sources = {item.path: material.files[item.path.removeprefix("tree/")] for item in wanted}
    _import(store, wanted, sources, "project files", report)


def _import_wheels(store: Store, material: Material, report: Report) -> None:
    wanted = [item for item in material.plan.tree if item.path.startswith(_WHEELS)]
    missing = [item for item in wanted if store.verify(item.sha256) is not None]
    folder = store.layout.staging / "packages"
    if missing:
        report(Progress(STEP, f"fetching {len(missing)} packages from the configured index"))
        wheels.fetch(
            pins(material.release.wheels, missing),
            folder,
            lambda line: report(Progress(STEP, line)),
        )
    _import(store, missing, _paths(folder, missing), "packages", report)
    store.filesystem.remove_tree(folder)


def _paths(folder: Path, wanted: Iterable[Wanted]) -> dict[str, Path]:
    return {item.path: folder / item.path.removeprefix(_WHEELS) for item in wanted}


def _import(
    store: Store,
    wanted: Iterable[Wanted],
    sources: Mapping[str, Path],
    what: str,
    report: Report,
) -> None:
    items = list(wanted)
    meter = Meter(STEP, what, sum(item.size for item in items), report)
    for item in items:
        store.import_stream(sources[item.path], item.sha256, item.size, meter.add)


def pins(packages: Iterable[Wheel], wanted: Iterable[Wanted]) -> list[WheelPin]:
    """The locked builds behind some wheels of a plan."""
    digests = {item.sha256 for item in wanted}
    return [
        WheelPin(package.name, package.version, file.filename, file.size, file.sha256)
        for package in packages
        for file in package.files
        if file.sha256 in digests
    ]
