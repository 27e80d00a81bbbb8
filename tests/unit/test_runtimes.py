"""Which runtime a box has, and how it is watched and spoken to."""

from __future__ import annotations

from pathlib import Path

import pytest

import stack_examples
from aibox import digest, runtimes
from aibox.box import compiled
from aibox.box.runtime import ServiceStatus
from aibox.box.store import Store
from aibox.pins import FilePin, Redistribution
from aibox.prerequisites import Folder, Prerequisites
from aibox.profile import Runtime
from aibox.progress import Progress
from aibox.release import Release


class DoubleOfRuntime:
    """A double of whatever runs services: says how often each was started again."""

    def __init__(self, **restarts: int) -> None:
        self.restarts = restarts

    def apply(self) -> None:
        raise AssertionError("nobody asked for it")

    stop = apply

    def services(self) -> tuple[ServiceStatus, ...]:
        return tuple(
            ServiceStatus(name, "running", 1, 1.0, count) for name, count in self.restarts.items()
        )


def test_a_service_that_dies_again_and_again_is_named() -> None:
    double = DoubleOfRuntime(web=5, chat=7)
    dying = runtimes.watch(double)
    assert dying() == ""
    double.restarts["chat"] = 9
    assert dying() == ""
    double.restarts["chat"] = 10
    assert dying() == "the service chat has died 3 times since it was started"


def test_an_empty_box_is_one_of_processes(place: Path) -> None:
    store = Store(place / "box")
    assert runtimes.kind(store) is Runtime.PROCESS
    assert runtimes.sweep(store) == ()


# -- what an engine compiled elsewhere ------------------------------------------------------------

ENGINE = "chat-0123456789abcdef"


def carrying(place: Path, hardware: tuple[str, ...]) -> tuple[Store, Release, Prerequisites]:
    """A store whose generation 1 carries what the engine of another box compiled."""
    store = Store(place / "box")
    store.layout.staging.mkdir(parents=True)
    made = place / "elsewhere" / ENGINE
    made.mkdir(parents=True)
    (made / "kernel.so").write_bytes(b"code")
    folder = store.layout.tree(1) / "files/compiled-chat"
    folder.mkdir(parents=True)
    compiled.pack(made, hardware, folder / "chat.tar")
    data = (folder / "chat.tar").read_bytes()
    pin = FilePin(
        name="compiled-chat", filename="chat.tar", size=len(data), sha256=digest.of_bytes(data),
        licence="unknown", redistribution=Redistribution.ALLOW, owner="us", source="our own box",
    )  # fmt: skip
    release = stack_examples.release().model_copy(update={"files": (pin,)})
    folders = (Folder(path=f"cache/{ENGINE}", user="chat"), Folder(path="data/rag", user="app"))
    return store, release, Prerequisites(users={}, folders=folders, secrets=(), copies=())


@pytest.mark.parametrize("given", [False, True])
def test_what_was_compiled_on_the_same_hardware_is_taken_before_the_first_start(
    place: Path, given: bool
) -> None:
    release = stack_examples.release()
    store, release, needed = carrying(place, runtimes.hardware_of(release, "chat"))
    if given:  # On a server the roles make the folders, before any service starts.
        (store.layout.root / "cache" / ENGINE).mkdir(parents=True)
    told: list[Progress] = []
    runtimes._place_compiled(store, 1, release, needed, told.append)
    assert (store.layout.root / "cache" / ENGINE / "kernel.so").read_bytes() == b"code"
    assert [one.message for one in told] == ["what was compiled for chat elsewhere: taken"]
    runtimes._place_compiled(store, 1, release, needed, told.append)
    assert len(told) == 1


def test_what_was_compiled_on_other_hardware_is_not_taken_and_the_reason_told(place: Path) -> None:
    store, release, needed = carrying(place, ("NVIDIA H100", "processor 00"))
    told: list[Progress] = []
    runtimes._place_compiled(store, 1, release, needed, told.append)
    assert not (store.layout.root / "cache").exists()
    assert "not taken, it compiles anew: it was made on NVIDIA H100" in told[0].message


def test_a_release_that_carries_nothing_says_nothing(place: Path) -> None:
    store, release, needed = carrying(place, ("x",))
    bare = release.model_copy(update={"files": ()})
    runtimes._place_compiled(store, 1, bare, needed, _never)


def _never(progress: Progress) -> None:
    raise AssertionError(progress)
