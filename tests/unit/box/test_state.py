"""Two slots: whatever one of them holds, the other counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.box.filesystem import Filesystem
from aibox.box.state import Slots, State, decode, encode, newest

STATES = st.builds(
    State,
    sequence=st.integers(0, 10**9),
    last_good=st.none() | st.integers(1, 10**6),
    transaction=st.text(st.characters(codec="utf-8"), max_size=20),
    tries_left=st.integers(0, 3),
)


def slots(tmp_path: Path) -> Slots:
    return Slots((tmp_path / "a", tmp_path / "b"), Filesystem())


@given(STATES)
def test_a_state_survives_being_stored(state: State) -> None:
    assert decode(encode(state)) == state


@given(st.binary(max_size=300))
def test_any_bytes_are_a_state_or_nothing(data: bytes) -> None:
    assert decode(data) is None or encode(decode(data) or State()) is not None


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_a_state_or_nothing(value: object) -> None:
    assert decode(json.dumps(value).encode()) is None


@given(STATES, st.data())
def test_any_changed_byte_is_noticed(state: State, data: st.DataObject) -> None:
    stored = bytearray(encode(state))
    place = data.draw(st.integers(0, len(stored) - 1))
    stored[place] ^= data.draw(st.integers(1, 255))
    found = decode(bytes(stored))
    assert found in {None, state} if found is None else found == state


@given(STATES, STATES, st.booleans())
def test_the_higher_sequence_wins_wherever_it_lies(one: State, other: State, swap: bool) -> None:
    pair = (encode(one), encode(other))
    found, index = newest((pair[1], pair[0]) if swap else pair)
    assert found.sequence == max(one.sequence, other.sequence)
    assert index in {0, 1}


def test_saving_never_touches_the_slot_that_counts(tmp_path: Path) -> None:
    held = slots(tmp_path)
    held.save(State(last_good=1))
    first = (tmp_path / "a").read_bytes()
    held.save(State(last_good=2))
    assert (tmp_path / "a").read_bytes() == first
    assert held.load().last_good == 2


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"{}", b"garbage", b"\xff\xfe", None])
def test_a_lost_slot_costs_the_last_change_at_most(tmp_path: Path, content: bytes | None) -> None:
    for path in ("a", "b"):
        held = slots(tmp_path)
        older, newer = held.save(State(last_good=1)), held.save(State(last_good=2))
        intact = {(tmp_path / name).read_bytes(): name for name in ("a", "b")}
        expected = older if intact[encode(newer)] == path else newer
        (tmp_path / path).unlink() if content is None else (tmp_path / path).write_bytes(content)
        assert slots(tmp_path).load() == expected
        assert slots(tmp_path).save(State(last_good=3)).sequence > expected.sequence
        assert slots(tmp_path).load().last_good == 3


def test_both_slots_lost_is_an_empty_state(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert slots(tmp_path).load() == State()


@pytest.mark.parametrize(
    "floor", ["highest_sequence", "min_sequence", "root_version", "time_floor"]
)
def test_a_floor_never_falls(tmp_path: Path, floor: str) -> None:
    held = slots(tmp_path)
    held.save(State.model_validate({floor: 7}))
    held.save(State(last_good=1))
    assert getattr(held.load(), floor) == 7


def test_what_a_newer_command_wrote_is_kept(tmp_path: Path) -> None:
    held = slots(tmp_path)
    held.save(State.model_validate({"future": "kept"}))
    held.save(held.load().model_copy(update={"last_good": 1}))
    assert held.load().model_dump()["future"] == "kept"
