"""Free what no generation worth keeping needs.

References go before the data they refer to (restic's rule): a generation leaves `gens/` by one
rename before the first of its files is removed, and a blob goes only when no generation left
names it. Killed anywhere, the box is whole and the next run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from aibox.box import prerequisites
from aibox.box.mounts import mounted_generations
from aibox.box.store import Store
from aibox.digest import is_digest
from aibox.errors import AiboxError, Failed, Fault

KEEP = 2


@dataclass(frozen=True)
class Freed:
    """What was removed; `size` counts bytes of blobs, environments and engines' caches."""

    generations: tuple[int, ...]
    blobs: int
    environments: int
    size: int
    caches: int = 0


def roots(store: Store, keep: int, pinned: Collection[int]) -> frozenset[int]:
    """The generations that stay: what serves, what may have to, the newest good, the pinned."""
    state, present = store.slots.load(), store.generations()
    good = [number for number in store.history.read().good() if number in present]
    named = {store.current(), state.last_good, state.prev_good, *pinned, *good[: max(keep, KEEP)]}
    return frozenset(number for number in present if number in named)


def collect(store: Store, keep: int = KEEP, *, pinned: Collection[int] = ()) -> Freed:
    """Remove old generations, their blobs, and the environments and caches only they name.

    The caller holds the box and has recovered it: roots are read here, under the lock.

    Args:
        keep: good generations to keep, at least 2.
        pinned: more generations to keep. Those that running containers have mounted stay, too.

    Raises:
        Failed: `unfinished-transaction`: never during a trial.
        NeedsPerson: a kept generation is unreadable, so nobody can say what it needs.
    """
    if store.journal.read() is not None:
        raise Failed(
            "unfinished-transaction",
            "an earlier command was interrupted; what it needs is not removed",
            hint="finish or undo it: ./aibox recover",
            fault=Fault.HOST,
        )
    kept = roots(store, keep, {*pinned, *mounted_generations(store.layout.root)})
    needed = frozenset(digest for number in kept for digest in store.contents(number).blobs())
    store.clear_staging(parts=True)
    doomed = tuple(number for number in store.generations() if number not in kept)
    environments = _unnamed_environments(store, kept)
    caches = prerequisites.unnamed_caches(store.layout.root, map(store.layout.generation, kept))
    for number in doomed:
        _retire(store, store.layout.generation(number), f"trash-{number}")
    size = sum(map(_size, (*environments, *caches)))
    for folder in (*environments, *caches):
        _retire(store, folder, f"trash-{folder.name}")
    store.clear_staging(parts=True)
    blobs, blob_size = _remove_blobs(store, needed)
    store.verified.save()
    return Freed(doomed, blobs, len(environments), size + blob_size, len(caches))


def _retire(store: Store, folder: Path, name: str) -> None:
    store.filesystem.move(folder, store.layout.staging / name)


def _unnamed_environments(store: Store, kept: frozenset[int]) -> list[Path]:
    """Environment folders no kept plan names; none if a plan cannot be read."""
    try:
        named = {json.loads(store.file(number, "plan.json")).get("environment") for number in kept}
        folders = sorted(store.layout.environments.iterdir())
    except (OSError, ValueError, AttributeError, AiboxError):
        return []
    return [folder for folder in folders if folder.name not in named]


def _remove_blobs(store: Store, needed: frozenset[str]) -> tuple[int, int]:
    """(count, bytes) of the blobs removed; quarantined bytes nobody needs go too."""
    count = size = 0
    for folder in sorted(store.layout.blobs.iterdir()):
        unneeded = [blob for blob in sorted(folder.iterdir()) if blob.name not in needed]
        for blob in unneeded:
            count, size = count + 1, size + blob.lstat().st_size
            store.verified.forget(blob.name)
            store.filesystem.unlink(blob)
        if unneeded:
            store.filesystem.sync_directory(folder)
    for kept_aside in sorted(store.layout.quarantine.iterdir()):
        if is_digest(kept_aside.name) and kept_aside.name not in needed:
            store.filesystem.unlink(kept_aside)
    return count, size


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
