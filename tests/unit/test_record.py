"""The record: any bytes are read, a torn line is cut, a fact is stored once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aibox import record
from aibox.box.filesystem import Filesystem
from aibox.box.history import RecordFile
from aibox.record import Action, Entry, History, Provenance, Result
from aibox.verdict import CaseResult, Verdict

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def entry(
    generation: int | None = 1,
    action: Action = Action.INSTALL,
    outcome: Result = Result.COMMITTED,
    transaction: str = "",
    sequence: int = 0,
) -> Entry:
    return Entry(
        sequence=sequence,
        transaction=transaction or f"{action}-{generation}-{outcome}",
        generation=generation,
        release="r" * 64,
        action=action,
        outcome=outcome,
        started=NOON,
        finished=NOON,
        reason="왜냐하면",
        gate=Verdict(passed=True, results=(CaseResult(id="ko-1", passed=True, seconds=0.5),)),
    )


def file(tmp_path: Path) -> RecordFile:
    return RecordFile(tmp_path / "record.jsonl", Filesystem())


def test_an_entry_is_read_back_as_it_was_written() -> None:
    assert record.parse(record.line(entry())).entries == (entry(),)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_history(data: bytes) -> None:
    history = record.parse(data)
    assert history.intact_bytes <= len(data)
    assert history.good() == () or history.entries


@given(st.integers(0, 5000), st.binary(max_size=50))
def test_a_torn_or_garbled_tail_loses_no_earlier_entry(cut: int, garbage: bytes) -> None:
    whole = record.line(entry(1)) + record.line(entry(2))
    torn = record.line(entry(3))
    data = whole + torn[: cut % len(torn)] + garbage.replace(b"\n", b"")
    assert record.parse(data).entries == (entry(1), entry(2))
    assert record.parse(data).intact_bytes == len(whole)


def test_a_garbled_line_in_the_middle_is_counted_and_passed_over() -> None:
    data = record.line(entry(1)) + b"\0\0garbage\n" + record.line(entry(2))
    history = record.parse(data)
    assert [one.generation for one in history.entries] == [1, 2]
    assert history.unreadable_lines == 1


def test_appending_numbers_the_entries(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        file(tmp_path).append(entry(number))
    assert [one.sequence for one in file(tmp_path).read().entries] == [1, 2, 3]


def test_the_same_fact_is_stored_once(tmp_path: Path) -> None:
    file(tmp_path).append(entry(1, transaction="t"))
    file(tmp_path).append(entry(1, transaction="t"))
    assert len(file(tmp_path).read().entries) == 1


def test_both_facts_of_one_transaction_are_stored(tmp_path: Path) -> None:
    file(tmp_path).append(entry(2, outcome=Result.FAILED, transaction="t"))
    file(tmp_path).append(entry(1, outcome=Result.ROLLED_BACK, transaction="t"))
    assert len(file(tmp_path).read().entries) == 2


def test_a_torn_line_is_cut_before_the_next_append(tmp_path: Path) -> None:
    file(tmp_path).append(entry(1))
    with (tmp_path / "record.jsonl").open("ab") as torn:
        torn.write(b'{"sequence": 2, "transa')
    file(tmp_path).append(entry(2))
    history = file(tmp_path).read()
    assert [one.generation for one in history.entries] == [1, 2]
    assert history.unreadable_lines == 0


def test_where_a_generation_came_from_is_read_back() -> None:
    came = Provenance(bundle="b" * 64, sequence=7, signed_by=("k" * 64,), notices=("경고",))
    told = entry().model_copy(update={"provenance": came})
    assert record.parse(record.line(told)).entries == (told,)


def test_an_entry_from_before_there_were_bundles_is_read() -> None:
    values = json.loads(record.line(entry()))
    del values["provenance"]
    (found,) = record.parse(json.dumps(values).encode() + b"\n").entries
    assert found == entry()


def test_what_a_newer_command_says_of_a_bundle_is_kept() -> None:
    values = json.loads(record.line(entry()))
    values["provenance"] = {"bundle": "b" * 64, "sequence": 7, "delivered_by": "courier"}
    (found,) = record.parse(json.dumps(values).encode() + b"\n").entries
    assert b"courier" in record.line(found)


def test_a_box_without_a_record_has_an_empty_history(tmp_path: Path) -> None:
    assert file(tmp_path).read() == History()


def history(*entries: Entry) -> History:
    return History(entries=entries)


def test_what_serves_is_the_last_that_was_said_to_serve() -> None:
    told = history(
        entry(1), entry(2), entry(3, outcome=Result.FAILED), entry(2, outcome=Result.ROLLED_BACK)
    )
    assert told.serving() == 2


def test_only_what_passed_its_gate_is_good_and_the_latest_arrival_comes_first() -> None:
    told = history(
        entry(1),
        entry(2, Action.UPGRADE),
        entry(3, Action.UPGRADE, Result.FAILED),
        entry(4, Action.UPGRADE),
        entry(2, Action.ROLLBACK),
        entry(1, Action.UPGRADE),
    )
    assert told.good() == (1, 4, 2)


def test_a_rollback_goes_back_past_where_it_already_was() -> None:
    told = history(*(entry(n, Action.UPGRADE) for n in (1, 2, 3)), entry(2, Action.ROLLBACK))
    assert record.before(told, 3, {1, 2, 3}) == (2, 1)
    assert record.before(told, 2, {1, 2, 3}) == (1,)
    assert record.before(told, 3, {1, 3}) == (1,)
    assert record.before(told, None, {1, 2, 3}) == (3, 2, 1)
