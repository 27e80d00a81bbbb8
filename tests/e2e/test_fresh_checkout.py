"""From a clean clone to a cited answer in one command; then upgrade, kill, rollback and removal.

One journey: every test goes on where the one before it stopped, as the operator does.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .journey import Person, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

QUESTION = "How do I roll back a failed upgrade?"
RULE_SECONDS_BETWEEN_WORDS = 5
SCHEDULING_SECONDS = 2


def install(person: Person) -> Any:
    done = person.types("install", "--profile", "local", "--port", str(person.port), "--json")
    return done.json


def status(person: Person) -> Any:
    return person.types("status", "--json").json


def ask(person: Person, question: str = QUESTION) -> Any:
    return person.types("ask", question, "--json").json


def cited(answer: Any) -> list[str]:
    return [citation["document"] for citation in answer["citations"]]


def lock_with(person: Person, name: str, value: str) -> Path:
    """A copy of models.lock in which one tuning value differs, in every profile."""
    text = (person.checkout / "models.lock").read_text(encoding="utf-8")
    changed, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
    assert count > 0
    path = person.home / f"{name}.lock"
    path.write_text(changed, encoding="utf-8")
    return path


def stored(person: Person) -> dict[str, tuple[int, int]]:
    """Every file of the store and of the generations: inode and size."""
    return {
        str(path.relative_to(person.box)): (path.lstat().st_ino, path.lstat().st_size)
        for part in ("blobs", "gens")
        for path in (person.box / part).rglob("*")
    }


def web(person: Person) -> Any:
    (service,) = (s for s in status(person)["services"] if s["name"] == "web")
    return service


def test_one_command_installs_and_is_never_silent_for_long(person: Person) -> None:
    done = person.types("install", "--profile", "local", "--port", str(person.port), "--json")
    assert done.json["generation"] == 1
    assert done.longest_silence < RULE_SECONDS_BETWEEN_WORDS + SCHEDULING_SECONDS


def test_it_answers_out_of_the_operators_manual(person: Person) -> None:
    answer = ask(person)
    assert answer["grounded"] is True
    assert cited(answer)[0].endswith("upgrade-and-rollback.md")


def test_it_answers_in_korean(person: Person) -> None:
    answer = ask(person, "업그레이드가 실패했을 때 이전 버전으로 어떻게 되돌리나요?")
    assert any(name.endswith("ko/upgrade-and-rollback.md") for name in cited(answer))


def test_it_says_when_the_documents_do_not_hold_the_answer(person: Person) -> None:
    answer = ask(person, "What is on the canteen menu this Friday?")
    assert (answer["grounded"], answer["citations"]) == (False, [])


def test_status_tells_what_runs(person: Person) -> None:
    told = status(person)
    assert (told["generation"], told["profile"], told["state"]) == (1, "local", "running")
    assert told["last_gate"]["passed"] is True
    assert {service["state"] for service in told["services"]} == {"running"}
    assert told["differences"] == []


def test_installing_again_changes_nothing(person: Person) -> None:
    before = stored(person)
    assert install(person)["generation"] == 1
    assert stored(person) == before


def test_a_killed_service_comes_back(person: Person) -> None:
    victim = web(person)["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: web(person)["pid"] not in (None, 0, victim), 60, "a new web process")
    wait_until(lambda: web(person)["state"] == "running", 60, "the web process runs")
    person.types("start")
    assert ask(person)["grounded"] is True


def test_stop_leaves_no_process_and_start_serves_again(person: Person) -> None:
    person.types("stop")
    assert person.processes() == {}
    assert "hint: " in person.types("ask", QUESTION, code=1).err
    person.types("start")
    assert ask(person)["grounded"] is True


def test_an_upgrade_makes_a_second_generation(person: Person) -> None:
    before = status(person)["release"]
    lock = lock_with(person, "top_k", "5")
    assert (
        person.types("upgrade", "--lockfile", str(lock), "--yes", "--json").json["generation"] == 2
    )
    assert status(person)["release"] != before
    assert ask(person)["grounded"] is True


def test_an_upgrade_that_fails_its_gate_undoes_itself(person: Person) -> None:
    serving = status(person)["release"]
    # Nothing is ever that certain, so every golden question goes unanswered.
    lock = lock_with(person, "evidence_threshold", "1.0")
    person.types("upgrade", "--lockfile", str(lock), "--yes", code=5)
    assert status(person)["release"] == serving
    assert ask(person)["grounded"] is True
    facts = person.types("history", "--json").json
    assert [(fact["generation"], fact["outcome"]) for fact in facts][-2:] == [
        (3, "failed"),
        (2, "rolled_back"),
    ]


def test_rollback_serves_the_first_generation_and_copies_nothing(person: Person) -> None:
    before = stored(person)
    person.types("rollback", "--to", "1")
    assert status(person)["generation"] == 1
    assert stored(person) == before
    assert ask(person)["grounded"] is True


def test_purge_leaves_nothing_and_installing_again_works(person: Person) -> None:
    person.types("uninstall", "--purge", "--yes")
    assert person.processes() == {}
    assert not person.box.exists()
    assert install(person)["generation"] == 1
    assert ask(person)["grounded"] is True


def test_the_end_leaves_no_process(person: Person) -> None:
    person.types("stop")
    assert person.processes() == {}


@pytest.fixture(scope="module", autouse=True)
def clean_machine(person: Person) -> Iterator[None]:
    """Whatever this journey leaves running is a failure, also when a test failed half-way."""
    yield
    assert person.processes() == {}, "processes were left behind"
