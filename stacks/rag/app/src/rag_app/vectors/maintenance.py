"""Keeps one index open and, in quiet moments, replaces it with an optimised copy.

Optimising packs an index: a third of the memory, a faster start, and the graph that dense search
needs. The engine does it in place and answers nothing meanwhile, for seconds to minutes. So a
copy is optimised by a process of its own while the original goes on serving; if nothing was
written until it is done, the copy takes over.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag_app.errors import VectorsUnavailable
from rag_app.vectors.folder import IndexFolder, IndexState
from rag_app.vectors.process import EngineProcess, spawn

QUIET_S = 60.0
# Below this many points since the last time there is nothing to gain.
WORTHWHILE_POINTS = 20_000
_WORTHWHILE_SHARE = 0.25
# Measured: 1.4 GB at the peak for 100,000 points of about 190 terms; dense vectors come on top.
_BYTES_PER_POINT = 16_000
_BYTES_PER_DIMENSION = 8


class Maintenance:
    """Calls go to the index that serves now; `run` opens it and ends only when it fails."""

    def __init__(
        self,
        root: Path,
        signature: str,
        dimension: int,
        *,
        quiet_s: float = QUIET_S,
        worthwhile: int = WORTHWHILE_POINTS,
    ) -> None:
        self._root = root
        self._folder = IndexFolder(root, signature)
        self._dimension = dimension
        self._arguments = (str(root), signature, str(dimension))
        self._quiet_s = quiet_s
        self._worthwhile = worthwhile
        self._engine: EngineProcess | None = None
        self._state = IndexState("", "")
        self._writing = asyncio.Lock()
        self._writes = 0
        self._wrote = time.monotonic()

    def readiness(self) -> dict[str, Any]:
        """Fields of `rag_app.interfaces.Readiness`."""
        engine = self._engine
        if engine is None:
            return {"ready": False, "reason": "the search index is being opened", "index": ""}
        return {"ready": True, "reason": "", "pending": engine.pending, "index": self._state.name}

    async def read(self, name: str, *arguments: Any) -> Any:
        """A call that changes nothing."""
        return await self._serving().call(name, *arguments)

    async def write(self, name: str, *arguments: Any) -> Any:
        """A call that changes the index; waits while the index is being copied."""
        async with self._writing:
            self._writes += 1
            self._wrote = time.monotonic()
            return await self._serving().call(name, *arguments)

    async def run(self) -> None:
        """Open the index and look after it; raises `VectorsUnavailable` when the engine ends."""
        while True:
            engine = await self._open()
            ended = asyncio.ensure_future(engine.wait())
            replaced = asyncio.ensure_future(self._replace_when_worthwhile(engine))
            await asyncio.wait((ended, replaced), return_when=asyncio.FIRST_COMPLETED)
            if not replaced.done():
                replaced.cancel()
                raise VectorsUnavailable("the vector engine ended unexpectedly")
            replaced.result()
            ended.cancel()

    async def stop(self) -> None:
        """Close the index."""
        engine, self._engine = self._engine, None
        if engine:
            await engine.stop()

    async def _open(self) -> EngineProcess:
        if self._engine is None:
            self._engine, said = await EngineProcess.start(*self._arguments)
            self._take(said)
        return self._engine

    def _serving(self) -> EngineProcess:
        if self._engine is None:
            raise VectorsUnavailable("the search index is being opened")
        return self._engine

    def _take(self, said: Mapping[str, Any]) -> None:
        self._state = IndexState(said["name"], said["shard"], said["optimised"])

    async def _replace_when_worthwhile(self, engine: EngineProcess) -> None:
        while not await self._optimise(engine):
            await asyncio.sleep(self._quiet_s)

    async def _optimise(self, engine: EngineProcess) -> bool:
        """Whether the index was replaced with an optimised copy."""
        points = int(await engine.call("count"))
        if not self._is_worthwhile(points) or not self._has_room(points):
            return False
        copy = self._folder.new_state(self._state.name, points)
        writes = await self._copy(copy)
        path = str(self._folder.shard(copy))
        process = await spawn("--optimise", path, str(self._dimension))
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        async with self._writing:
            if status or writes != self._writes:
                self._folder.sweep(self._state)
                return False
            await self._switch(engine, copy)
        return True

    async def _copy(self, copy: IndexState) -> int:
        async with self._writing:
            source, target = self._folder.shard(self._state), self._folder.shard(copy)
            await asyncio.to_thread(shutil.copytree, source, target)
            return self._writes

    async def _switch(self, engine: EngineProcess, copy: IndexState) -> None:
        """Searches that arrive in between wait for the new engine's first answer."""
        self._folder.commit(copy)
        successor, said = await EngineProcess.start(*self._arguments)
        self._engine = successor
        self._take(said)
        await engine.stop()

    def _is_worthwhile(self, points: int) -> bool:
        changed = abs(points - self._state.optimised)
        quiet = time.monotonic() - self._wrote >= self._quiet_s
        return quiet and changed >= max(self._worthwhile, _WORTHWHILE_SHARE * points)

    def _has_room(self, points: int) -> bool:
        memory = points * (_BYTES_PER_POINT + _BYTES_PER_DIMENSION * self._dimension)
        size = sum(file.stat().st_size for file in self._folder.path.rglob("*") if file.is_file())
        return available_memory() > 2 * memory and shutil.disk_usage(self._root).free > 4 * size


def available_memory() -> int:
    """Bytes that can be used without swapping; without the kernel's word, plenty."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return sys.maxsize
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024
