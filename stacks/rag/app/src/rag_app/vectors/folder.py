"""Where an index lies on disk, and what to do with one that cannot be used.

    index/lock                      held by the one vectors process
    index/<signature>/state.json    which shard serves, and the name of the index
    index/<signature>/shard-<n>/    files of the engine
    index/broken/                   the last index that did not load, for a look at the reason

Everything here can be made again from the library, so nothing here is worth repairing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import orjson

from rag_app.errors import VectorsUnavailable

_STATE = "state.json"
_BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class IndexState:
    """`name` changes when the content was lost; `optimised` points were in the last packing."""

    name: str
    shard: str
    optimised: int = 0


class IndexFolder:
    """The index of one signature below `root` (`data/rag/index`)."""

    def __init__(self, root: Path, signature: str) -> None:
        self.root = root
        self.path = root / signature
        self.path.mkdir(parents=True, exist_ok=True)

    def state(self) -> IndexState | None:
        """The index that serves, or None when there is none that could be tried."""
        try:
            stored = IndexState(**orjson.loads((self.path / _STATE).read_bytes()))
        except (OSError, orjson.JSONDecodeError, TypeError):
            return None
        return stored if (self.path / stored.shard).is_dir() else None

    def shard(self, state: IndexState) -> Path:
        """The folder of a shard."""
        return self.path / state.shard

    def new_state(self, name: str = "", optimised: int = 0) -> IndexState:
        """A shard that does not exist yet; under a new name unless one is given."""
        unique = uuid.uuid4().hex[:16]
        return IndexState(name or unique, f"shard-{unique}", optimised)

    def commit(self, state: IndexState) -> None:
        """Make `state` the index that serves from the next start on, durably."""
        temporary = self.path / f"{_STATE}.new"
        with temporary.open("wb") as file:
            file.write(orjson.dumps(state))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / _STATE)

    def sweep(self, state: IndexState) -> None:
        """Remove shards that do not serve: left-overs of a crash or of an optimisation."""
        for entry in self.path.glob("shard-*"):
            if entry.name != state.shard:
                shutil.rmtree(entry, ignore_errors=True)

    def move_aside(self) -> Path:
        """Put what cannot be loaded into `broken/` (the last one only); where it is now."""
        broken = self.root / _BROKEN
        shutil.rmtree(broken, ignore_errors=True)
        self.path.replace(broken)
        self.path.mkdir(parents=True)
        return broken

    def prune(self, kept: int) -> None:
        """Remove the indexes of other signatures but the `kept` - 1 last used ones."""
        os.utime(self.path)
        others = [
            entry
            for entry in self.root.iterdir()
            if entry.is_dir() and entry.name not in (self.path.name, _BROKEN)
        ]
        others.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        for entry in others[kept - 1 :]:
            shutil.rmtree(entry, ignore_errors=True)


class IndexLock:
    """Held by the process that serves; ends with it, however it ends."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._file = (root / "lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise VectorsUnavailable(self._refusal(root)) from error
        self._file.seek(0)
        self._file.truncate()
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let another process serve."""
        self._file.close()

    def _refusal(self, root: Path) -> str:
        self._file.seek(0)
        holder = self._file.read().strip() or "unknown"
        self._file.close()
        return f"another vectors process (pid {holder}) already serves {root}; stop it first"
