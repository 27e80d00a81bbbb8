"""What the module offline_packages brings and takes away; the package manager is a double."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

OWNER = "container_runtime.packages.json"


@pytest.fixture(scope="module")
def module(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("offline_repo/offline_packages")


class PowerCut(Exception):
    """The host went away."""


@dataclass
class ManagerDouble:
    """A package manager in memory: `needs` are dependencies, all of version 1 unless `offered`."""

    module: ModuleType
    work: Path
    needs: dict[str, set[str]]
    have: dict[str, str] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)
    offered: dict[str, str] = field(default_factory=dict)
    would_remove: tuple[str, ...] = ()
    half_done: list[str] = field(default_factory=list)
    cut_after: int = 1_000_000
    calls: list[str] = field(default_factory=list)

    def installed(self) -> dict[str, str]:
        return dict(self.have)

    def interrupted(self) -> list[str]:
        return self.half_done

    def wanting(self, wanted: Sequence[str], ours: Collection[str]) -> list[str]:
        return [name for name in wanted if name not in self.have or name in ours]

    def plan(self, asked: Sequence[str]) -> Any:
        coming = {need for name in asked for need in self.closure(name)}
        here = self.have.keys() & {*asked}
        return self.module.Steps(
            new=tuple(sorted(coming - self.have.keys())),
            changed=tuple(name for name in sorted(here) if self.have[name] != self.is_in(name)),
            removed=self.would_remove,
        )

    def install(self, asked: Sequence[str], *, change_held: bool) -> None:
        self.calls.append("install")
        for name in (*self.plan(asked).new, *self.plan(asked).changed):
            if self.cut_after == 0:
                raise PowerCut
            self.cut_after -= 1
            self.have[name] = self.is_in(name)

    def repair(self) -> None:
        self.calls.append("repair")
        self.half_done.clear()

    def plan_removal(self, names: Sequence[str]) -> Any:
        going = {name for name in self.have if self.closure(name) & {*names}}
        return self.module.Steps(removed=tuple(sorted(going)))

    def remove(self, names: Sequence[str]) -> None:
        assert {*self.plan_removal(names).removed} <= {*names}
        self.have = {name: version for name, version in self.have.items() if name not in names}
        self.holds -= {*names}

    def held(self) -> set[str]:
        return set(self.holds)

    def hold(self, names: Collection[str]) -> None:
        self.holds |= {*names}

    def release(self, names: Collection[str]) -> None:
        self.holds -= {*names}

    def holder(self) -> str:
        return ""

    def is_in(self, name: str) -> str:
        return self.offered.get(name, "1")

    def closure(self, name: str) -> set[str]:
        found, waiting = set(), [name]
        while waiting:
            found.add(waiting[-1])
            waiting += self.needs.get(waiting.pop(), set()) - found
        return found


@pytest.fixture
def host(module: ModuleType, tmp_path: Path) -> Iterator[ManagerDouble]:
    """docker needs containerd and libc; the host has libc and an editor."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "apt.conf").touch()
    needs = {"docker": {"containerd", "libc"}, "containerd": {"libc"}, "editor": {"libc"}}
    yield ManagerDouble(module, work, needs, {"libc": "1", "editor": "1"})


def install(host: ManagerDouble, records: Path, *names: str, held: Sequence[str] = ()) -> Any:
    return host.module.install(host, records / OWNER, names, held)


def leave(host: ManagerDouble, records: Path, owner: str = OWNER) -> Any:
    return host.module.leave(host, records / owner, records)


def record(records: Path, owner: str = OWNER) -> Any:
    return json.loads((records / owner).read_text())


def test_what_came_is_written_down_and_exactly_that_is_taken_away(
    host: ManagerDouble, tmp_path: Path
) -> None:
    said = install(host, tmp_path, "docker", held=["docker", "libc"])
    assert said["brought"] == ["containerd", "docker"]
    assert record(tmp_path)["packages"] == {"containerd": "1", "docker": "1"}
    assert host.holds == {"docker"}  # libc is the host's own
    assert leave(host, tmp_path)["taken"] == ["containerd", "docker"]
    assert (host.have, host.holds) == ({"libc": "1", "editor": "1"}, set())
    assert not (tmp_path / OWNER).exists()


