"""The container runtime against a host double: what it does, what it says, and after any crash."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from aibox.box import containers as module
from aibox.box.containers import Containers
from aibox.box.docker_engine import Container
from aibox.errors import Failed, NeedsPerson
from containers_double import IMAGE, HostDouble, container, unit, write_generation

THREE = {"gateway": "g1", "qdrant": "q1", "web": "w1"}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.001)
    monkeypatch.setattr(module, "RUNNING_TIMEOUT_S", 5.0)


@pytest.fixture
def host(tmp_path: Path) -> HostDouble:
    write_generation(tmp_path, 1, THREE)
    return HostDouble(tmp_path)


def runtime(host: HostDouble, said: list[str] | None = None) -> Containers:
    hear = said.append if said is not None else (lambda _line: None)
    return Containers(host.root, engine=host, units=host, on_event=hear)


def states(host: HostDouble) -> dict[str, str]:
    return {one.name: one.state for one in runtime(host).services()}


def test_services_start_in_the_order_in_which_they_are_asked(host: HostDouble) -> None:
    runtime(host).apply()
    assert host.done == ["start qdrant", "start web", "start gateway"]
    assert states(host) == dict.fromkeys(("qdrant", "web", "gateway"), "running")


def test_a_second_time_changes_nothing(host: HostDouble) -> None:
    runtime(host).apply()
    before, host.done = dict(host.by_id), []
    runtime(host).apply()
    assert (host.done, host.by_id) == ([], before)


def test_an_upgrade_restarts_exactly_what_changed_and_a_rollback_the_same(host: HostDouble) -> None:
    runtime(host).apply()
    first, host.done = set(host.by_id), []
    write_generation(host.root, 2, {**THREE, "web": "w2"})
    runtime(host).apply()
    assert host.done == ["restart web"]
    assert len(first & set(host.by_id)) == 2
    host.done = []
    (host.root / "current").unlink()
    (host.root / "current").symlink_to("gens/1")
    runtime(host).apply()
    assert host.done == ["restart web"]


def test_another_image_under_the_same_inputs_restarts_its_service(host: HostDouble) -> None:
    runtime(host).apply()
    host.done = []
    host.images[IMAGE] = "sha256:repaired"
    runtime(host).apply()
    assert host.done == ["restart qdrant", "restart web", "restart gateway"]


def test_a_dropped_service_goes_away_first(host: HostDouble) -> None:
    runtime(host).apply()
    host.done = []
    write_generation(host.root, 2, {"gateway": "g1", "web": "w1", "chat": "c1"})
    runtime(host).apply()
    assert host.done == ["stop qdrant", "remove qdrant-1", "start chat"]
    assert "qdrant" not in states(host)


def test_a_stopped_service_is_started_with_the_same_container(host: HostDouble) -> None:
    runtime(host).apply()
    before = set(host.by_id)
    runtime(host).stop()
    assert set(states(host).values()) == {"stopped"}
    runtime(host).apply()
    assert set(host.by_id) == before


def test_a_service_that_keeps_dying_is_named_with_its_last_words(host: HostDouble) -> None:
    host.dying = {"web"}
    with pytest.raises(Failed, match="web does not stay up") as caught:
        runtime(host).apply()
    assert caught.value.reference == "service-not-starting"
    assert "exit code 1" in caught.value.context
    assert "says why" in caught.value.context
    assert caught.value.hint.endswith("journalctl --all --unit aibox@web")
    assert "start gateway" not in host.done


def test_a_service_that_runs_again_for_a_moment_is_told_by_how_it_ended(host: HostDouble) -> None:
    host.dying = {"web"}
    ended, looks = host.containers, iter(range(100))

    def running_again_at_first(project: str) -> tuple[Container, ...]:
        alive = {"state": "running", "pid": 7, "exit_code": 0}
        return tuple(
            dataclasses.replace(one, **alive)
            if (one.service, one.state) == ("web", "exited") and next(looks) < 3
            else one
            for one in ended(project)
        )

    host.containers = running_again_at_first  # type: ignore[method-assign]
    with pytest.raises(Failed, match="web does not stay up") as caught:
        runtime(host).apply()
    assert caught.value.context.startswith("exited, exit code 1")


def test_restarts_of_the_past_do_not_count_against_a_service(
    host: HostDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime(host).apply()
    host.by_name["web"] = unit("web", restarts=50)
    (web,) = (one for one in host.by_id.values() if one.service == "web")
    host.by_id[web.id] = dataclasses.replace(web, started=time.time())
    monkeypatch.setattr(module, "SETTLED_S", 0.1)
    runtime(host).apply()


def test_restarts_count_from_when_the_service_was_started_anew(
    host: HostDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNNING_TIMEOUT_S", 60.0)
    runtime(host).apply()
    host.by_name["web"] = unit("web", restarts=2)
    write_generation(host.root, 2, {**THREE, "web": "w2", "gateway": "g2"})

    def web_dies(what: str) -> None:
        if what == "restart gateway":
            host.by_name["web"] = unit("web", "activating", restarts=3)

    host.before, started = web_dies, time.monotonic()
    with pytest.raises(Failed, match="web does not stay up"):
        runtime(host).apply()
    assert time.monotonic() - started < 10


def test_a_service_that_never_comes_up_is_given_up_in_time(
    host: HostDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNNING_TIMEOUT_S", 0.05)
    monkeypatch.setattr(module, "SAY_EVERY_S", 0.01)
    said: list[str] = []
    host.start = lambda service: host.by_name.update({service: unit(service)})  # type: ignore[method-assign]
    with pytest.raises(Failed) as caught:
        runtime(host, said).apply()
    assert caught.value.context == "it has no container; its unit is active"
    assert any("waiting for qdrant (0 s)" in line for line in said)


def test_images_are_asked_for_before_anything_is_touched(host: HostDouble) -> None:
    host.images.clear()
    with pytest.raises(Failed) as caught:
        runtime(host).apply()
    assert (caught.value.reference, caught.value.context) == ("image-not-loaded", IMAGE)
    assert host.done == []

    def load() -> None:
        host.images[IMAGE] = "sha256:loaded"

    Containers(host.root, engine=host, units=host, load_images=load).apply()
    assert "start web" in host.done


def test_without_a_compose_file_a_person_is_needed(tmp_path: Path) -> None:
    host = HostDouble(tmp_path)
    with pytest.raises(NeedsPerson):
        runtime(host).apply()
    assert runtime(host).services() == ()
    runtime(host).stop()


@pytest.mark.parametrize("death", range(8))
def test_killed_at_any_change_the_next_run_brings_it_to_the_same_end(
    host: HostDouble, death: int
) -> None:
    runtime(host).apply()
    write_generation(host.root, 2, {"gateway": "g2", "web": "w2", "chat": "c1"})
    left = [death]

    def die(_what: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    host.before = die
    try:
        runtime(host).apply()
    except KeyboardInterrupt:
        host.before = lambda _what: None
        runtime(host).apply()
    assert states(host) == dict.fromkeys(("chat", "web", "gateway"), "running")
    assert {one.service for one in host.by_id.values()} == {"chat", "web", "gateway"}


def test_a_container_nobody_watches_is_watched_again_or_ended(host: HostDouble) -> None:
    runtime(host).apply()
    before = set(host.by_id)
    host.by_name.clear()
    assert set(states(host).values()) == {"unsupervised"}
    runtime(host).apply()
    assert set(host.by_id) == before
    host.by_name.clear()
    runtime(host).stop()
    assert {one.state for one in host.by_id.values()} == {"exited"}


def test_states_are_told_in_words(host: HostDouble) -> None:
    runtime(host).apply()
    numbers = {one.service: one.id for one in host.by_id.values()}
    host.by_id[numbers["web"]] = container("web", "w1", health="starting", started=time.time() - 9)
    host.by_id[numbers["qdrant"]] = container("qdrant", "q1", health="unhealthy")
    host.by_id[numbers["gateway"]] = container("gateway", "g1", state="exited", pid=None)
    host.by_name["gateway"] = unit("gateway", "activating", restarts=2)
    assert states(host) == {"qdrant": "unhealthy", "web": "running", "gateway": "restarting"}
    found = {one.name: one for one in runtime(host).services()}
    assert found["gateway"].restarts == 2
    assert (found["web"].pid, 8 < found["web"].uptime_s < 60) == (100, True)
    host.by_name["gateway"] = unit("gateway", "failed")
    assert states(host)["gateway"] == "failed"


def test_without_an_answer_of_docker_nothing_is_claimed(host: HostDouble) -> None:
    host.docker_answers = False
    assert set(states(host).values()) == {"unknown"}
    with pytest.raises(Failed):
        runtime(host).apply()


def test_removal_leaves_neither_container_nor_network_and_may_be_repeated(host: HostDouble) -> None:
    runtime(host).apply()
    runtime(host).remove()
    assert (host.by_id, host.done[-1]) == ({}, "remove networks of aibox")
    host.done = []
    runtime(host).remove()
    assert host.done == []
