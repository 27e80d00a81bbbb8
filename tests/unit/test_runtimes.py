"""Which runtime a box has, and how it is watched and spoken to."""

from __future__ import annotations

from pathlib import Path

from aibox import runtimes
from aibox.box.runtime import ServiceStatus
from aibox.box.store import Store
from aibox.profile import Runtime


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
