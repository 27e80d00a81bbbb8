"""Admission: bounded places, a bounded queue, a bounded wait, and an honest time to come back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from app_doubles import LanguageModelDouble, make_box
from async_helpers import run
from hypothesis import given
from hypothesis import strategies as st
from loopback import serving

from rag_app.web.admission import LATEST_S, SOONEST_S, Admission, retry_after_s
from rag_app.web.app import build
from rag_app.web.refusal import Refusal

LIMITS = st.integers(1, 500)
WAITING = st.integers(0, 500)
HELD = st.floats(0, 3600)


@given(LIMITS, WAITING, HELD)
def test_the_time_to_come_back_is_bounded(limit: int, waiting: int, held_s: float) -> None:
    assert SOONEST_S <= retry_after_s(limit, waiting, held_s) <= LATEST_S


@given(LIMITS, WAITING, HELD, st.integers(0, 50), st.floats(0, 60))
def test_it_grows_with_the_queue_and_with_how_long_answers_take(
    limit: int, waiting: int, held_s: float, more: int, longer_s: float
) -> None:
    known = retry_after_s(limit, waiting, held_s)
    assert retry_after_s(limit, waiting + more, held_s + longer_s) >= known
    assert retry_after_s(limit + more, waiting, held_s) <= known


def test_it_follows_how_long_places_were_really_held() -> None:
    now = [0.0]

    async def work() -> list[str]:
        admission = Admission(1, clock=lambda: now[0])
        told = []
        for _ in range(20):
            async with admission.admitted():
                now[0] += 30.0
                with pytest.raises(Refusal) as refused:
                    await admission.admitted().__aenter__()
                told.append(refused.value.headers["retry-after"])
        return told

    told = run(work())
    assert told[0] == "5"
    assert 25 < int(told[-1]) <= 30
    assert sorted(told, key=int) == told


def test_turns_come_in_the_order_of_the_questions() -> None:
    async def work() -> list[int]:
        admission, order = Admission(1, 3, 5.0), []

        async def ask(number: int) -> None:
            async with admission.admitted():
                order.append(number)
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as asking:
            for number in range(4):
                asking.create_task(ask(number))
                await asyncio.sleep(0)
        assert (admission.running, admission.waiting) == (0, 0)
        return order

    assert run(work()) == [0, 1, 2, 3]


def test_nobody_waits_longer_than_agreed() -> None:
    async def work() -> None:
        admission = Admission(1, 1, 0.05)
        async with admission.admitted():
            with pytest.raises(Refusal) as refused:
                await admission.admitted().__aenter__()
            assert (refused.value.status, admission.waiting) == (503, 0)
        assert admission.running == 0

    run(work())


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 3), st.integers(0, 4))
def test_whoever_leaves_at_whatever_moment_takes_no_place_along(
    moments: list[int], limit: int, queue: int
) -> None:
    async def work() -> None:
        admission, most = Admission(limit, queue, 5.0), 0

        async def ask() -> None:
            nonlocal most
            with suppress(Refusal):
                async with admission.admitted():
                    most = max(most, admission.running)
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(ask()) for _ in moments]
        for step in range(7):
            assert admission.waiting <= queue
            for task, moment in zip(tasks, moments, strict=True):
                if moment == step:
                    task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (admission.running, admission.waiting) == (0, 0)
        assert most <= limit

    run(work())


def test_of_many_clients_at_once_each_is_answered_or_told_when_to_come_back(
    tmp_path: Path,
) -> None:
    """Real HTTP on loopback; the model is a double that takes a tenth of a second."""
    model = LanguageModelDouble(["Yes ", "[1]."], pause_s=0.05)
    limits = {"max_concurrent_answers": 4, "max_waiting_questions": 8, "max_wait_s": 10.0}
    box = make_box(tmp_path, model=model, server=limits)
    box.library.hold("manual.md", "Type aibox rollback to roll back.")

    async def ask(client: httpx.AsyncClient) -> int:
        """Asks until it is answered, as it is told to; how often it had to come back."""
        for times in range(60):
            answer = await client.post("/api/ask", json={"question": "roll back"})
            if answer.status_code == 200:
                assert answer.json()["answer"] == "Yes [1]."
                return times
            assert answer.status_code == 503
            told = answer.json()["error"]
            assert (told["reference"], told["fault"]) == ("busy", "the host")
            assert told["retry_after_s"] == int(answer.headers["retry-after"]) >= 1
            await asyncio.sleep(0.1)  # Less than told: a test need not wait for whole seconds.
        raise AssertionError("it was never answered")

    async def work(url: str) -> list[int]:
        many = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(
            base_url=url, trust_env=False, timeout=30, limits=many
        ) as client:
            return list(await asyncio.gather(*(ask(client) for _ in range(40))))

    with serving(build(box.services)) as url:
        returned = run(work(url))
    assert sum(times > 0 for times in returned) > 0
    assert len(model.histories) == 40
    assert (box.services.admission.running, box.services.admission.waiting) == (0, 0)
