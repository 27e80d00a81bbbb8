"""The intent: whole or unreadable, never an exception."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aibox.box.filesystem import Filesystem
from aibox.box.journal import Intent, Journal, Phase, Unreadable, decode
from aibox.digest import canonical_json
from aibox.record import Action, Provenance

INTENT = Intent(
    transaction="t1",
    action=Action.UPGRADE,
    phase=Phase.SWITCH,
    started=datetime(2026, 1, 2, tzinfo=UTC),
    generation=2,
    source=1,
    reason="왜",
    provenance=Provenance(bundle="b" * 64, sequence=7, signed_by=("k" * 64,)),
)


def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "intent.json", Filesystem())


def test_an_intent_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    journal(tmp_path).write(INTENT)
    assert journal(tmp_path).read() == INTENT


def test_an_intent_from_before_there_were_bundles_is_read() -> None:
    values = INTENT.model_dump(mode="json")
    del values["provenance"]
    found = decode(canonical_json(values))
    assert found == INTENT.model_copy(update={"provenance": None})


def test_a_cleared_journal_holds_none(tmp_path: Path) -> None:
    journal(tmp_path).write(INTENT)
    journal(tmp_path).clear()
    assert journal(tmp_path).read() is None


@given(st.binary(max_size=300))
def test_any_bytes_are_an_intent_or_unreadable(data: bytes) -> None:
    assert isinstance(decode(data), Intent | Unreadable)


@given(st.integers(0, 10_000))
def test_a_torn_intent_is_unreadable(cut: int) -> None:
    whole = canonical_json(INTENT.model_dump(mode="json"))
    assert isinstance(decode(whole[: cut % len(whole)]), Unreadable)


def test_an_intent_of_a_later_version_is_not_guessed_at() -> None:
    later = canonical_json(INTENT.model_dump(mode="json") | {"version": 2})
    assert isinstance(decode(later), Unreadable)


def test_a_folder_in_its_place_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "intent.json").mkdir()
    assert isinstance(journal(tmp_path).read(), Unreadable)
