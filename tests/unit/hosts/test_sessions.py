"""Several hosts told what to do: in which order, and what becomes of all when one fails.

The hosts are doubles that answer by a script and keep what they were told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from aibox.errors import AiboxError, ExitCode, Failed, Fault, NeedsPerson, RolledBack
from aibox.hosts.connections import Connections
from aibox.hosts.sessions import Sessions
from aibox.orders import Order, Step
from aibox.site import Host, Site, Together

ADDRESSES = {"cards": "10.0.0.1", "data": "10.0.0.2", "door": "10.0.0.3"}
GROUPS: dict[str, Any] = {"cards": ("gpu",), "data": ("vector", "app"), "door": ("gateway",)}
PASSED = {"passed": True, "reason": ""}
LOST = Failed("host-lost", "the host data was lost", hint="./aibox status", fault=Fault.HOST)
REBOOT = NeedsPerson(
    "reboot-needed", "x", context="nouveau", hint="systemctl reboot", fault=Fault.HOST
)
Said = dict[str, Any] | AiboxError


@dataclass
class Hosts:
    """The doubles. `answers` replaces what a host says to a step, once each in turn."""

    told: list[tuple[str, Step]] = field(default_factory=list)
    answers: dict[tuple[str, Step], list[Said]] = field(default_factory=dict)
    served_before: bool = True
    values: list[dict[str, str]] = field(default_factory=list)

    def say(self, name: str, step: Step, *said: Said) -> None:
        self.answers[name, step] = list(said)

    def ask(self, name: str, order: Order) -> dict[str, Any]:
        self.told.append((name, order.step))
        if order.values:
            self.values.append({name: str(order.values)})
        scripted = self.answers.get((name, order.step))
        said = scripted.pop(0) if scripted else self._usual(order.step)
        if isinstance(said, AiboxError):
            raise said
        return said

    def _usual(self, step: Step) -> dict[str, Any]:
        usual: dict[Step, dict[str, Any]] = {
            Step.HOLD: {"boot": "one"},
            Step.APPLY: PASSED,
            Step.GATE: PASSED,
            Step.COMMIT: {"generation": 2},
            Step.UNDO: {"serving": 1 if self.served_before else None, "undone": True},
            Step.AIM: {"generation": 1, "release": "a" * 64},
            Step.REBOOT: {"boot": "one"},
            Step.STAGE: {"generation": 2, "changed": True},
            Step.REVEAL: {"chat-api-key": "5ecret"},
        }
        return usual.get(step, {})

    def steps(self, *wanted: Step) -> list[tuple[str, Step]]:
        return [one for one in self.told if one[1] in wanted]


@dataclass
class SessionDouble:
    name: str
    hosts: Hosts

    def ask(self, order: Order) -> dict[str, Any]:
        return self.hosts.ask(self.name, order)

    def close(self) -> None:
        self.hosts.told.append((self.name, Step.ALIVE))


@dataclass
class LanesDouble:
    hosts: Hosts
    lines: list[str] = field(default_factory=list)
    closing: ExitStack = field(default_factory=ExitStack)

    def session(self, name: str, _words: Sequence[str]) -> SessionDouble:
        return SessionDouble(name, self.hosts)

    def each(self, work: Callable[[str], Any], names: Sequence[str] | None = None) -> Any:
        return {name: work(name) for name in (sorted(ADDRESSES) if names is None else names)}

    def teller(self, _name: str) -> Callable[[str], None]:
        return self.lines.append

    def await_reboot(self, name: str) -> None:
        self.lines.append(f"{name} is back")


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


def opened(hosts: Hosts, policy: Any = "all-go-back") -> tuple[Sessions, LanesDouble]:
    site = Site(
        hosts={name: Host(address=ADDRESSES[name], groups=GROUPS[name]) for name in ADDRESSES},
        together=Together(when_one_fails=policy),
    )
    connections = LanesDouble(hosts)
    made = Sessions(site, cast(Connections, connections))
    # Open for the whole test: what closes them is kept with the connections.
    connections.closing.enter_context(made.opened(lambda name: [name]))
    return made, connections


def ended(sessions: Sessions) -> AiboxError:
    with pytest.raises(AiboxError) as caught:
        sessions.activate()
    return caught.value


def test_locks_are_taken_in_the_order_of_names(hosts: Hosts) -> None:
    sessions, _ = opened(hosts)
    sessions.hold()
    assert hosts.told == [(name, Step.HOLD) for name in ("cards", "data", "door")]


def test_all_start_before_any_is_judged_and_are_judged_before_any_commits(hosts: Hosts) -> None:
    sessions, _ = opened(hosts)
    assert sessions.activate() == dict.fromkeys(ADDRESSES, 2)
    order = [step for _, step in hosts.told]
    assert order == [Step.APPLY] * 3 + [Step.GATE] * 3 + [Step.COMMIT] * 3


@pytest.mark.parametrize("step", [Step.APPLY, Step.GATE])
def test_one_that_fails_takes_all_back(hosts: Hosts, step: Step) -> None:
    hosts.say("data", step, {"passed": False, "reason": "web is unhealthy"})
    error = ended(opened(hosts)[0])
    assert isinstance(error, RolledBack)
    assert error.exit_code is ExitCode.ROLLED_BACK
    assert "the host data: web is unhealthy" in error.message
    assert hosts.steps(Step.UNDO) == [(name, Step.UNDO) for name in ADDRESSES]
    assert hosts.steps(Step.COMMIT) == []


def test_one_that_is_lost_takes_all_back_and_is_told_to_go_back_by_itself(hosts: Hosts) -> None:
    hosts.say("data", Step.GATE, LOST)
    hosts.say("data", Step.UNDO, LOST)
    error = ended(opened(hosts)[0])
    assert error.exit_code is ExitCode.ROLLED_BACK
    assert "data cannot be asked, and goes back by itself" in error.message


def test_a_first_installation_that_fails_is_no_rollback(hosts: Hosts) -> None:
    hosts.served_before = False
    hosts.say("cards", Step.APPLY, {"passed": False, "reason": "no GPU"})
    error = ended(opened(hosts)[0])
    assert error.exit_code is ExitCode.FAILED
    assert "nothing was served before" in error.message


def test_one_lost_at_its_commit_takes_those_back_that_had_committed(hosts: Hosts) -> None:
    hosts.say("data", Step.COMMIT, LOST)
    error = ended(opened(hosts)[0])
    assert error.exit_code is ExitCode.ROLLED_BACK
    assert ("door", Step.COMMIT) not in hosts.told
    assert {name for name, _ in hosts.steps(Step.UNDO)} == {"data", "door"}
    after = hosts.told[hosts.told.index(("cards", Step.AIM)) :]
    assert [step for _, step in after] == [Step.AIM, Step.APPLY, Step.GATE, Step.COMMIT]
    assert {name for name, _ in after} == {"cards"}


def test_where_the_site_says_so_the_others_stay(hosts: Hosts) -> None:
    hosts.say("data", Step.APPLY, {"passed": False, "reason": "no room"})
    error = ended(opened(hosts, "others-stay")[0])
    assert error.exit_code is ExitCode.ROLLED_BACK
    assert "stay with the new release" in error.message
    assert {name for name, _ in hosts.steps(Step.COMMIT)} == {"cards", "door"}
    assert hosts.steps(Step.UNDO) == [("data", Step.UNDO)]


def test_a_host_that_asks_for_a_reboot_gets_it_and_goes_on(hosts: Hosts) -> None:
    hosts.say("cards", Step.STAGE, REBOOT)
    hosts.say("cards", Step.HOLD, {"boot": "two"})
    sessions, connections = opened(hosts)
    sessions.stage(lambda _name: Order(step=Step.STAGE))
    mine = [step for name, step in hosts.told if name == "cards"]
    assert mine == [Step.STAGE, Step.REBOOT, Step.ALIVE, Step.HOLD, Step.STAGE]
    assert connections.lines == ["reboots: nouveau", "cards is back"]


def test_a_host_that_did_not_reboot_is_told(hosts: Hosts) -> None:
    hosts.say("cards", Step.STAGE, REBOOT)
    sessions, _ = opened(hosts)
    with pytest.raises(Failed, match="cards was told to reboot and did not"):
        sessions.stage(lambda _name: Order(step=Step.STAGE))


def test_hosts_that_served_different_releases_do_not_go_back(hosts: Hosts) -> None:
    hosts.say("door", Step.AIM, {"generation": 1, "release": "b" * 64})
    sessions, _ = opened(hosts)
    with pytest.raises(Failed, match="did not serve the same release"):
        sessions.aim("asked for")


def test_a_secret_goes_from_its_owner_to_the_others_alone(hosts: Hosts) -> None:
    sessions, connections = opened(hosts)
    sessions.share({"chat-api-key": ("cards", "data")})
    assert hosts.told == [("cards", Step.REVEAL), ("data", Step.ADOPT)]
    assert hosts.values == [{"data": "{'chat-api-key': '5ecret'}"}]
    assert not any("5ecret" in line for line in connections.lines)