def test_a_second_run_has_nothing_to_do(host: ManagerDouble, tmp_path: Path) -> None:
    holds = ["docker", "libc"]  # one of them is the host's own
    install(host, tmp_path, "docker", held=holds)
    found = host.module.load(tmp_path / OWNER)
    assert host.module.plan(host, found, ["docker"], holds)["pending"] is False


def test_where_nothing_was_brought_nothing_is_taken(host: ManagerDouble, tmp_path: Path) -> None:
    assert leave(host, tmp_path) == host.module.result()


def test_without_the_repository_only_what_is_missing_is_told(
    host: ManagerDouble, module: ModuleType, tmp_path: Path
) -> None:
    (host.work / "apt.conf").unlink()
    said = module.plan(host, module.Record(), ["docker", "editor"], [])
    assert (said["changed"], said["brought"]) == (True, ["docker"])


def test_the_hosts_own_version_stays_and_ours_is_renewed(
    host: ManagerDouble, tmp_path: Path
) -> None:
    install(host, tmp_path, "docker", held=["docker"])
    host.offered = {"docker": "2", "editor": "2"}
    said = install(host, tmp_path, "docker", "editor", held=["docker"])
    assert said["renewed"] == ["docker"]
    assert (host.have["docker"], host.have["editor"]) == ("2", "1")
    assert record(tmp_path)["packages"]["docker"] == "2"


def test_nothing_begins_that_would_remove_a_package_of_the_host(
    host: ManagerDouble, tmp_path: Path
) -> None:
    host.would_remove = ("docker-ce",)
    with pytest.raises(host.module.Refused, match=r"docker-ce\).*dpkg --list docker-ce"):
        install(host, tmp_path, "docker")
    assert host.calls == []
    assert not (tmp_path / OWNER).exists()


def test_nothing_begins_that_would_change_what_the_host_holds(
    host: ManagerDouble, tmp_path: Path
) -> None:
    host.holds = {"containerd"}
    with pytest.raises(host.module.Refused, match="apt-mark unhold containerd"):
        install(host, tmp_path, "docker")
    assert host.calls == []


@pytest.mark.parametrize("survived", [0, 1])
def test_after_a_power_cut_the_next_run_finishes_and_all_of_it_can_be_taken_away(
    host: ManagerDouble, tmp_path: Path, survived: int
) -> None:
    host.cut_after = survived
    with pytest.raises(PowerCut):
        install(host, tmp_path, "docker", held=["docker"])
    host.cut_after = 1000
    host.have["game"] = "1"  # the owner of the host goes on working
    found = host.module.load(tmp_path / OWNER)
    assert host.module.plan(host, found, ["docker"], ["docker"])["pending"]
    install(host, tmp_path, "docker", held=["docker"])
    assert record(tmp_path)["packages"].keys() == {"containerd", "docker"}
    assert record(tmp_path)["unfinished"] == []
    assert host.holds == {"docker"}
    leave(host, tmp_path)
    assert host.have.keys() == {"libc", "editor", "game"}


def test_an_installation_that_was_cut_off_can_be_taken_away_at_once(
    host: ManagerDouble, tmp_path: Path
) -> None:
    host.cut_after = 1
    with pytest.raises(PowerCut):
        install(host, tmp_path, "docker")
    host.half_done = ["docker"]
    leave(host, tmp_path)
    assert "repair" in host.calls
    assert host.have.keys() == {"libc", "editor"}


def test_what_something_else_has_come_to_need_stays_until_it_is_free(
    host: ManagerDouble, tmp_path: Path
) -> None:
    install(host, tmp_path, "docker", held=["docker", "containerd"])
    host.needs["cluster"] = {"containerd"}
    host.have["cluster"] = "1"
    said = leave(host, tmp_path)
    assert (said["taken"], said["kept"]) == (["docker"], ["containerd"])
    assert host.holds == set()
    assert record(tmp_path)["leaving"] is True
    del host.have["cluster"]
    host.module.install(host, tmp_path / "other.packages.json", ["tool"], [])
    assert leave(host, tmp_path, "other.packages.json")["taken"] == ["containerd", "tool"]
    assert list(tmp_path.glob("*.json")) == []


