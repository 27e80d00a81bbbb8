"""Stage: bring every blob of a plan into the store, seal a generation, install its packages.

Nothing serves yet when this returns; everything that can be wrong with bytes has been found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from aibox.box import environment, importing, wheels
from aibox.box.importing import Incoming
from aibox.box.store import Store
from aibox.box.wheels import WheelPin
from aibox.bundle import weights
from aibox.errors import BadUsage, Failed, Fault, VerificationRefused
from aibox.lock import Wheel
from aibox.plan import Plan, Wanted
from aibox.progress import Meter, Progress, Report
from aibox.record import Provenance
from aibox.release import Release

STEP = "stage"
_WHEELS = "tree/wheels/"
_MODELS = "tree/models/"


@dataclass(frozen=True, slots=True)
class Material:
    """What a generation is made from: its release, plan, rendered files, and where bytes are.

    `openers` open an object by its digest; packages that none opens come from the index. While
    volumes are missing, `partly` opens the objects of which some chunks are elsewhere, and
    `volumes_with` tells where: it takes how many bytes of each object are had.
    """

    release: Release
    plan: Plan
    rendered: Mapping[str, bytes]
    openers: Mapping[str, Callable[[], BinaryIO]]
    provenance: Provenance | None = None
    volumes_with: Callable[[Mapping[str, int]], tuple[str, ...]] | None = None
    partly: Mapping[str, Callable[[], BinaryIO]] = field(default_factory=dict)


def run(store: Store, material: Material, report: Report) -> int:
    """Return the number of a sealed generation whose bytes are all verified. Re-runnable.

    Raises what the store, the package index, the media and the packages raise (`AiboxError`).
    """
    plan = material.plan
    lacking = missing(store, material)
    offered = [item for item in plan.tree if item.sha256 in material.openers]
    if material.volumes_with is None:
        refuse_missing(material, lacking)
    _import(store, offered, material.openers, "files of the release", report)
    if material.volumes_with is not None:
        lacking = _take_partly(store, material, lacking)
        _ask_for_volumes(store, material.volumes_with, lacking)
    _import_packages(store, material, lacking, report)
    _refuse_dangerous_models(store, plan)
    number = store.prepare_generation(
        material.release.manifest(),
        {item.path.removeprefix("tree/"): item.sha256 for item in plan.tree},
        {**material.rendered, "plan.json": plan.stored()},
    )
    report(Progress(STEP, f"generation {number} is sealed: {len(plan.tree)} files"))
    if material.release.wheels:
        _install_packages(store, number, plan.environment, report)
    return number


def missing(store: Store, material: Material) -> list[Wanted]:
    """What neither the source of the bytes nor the store has; the store's bytes are hashed."""
    return [
        item
        for item in material.plan.tree
        if item.sha256 not in material.openers and store.verify(item.sha256) is not None
    ]


def refuse_missing(material: Material, lacking: Iterable[Wanted]) -> None:
    """Raise `BadUsage` unless all that is lacking can come from the package index."""
    index = material.provenance is None
    needed = [item for item in lacking if not (index and item.path.startswith(_WHEELS))]
    if needed:
        raise incomplete(
            [item.path for item in needed],
            sum(item.size for item in needed),
            profile=material.release.profile,
            bundled=not index,
        )


def _take_partly(store: Store, material: Material, lacking: Iterable[Wanted]) -> list[Wanted]:
    """Go on with large objects as far as this volume has them; what is lacking then."""
    for item in lacking:
        opener = material.partly.get(item.sha256)
        if opener is None:
            continue
        try:
            with opener() as stream:
                store.import_stream(stream, item.sha256, item.size)
        except VerificationRefused as refusal:
            # Its next chunk is on another volume; what came is kept as a part.
            if refusal.reference != "bundle-blob-missing":
                raise
    return missing(store, material)


def _ask_for_volumes(
    store: Store,
    volumes_with: Callable[[Mapping[str, int]], tuple[str, ...]],
    lacking: Sequence[Wanted],
) -> None:
    """What this volume has is in the store; the rest comes with the next ones."""
    if lacking:
        held = {item.sha256: _bytes_of_part(store, item.sha256) for item in lacking}
        size = sum({item.sha256: item.size for item in lacking}.values()) - sum(held.values())
        raise volumes_missing(len(lacking), size, volumes_with(held), taken=True)


