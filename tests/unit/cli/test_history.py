"""`aibox history`: which bundle a generation came from, and who signed it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aibox.record import Action, Entry, Provenance, Result
from small_site import SmallSite

Types = Callable[..., Any]

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SIGNED = Provenance(bundle="b" * 64, sequence=7, signed_by=("k" * 64,))
UNSIGNED = Provenance(bundle="c" * 64, sequence=8, notices=("you allowed it",))


def recorded(site: SmallSite, *found: Provenance | None) -> None:
    store = site.begin()
    for number, provenance in enumerate(found, 1):
        store.history.append(
            Entry(
                sequence=0,
                transaction=str(number),
                generation=number,
                release="r" * 64,
                action=Action.INSTALL,
                outcome=Result.COMMITTED,
                started=NOON,
                finished=NOON,
                provenance=provenance,
            )
        )


def test_the_record_tells_the_bundle_of_each_generation(types: Types, site: SmallSite) -> None:
    recorded(site, None, SIGNED, UNSIGNED)
    ended = types("history", "--json")
    assert [row["provenance"] for row in ended.json] == [
        None,
        {"bundle": "b" * 64, "sequence": 7, "signed_by": ["k" * 64], "notices": []},
        {"bundle": "c" * 64, "sequence": 8, "signed_by": [], "notices": ["you allowed it"]},
    ]


def test_people_read_the_sequence_and_whether_it_was_signed(types: Types, site: SmallSite) -> None:
    recorded(site, None, SIGNED, UNSIGNED)
    heading, *rows = types("history").out.splitlines()
    start = heading.index("bundle")
    assert [row[start:].rstrip() for row in rows] == ["-", "7 signed", "8 unsigned"]


def test_lines_that_cannot_be_read_are_told(types: Types, site: SmallSite) -> None:
    recorded(site, None)
    with site.store.layout.record.open("ab") as record:
        record.write(b"torn\n")
    ended = types("history", "--json")
    assert len(ended.json) == 1
    assert "cannot be read and are not shown: 1" in ended.err