def test_what_another_role_brought_later_is_not_torn_down(
    host: ManagerDouble, tmp_path: Path
) -> None:
    install(host, tmp_path, "containerd")
    host.module.install(host, tmp_path / "other.packages.json", ["docker"], [])
    assert record(tmp_path, "other.packages.json")["packages"].keys() == {"docker"}
    assert leave(host, tmp_path)["kept"] == ["containerd"]
    assert leave(host, tmp_path, "other.packages.json")["taken"] == ["containerd", "docker"]


def test_an_owner_that_comes_back_has_its_packages_again(
    host: ManagerDouble, tmp_path: Path
) -> None:
    install(host, tmp_path, "docker")
    host.needs["cluster"] = {"containerd"}
    host.have["cluster"] = "1"
    leave(host, tmp_path)
    install(host, tmp_path, "docker")
    assert record(tmp_path)["leaving"] is False
    assert record(tmp_path)["packages"].keys() == {"docker", "containerd"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "x": 1}', "nul"]
)
def test_a_record_that_cannot_be_read_is_named_and_not_replaced(
    host: ManagerDouble, tmp_path: Path, text: str
) -> None:
    (tmp_path / OWNER).write_text(text)
    with pytest.raises(host.module.Refused, match=f"cat .*{OWNER}"):
        install(host, tmp_path, "docker")
    assert (tmp_path / OWNER).read_text() == text


def test_an_earlier_run_that_goes_on_is_waited_for(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Apt", lambda work: host_double(module, work))
    request = {
        "owner": "role",
        "records": tmp_path / "records",
        "work": tmp_path,
        "format": "deb",
        "packages": ["docker"],
        "held": [],
    }
    (tmp_path / "records").mkdir()
    with module.alone(tmp_path / "records") as free:
        assert free
        said = module.answer({**request, "state": "planned"}, tmp_path)
        assert "earlier run of aibox" in said["holder"]
        assert said["msg"].endswith("ps -ef")
        with pytest.raises(module.Refused, match="earlier run of aibox"):
            module.answer({**request, "state": "present"}, tmp_path)
    assert module.answer({**request, "state": "planned"}, tmp_path)["holder"] == ""
    assert module.answer({**request, "state": "present"}, tmp_path)["brought"] == ["docker"]


def test_amid_the_work_of_another_program_nothing_is_judged(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise module.Refused("half of it is unpacked", fix="wait")

    double = host_double(module, tmp_path)
    monkeypatch.setattr(module, "Apt", lambda _: double)
    monkeypatch.setattr(double, "wanting", refuse)
    monkeypatch.setattr(double, "holder", lambda: "apt-get (7)")
    request = {"owner": "role", "records": tmp_path, "work": tmp_path, "format": "deb"}
    planned = {**request, "packages": ["docker"], "held": [], "state": "planned"}
    said = module.answer(planned, tmp_path)
    assert (said["pending"], said["holder"]) == (True, "apt-get (7)")
    monkeypatch.setattr(double, "holder", lambda: "")
    with pytest.raises(module.Refused, match="half of it"):
        module.answer(planned, tmp_path)


def host_double(module: ModuleType, work: Path) -> ManagerDouble:
    return ManagerDouble(module, work, {})


NAMES = "abcdef"


@settings(max_examples=60, deadline=None)
@given(
    needs=st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), max_size=2)),
    before=st.sets(st.sampled_from(NAMES), max_size=3),
    wanted=st.lists(st.sampled_from(NAMES), unique=True, max_size=3),
    cut=st.integers(0, 6),
)
def test_whatever_is_cut_off_when_the_host_gets_back_what_it_had(
    module: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
    needs: dict[str, set[str]],
    before: set[str],
    wanted: list[str],
    cut: int,
) -> None:
    records = tmp_path_factory.mktemp("host")
    host = ManagerDouble(module, records, needs)
    (records / "apt.conf").touch()
    host.have = {need: "1" for name in before for need in host.closure(name)}
    had = dict(host.have)
    host.cut_after = cut
    for _ in range(2):
        try:
            install(host, records, *wanted, held=wanted)
        except PowerCut:
            host.cut_after = 1000
    assert {*wanted} <= host.have.keys()
    leave(host, records)
    assert (host.have, host.holds) == (had, set())
