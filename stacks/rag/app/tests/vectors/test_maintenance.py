"""An index is packed in quiet moments, by another process, and goes on answering."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest
from async_helpers import run

from rag_app.errors import VectorsUnavailable
from rag_app.vectors import maintenance as module
from rag_app.vectors.folder import IndexFolder
from rag_app.vectors.maintenance import Maintenance

DEADLINE_S = 30.0


def points(first: int, number: int) -> list[list[object]]:
    return [
        [identity, "d", [7, 1000 + identity], [1.0, 1.0], None]
        for identity in range(first, first + number)
    ]


async def opened(index: Maintenance) -> asyncio.Task[None]:
    keeping = asyncio.create_task(index.run())
    await until(lambda: bool(index.readiness()["ready"]))
    return keeping


async def until(holds: object) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def closed(index: Maintenance, keeping: asyncio.Task[None]) -> None:
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    await index.stop()


def shard(root: Path) -> str:
    state = IndexFolder(root, "s").state()
    assert state is not None
    return state.shard


def quick(root: Path, worthwhile: int = 10) -> Maintenance:
    return Maintenance(root, "s", 0, quiet_s=0.05, worthwhile=worthwhile)


def test_a_quiet_index_is_replaced_with_a_packed_copy_of_the_same_name(tmp_path: Path) -> None:
    async def work() -> None:
        index = quick(tmp_path)
        keeping = await opened(index)
        before, name = shard(tmp_path), index.readiness()["index"]
        await index.write("upsert", points(0, 30))
        await until(lambda: shard(tmp_path) != before and index.readiness()["ready"])
        while len(list((tmp_path / "s").glob("shard-*"))) > 1:  # Until the old one is swept.
            assert await index.read("count") == 30
        assert index.readiness()["index"] == name
        assert len((await index.read("search", [[1003], [1.0]], None, 5))["sparse"]) == 1
        await index.write("upsert", points(30, 5))
        assert await index.read("count") == 35
        await closed(index, keeping)

    run_long(work())


def test_searches_are_answered_all_the_time(tmp_path: Path) -> None:
    async def work() -> None:
        index = quick(tmp_path)
        keeping = await opened(index)
        before = shard(tmp_path)
        await index.write("upsert", points(0, 30))
        answers = 0
        while shard(tmp_path) == before:
            assert len((await index.read("search", [[7], [1.0]], None, 50))["sparse"]) == 30
            answers += 1
            await asyncio.sleep(0.01)
        assert answers > 1
        await closed(index, keeping)

    run_long(work())


def test_a_copy_that_misses_a_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        index = quick(tmp_path)
        spawned: list[str] = []

        async def write_meanwhile(
            *arguments: str, pipes: bool = False
        ) -> asyncio.subprocess.Process:
            process = await original(*arguments, pipes=pipes)
            if len(spawned) == 0:
                await index.write("upsert", points(500, 1))
            spawned.append(arguments[1])
            return process

        original = module.spawn
        keeping = await opened(index)
        await index.write("upsert", points(0, 30))
        monkeypatch.setattr(module, "spawn", write_meanwhile)
        await until(lambda: len(spawned) > 1)
        assert not Path(spawned[0]).exists()
        assert await index.read("count") == 31
        await closed(index, keeping)

    run_long(work())


class Watched(Maintenance):
    """Counts how often it looked whether packing is worthwhile."""

    looks = 0

    def _is_worthwhile(self, points: int) -> bool:
        self.looks += 1
        return super()._is_worthwhile(points)


@pytest.mark.parametrize("reason", ["few", "memory"])
def test_packing_waits_for_a_reason_and_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    async def work() -> None:
        worthwhile = 1000 if reason == "few" else 10
        index = Watched(tmp_path, "s", 0, quiet_s=0.05, worthwhile=worthwhile)
        keeping = await opened(index)
        await index.write("upsert", points(0, 30))
        seen = index.looks
        await until(lambda: index.looks > seen + 3)
        assert len(list((tmp_path / "s").glob("shard-*"))) == 1
        await closed(index, keeping)

    if reason == "memory":
        monkeypatch.setattr(module, "available_memory", lambda: 1000)
    run_long(work())


def test_calls_before_the_index_is_open_say_so(tmp_path: Path) -> None:
    index = quick(tmp_path)
    assert index.readiness() == {
        "ready": False,
        "reason": "the search index is being opened",
        "index": "",
    }
    with pytest.raises(VectorsUnavailable, match="being opened"):
        run(index.read("count"))


def test_available_memory_is_a_number_of_bytes() -> None:
    assert module.available_memory() > 1024 * 1024


def run_long(work: object) -> None:
    asyncio.run(asyncio.wait_for(work, DEADLINE_S))  # type: ignore[arg-type]
