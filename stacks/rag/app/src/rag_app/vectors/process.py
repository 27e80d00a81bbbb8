"""The engine's process, seen from the event loop: calls in order, one at a time."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

from rag_app.errors import VectorsUnavailable
from rag_app.vectors import frames

_MODULE = "rag_app.vectors.engine"
_POLL_S = 0.005


class EngineProcess:
    """Starts the engine and waits until it is open; `wait` tells when it has ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self.pending = 0

    @classmethod
    async def start(cls, *arguments: str) -> tuple[EngineProcess, Mapping[str, Any]]:
        """The engine with its index open, and what it says about the index."""
        engine = cls(await spawn(*arguments, pipes=True))
        return engine, await engine._reply()

    async def call(self, name: str, *arguments: Any) -> Any:
        """Result of a call; raises `VectorsUnavailable` with the engine's reason."""
        self.pending += 1
        # Shielded: an answer that nobody waits for any more must still be read off the pipe.
        return await asyncio.shield(asyncio.ensure_future(self._call(name, arguments)))

    async def wait(self) -> int:
        """The exit status, once the process has ended."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Let it finish what it was asked for, and end; nobody may ask it any more."""
        while self.pending:
            await asyncio.sleep(_POLL_S)
        async with self._turn:
            if self._process.stdin:
                self._process.stdin.close()
            with suppress(ProcessLookupError):
                await self._process.wait()

    async def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        try:
            async with self._turn:
                return await self._exchange(name, arguments)
        finally:
            self.pending -= 1

    async def _exchange(self, name: str, arguments: tuple[Any, ...]) -> Any:
        stream = self._process.stdin
        if stream is None or stream.is_closing():
            raise VectorsUnavailable("the vector engine has been stopped")
        try:
            stream.write(frames.encode({"call": name, "arguments": arguments}))
            await stream.drain()
        except OSError as error:
            raise VectorsUnavailable("the vector engine ended unexpectedly") from error
        return await self._reply()

    async def _reply(self) -> Any:
        stream = self._process.stdout
        if stream is None:
            raise VectorsUnavailable("the vector engine has no output")
        try:
            head = await stream.readexactly(frames.HEAD)
            reply = orjson.loads(await stream.readexactly(frames.length(head)))
        except asyncio.IncompleteReadError as error:
            raise VectorsUnavailable("the vector engine ended unexpectedly") from error
        if "error" in reply:
            raise VectorsUnavailable(f"the vector engine refused: {reply['error']}")
        return reply["result"]


async def spawn(*arguments: str, pipes: bool = False) -> asyncio.subprocess.Process:
    """Run the engine's module with the import path of this process."""
    pipe = asyncio.subprocess.PIPE if pipes else asyncio.subprocess.DEVNULL
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", _MODULE, *arguments, stdin=pipe, stdout=pipe, env=environment
    )