def _bytes_of_part(store: Store, sha256: str) -> int:
    try:
        return store.layout.part(sha256).stat().st_size
    except OSError:
        return 0


def volumes_missing(files: int, size: int, volumes: Sequence[str], *, taken: bool) -> Failed:
    """What is said while `files` of a release lie on volumes that are not here.

    `size` bytes of them are lacking; `taken` tells whether what is here was taken in.
    """
    here = "what this one has was taken in" if taken else "nothing is taken in before them"
    return Failed(
        "bundle-volume-missing",
        f"{files} files ({size / 1e6:.1f} MB) lie on volumes that are not here; {here}",
        context="; ".join(volumes),
        hint="bring the volumes in their order, and give the same command with each: "
        "./aibox install --bundle VOLUME",
        fault=Fault.YOU,
    )


def incomplete(paths: Sequence[str], size: int, *, profile: str, bundled: bool) -> BadUsage:
    """What is said when files of a release (`size` bytes in all) are nowhere at hand."""
    return BadUsage(
        "release-incomplete",
        f"{len(paths)} files of the release ({size / 1e6:.1f} MB) are neither here nor in the box",
        context=", ".join(paths[:5]),
        hint=_way_to_complete(paths, profile, bundled=bundled),
        fault=Fault.YOU,
    )


def _way_to_complete(paths: Sequence[str], profile: str, *, bundled: bool) -> str:
    if not bundled:
        return (
            "models, images and system packages come in a bundle: ./aibox bundle build "
            f"--profile {profile} --output DIR"
        )
    if all(path.startswith(_MODELS) for path in paths):
        return (
            "put the model's files into a folder, then: ./aibox install --bundle BUNDLE "
            "--weights FOLDER"
        )
    return (
        "a delta fits only the box it was made for; ask for a full bundle, or for one made against "
        "what this box has: ./aibox have"
    )


def _install_packages(store: Store, number: int, name: str, report: Report) -> None:
    environment.ensure(
        store.layout.root,
        name,
        sorted((store.layout.tree(number) / "wheels").glob("*.whl")),
        filesystem=store.filesystem,
        on_event=lambda line: report(Progress(STEP, line)),
    )


def _import_packages(
    store: Store, material: Material, wanted: Iterable[Wanted], report: Report
) -> None:
    items, folder = list(wanted), store.layout.staging / "packages"
    if items:
        report(Progress(STEP, f"fetching {len(items)} packages from the configured index"))
        wheels.fetch(
            pins(material.release.wheels, items),
            folder,
            lambda line: report(Progress(STEP, line)),
        )
    openers = {
        item.sha256: partial(_open, folder / item.path.removeprefix(_WHEELS)) for item in items
    }
    _import(store, items, openers, "packages", report)
    store.filesystem.remove_tree(folder)


def _open(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)


def _import(
    store: Store,
    items: Sequence[Wanted],
    openers: Mapping[str, Callable[[], BinaryIO]],
    what: str,
    report: Report,
) -> None:
    incoming = [Incoming(item.sha256, item.size, openers[item.sha256]) for item in items]
    # What several files have in common (a layer of many images) is read once.
    sizes = {item.sha256: item.size for item in items}
    meter = Meter(STEP, what, sum(sizes.values()), report)
    importing.import_all(store, incoming, meter.add)


def _refuse_dangerous_models(store: Store, plan: Plan) -> None:
    """The same rules as at build time: a bundle may come from another builder."""
    for item in plan.tree:
        if item.path.startswith(_MODELS):
            model, _, path = item.path.removeprefix(_MODELS).partition("/")
            with store.layout.blob(item.sha256).open("rb") as stream:
                weights.refuse(weights.check_file(path, stream, item.size), model)


def pins(packages: Iterable[Wheel], wanted: Iterable[Wanted]) -> list[WheelPin]:
    """The locked builds behind some wheels of a plan."""
    digests = {item.sha256 for item in wanted}
    return [
        WheelPin(package.name, package.version, file.filename, file.size, file.sha256)
        for package in packages
        for file in package.files
        if file.sha256 in digests
    ]
