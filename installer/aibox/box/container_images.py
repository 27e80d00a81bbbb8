"""The images of a generation in Docker: loaded from its tree, and taken away with it.

A name `aibox/<image>:<digest>` is never given to another content. Docker's own word for the image
must be the locked digest, or the image goes away again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aibox.box import compose_file
from aibox.box.docker_engine import Engine, EngineFacts
from aibox.box.filesystem import Filesystem, OpenFile
from aibox.box.image_archive import REPOSITORY, Archive, tag_of
from aibox.digest import canonical_json
from aibox.errors import AiboxError, Failed, Fault, VerificationRefused
from aibox.pins import ImagePlatform
from aibox.progress import Meter, Progress, Report, seldom

STEP = "images"
OURS = f"{REPOSITORY}/*"
Check = Callable[[Archive, Callable[[int], None]], None]
"""Raises `VerificationRefused` unless the image is fit to be loaded; hears the bytes read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image of a generation by its name in the lock; `folder` has skopeo's `dir:` layout."""

    name: str
    platform: ImagePlatform
    folder: Path

    @property
    def archive(self) -> Archive:
        """As Docker takes it."""
        return Archive(self.folder, self.platform, tag_of(self.name, self.platform))


def ensure(
    engine: Engine,
    wanted: Sequence[Wanted],
    *,
    check: Check,
    notes: Path,
    filesystem: Filesystem,
    report: Report,
) -> tuple[str, ...]:
    """Have every image in Docker; the names of those that had to be loaded.

    What is there under the right id and is named in `notes` is believed and not read. May be
    repeated after a crash anywhere: Docker keeps nothing of an archive that did not end, and what
    a power cut may have left without its bytes goes away before anything is loaded.

    Raises:
        VerificationRefused: an image is not fit (what `check` raises), not whole
            (`image-incomplete`), or Docker calls it by another id (`image-id-differs`).
        Failed: Docker does not answer, or has no room.
        DiskTrouble: what was loaded could not be made durable.
    """
    facts = engine.facts()
    _forget_doubtful(engine, _noted(notes), report)
    loaded = []
    with _watched(facts.root, filesystem) as folder:
        for image in wanted:
            archive = image.archive
            if engine.image_id(archive.tag) != expected_id(image.platform, facts):
                _load(engine, facts, image.name, archive, check, report)
                loaded.append(archive.tag)
        if loaded:
            # Docker makes its records durable, but not the files of the layers.
            filesystem.sync_filesystem(folder)
            there = {one.tag: one.id for one in engine.tagged(OURS)}
            filesystem.publish(notes, canonical_json(there))
    return tuple(loaded)


@contextmanager
def _watched(root: Path, filesystem: Filesystem) -> Iterator[OpenFile]:
    """Docker's data folder, open so that a disk that fails from here on is noticed."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(filesystem.watch(root.resolve()))
        except OSError as error:
            raise Failed(
                "docker-data-unreachable",
                "the folder in which Docker keeps images cannot be opened",
                context=f"{root}: {error.strerror or error}",
                hint="run the command as root, on the host of Docker itself: sudo ./aibox start",
                fault=Fault.HOST,
            ) from error
        yield folder


def _noted(notes: Path) -> dict[str, str]:
    """The ids of durable images by name; empty when nobody can tell."""
    try:
        found = json.loads(notes.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _forget_doubtful(engine: Engine, noted: Mapping[str, str], report: Report) -> None:
    """Remove what may be in Docker by name alone: after a power cut a layer can be there with
    empty files, and loading it again would leave it so (containerd 9401 and its likes).

    All of them before one is loaded, because they may share such a layer. An image that a
    container has is older than that: containers are made of durable images.
    """
    for one in engine.tagged(OURS):
        if noted.get(one.tag) != one.id and _remove(engine, one.tag):
            report(Progress(STEP, f"{one.tag}: perhaps not whole on the disk; loading it again"))


def expected_id(platform: ImagePlatform, facts: EngineFacts) -> str:
    """What Docker calls the image: which of the locked digests, its image store decides."""
    named = platform.manifest if facts.keeps_manifests else platform.config
    return f"sha256:{named.sha256}"


def _load(
    engine: Engine, facts: EngineFacts, name: str, archive: Archive, check: Check, report: Report
) -> None:
    report(Progress(STEP, f"{name}: checking its layers"))
    check(archive, Meter(STEP, f"{name}: checked", archive.size, report).add)
    report(Progress(STEP, f"{name}: loading it into Docker"))
    sent = Meter(STEP, f"{name}: loaded", archive.size, report)
    tell = seldom(lambda line: report(Progress(STEP, f"{name}: {line}")))
    engine.load(archive.chunks(sent.add), tell)
    _require_id(engine, archive, expected_id(archive.platform, facts))


def _require_id(engine: Engine, archive: Archive, expected: str) -> None:
    found = engine.image_id(archive.tag)
    if found == expected:
        return
    if found is not None:
        engine.remove_image(archive.tag)
    raise VerificationRefused(
        "image-id-differs",
        f"Docker does not hold what {archive.tag} must be",
        context=f"its id is {found or 'unknown'}, not {expected}; it was removed",
        hint="see what is wrong with the box: ./aibox doctor",
        fault=Fault.UPSTREAM,
    )


def sweep(engine: Engine, kept: Collection[Path]) -> tuple[str, ...]:
    """Remove the images of the box that no kept generation (its folder) names; their names.

    An image that a container still uses stays for the next time; other people's images are never
    looked at.
    """
    named = frozenset[str]().union(*map(compose_file.images, kept))
    unnamed = [one.tag for one in engine.tagged(OURS) if one.tag not in named]
    return tuple(tag for tag in unnamed if _remove(engine, tag))


def _remove(engine: Engine, tag: str) -> bool:
    try:
        engine.remove_image(tag)
    except AiboxError as error:
        if error.reference != "docker-refused":
            raise
        return False
    return True
