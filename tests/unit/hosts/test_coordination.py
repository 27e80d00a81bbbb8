"""One veto stops all hosts, before anybody is asked and before anything is brought to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aibox import content
from aibox.errors import BadUsage, PreflightVeto
from aibox.hosts import coordination
from aibox.orders import Planned
from aibox.preflight import Finding, Status
from aibox.prepare import Wish, Workplace
from aibox.record import Action


def planned(status: Status) -> Planned:
    finding = Finding(
        check="disk", status=status, found="1 MiB", expected="8000 MiB", fix="make room"
    )
    return Planned(
        digest="a" * 64,
        release="b" * 64,
        profile="cpu",
        whole=False,
        first=True,
        steps=(),
        differences=(),
        lacking={},
        findings=(finding,),
    )


def place(folder: Path) -> Workplace:
    return Workplace(folder / "box", content.find(), lambda _: None)


def never(_plans: Mapping[str, Planned]) -> None:
    raise AssertionError("asked in spite of a veto")


def test_a_host_with_a_veto_is_named_with_what_it_found() -> None:
    plans = {"cards": planned(Status.OK), "data": planned(Status.VETO)}
    refusal = coordination.refusal(plans)
    assert refusal is not None
    assert refusal.context == "data"
    assert "1 of 2 hosts" in refusal.message
    assert "found 1 MiB; expected 8000 MiB" in refusal.message
    assert coordination.refusal({"cards": planned(Status.WARN)}) is None


def test_a_veto_comes_before_the_question_and_before_any_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def found(*_: Any) -> Iterator[tuple[None, None, dict[str, Planned]]]:
        # Doubles of copies and sessions: whoever used them would fail.
        yield None, None, {"data": planned(Status.VETO)}

    monkeypatch.setattr(coordination, "_planned", found)
    with pytest.raises(PreflightVeto):
        coordination.install(place(tmp_path), Wish(), Action.INSTALL, never)


def test_several_hosts_need_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="for one host"):
        coordination.install(place(tmp_path), Wish(), Action.INSTALL, never)
