"""What a box trusts, on disk: chains side by side, floors that only rise, nothing half written."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox.box.filesystem import DiskTrouble, Filesystem, Kind
from aibox.box.trust_store import ChainFloors, TrustStore, decode, encode
from aibox.errors import Failed, VerificationRefused
from boxes import sha256
from faults import FailAt, KillAt, Recorder, in_a_process

FIRST, SECOND, OTHER = b'{"root":1}', b'{"root":2}', b'{"root":"of somebody else"}'
NUMBERS = st.integers(0, 10**9)
FLOORS = st.builds(
    ChainFloors,
    sequence=st.integers(0, 3),
    content=st.sampled_from(["", "a", "b"]),
    min_sequence=NUMBERS,
    root_version=NUMBERS,
    revocations_version=NUMBERS,
    time_floor=NUMBERS,
)


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    return TrustStore(tmp_path)


def test_a_box_trusts_nobody_to_begin_with(store: TrustStore, tmp_path: Path) -> None:
    assert store.chains() == ()
    assert list(tmp_path.iterdir()) == [], "reading changes nothing"


def test_chains_lie_side_by_side_under_the_digest_of_their_first_root(store: TrustStore) -> None:
    names = {store.add(FIRST), store.add(OTHER), store.add(FIRST)}
    assert set(store.chains()) == names == {sha256(FIRST), sha256(OTHER)}


def test_a_chain_grows_root_by_root(store: TrustStore) -> None:
    chain = store.add(FIRST)
    store.keep_root(chain, 2, SECOND)
    assert store.roots(chain) == {1: FIRST, 2: SECOND}
    assert store.newest(chain) == SECOND


def test_a_root_behind_a_gap_does_not_count(store: TrustStore) -> None:
    chain = store.add(FIRST)
    store.keep_root(chain, 3, SECOND)
    assert store.newest(chain) == FIRST


def test_a_list_of_revocations_is_replaced(store: TrustStore) -> None:
    chain = store.add(FIRST)
    assert store.revocations(chain) is None
    store.keep_revocations(chain, b"1")
    store.keep_revocations(chain, b"2")
    assert store.revocations(chain) == b"2"


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    chain = TrustStore(tmp_path).add(FIRST)
    TrustStore(tmp_path).keep_revocations(chain, b"1")
    TrustStore(tmp_path).raise_floors(chain, ChainFloors(sequence=3))
    recorder = Recorder()
    store = TrustStore(tmp_path, Filesystem(recorder))
    store.add(FIRST)
    store.keep_root(chain, 1, FIRST)
    store.keep_revocations(chain, b"1")
    store.raise_floors(chain, ChainFloors(sequence=2))
    assert recorder.operations == []


@pytest.mark.parametrize("name", ["..", "../../etc", "A" * 64, "a" * 63, "", "a/b"])
def test_a_chain_is_named_by_a_digest_or_refused(store: TrustStore, name: str) -> None:
    with pytest.raises(VerificationRefused):
        store.floors(name)
    with pytest.raises(VerificationRefused):
        store.keep_revocations(name, b"x")


def test_what_is_not_a_chain_is_passed_over(store: TrustStore) -> None:
    chain = store.add(FIRST)
    (store.folder / "notes").mkdir()
    (store.folder / ("a" * 64)).mkdir()
    (store.folder / ("b" * 64)).write_bytes(b"")
    (store.folder / sha256(OTHER)).mkdir()
    (store.folder / sha256(OTHER) / "1.root.json").write_bytes(b"other bytes")
    assert store.chains() == (chain,)


def test_a_link_is_not_followed(store: TrustStore, tmp_path: Path) -> None:
    chain = store.add(FIRST)
    (tmp_path / "elsewhere").write_bytes(b"x")
    (store.folder / chain / "revoked.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failed) as error:
        store.revocations(chain)
    assert error.value.reference == "trust-unreadable"


def test_what_cannot_be_read_to_its_end_is_said(store: TrustStore) -> None:
    chain = store.add(FIRST)
    (store.folder / chain / "2.root.json").mkdir()
    with pytest.raises(Failed) as error:
        store.roots(chain)
    assert error.value.reference == "trust-unreadable"
    assert error.value.context.endswith("2.root.json: Is a directory")


def test_files_are_for_their_owner_alone(store: TrustStore) -> None:
    chain = store.add(FIRST)
    store.keep_box_key(b"secret")
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((store.folder / chain).stat().st_mode) == 0o700
    assert stat.S_IMODE(store.box_key.stat().st_mode) == 0o600


# -- floors -------------------------------------------------------------------------------------


def test_floors_begin_at_zero_and_only_rise(store: TrustStore) -> None:
    chain = store.add(FIRST)
    assert store.floors(chain) == ChainFloors()
    store.raise_floors(chain, ChainFloors(sequence=5, content="c", time_floor=9))
    store.raise_floors(chain, ChainFloors(sequence=4, content="d", root_version=2, time_floor=8))
    found = store.floors(chain)
    assert (found.sequence, found.content) == (5, "c")
    assert (found.root_version, found.time_floor) == (2, 9)


def test_floors_of_chains_do_not_mix(store: TrustStore) -> None:
    one, other = store.add(FIRST), store.add(OTHER)
    store.raise_floors(one, ChainFloors(sequence=5))
    assert store.floors(other) == ChainFloors()


@settings(deadline=None)
@given(FLOORS, FLOORS)
def test_no_floor_falls_and_content_goes_with_its_sequence(
    one: ChainFloors, other: ChainFloors
) -> None:
    raised = one.raised(other)
    for name in ("sequence", "min_sequence", "root_version", "revocations_version", "time_floor"):
        assert getattr(raised, name) == max(getattr(one, name), getattr(other, name))
    assert (raised.sequence, raised.content) in {
        (one.sequence, one.content),
        (other.sequence, other.content),
    }
    if one.sequence == other.sequence and one.content:
        assert raised.content == one.content
    assert raised.raised(other) == raised


@settings(deadline=None)
@given(FLOORS)
def test_floors_survive_being_stored(floors: ChainFloors) -> None:
    assert decode(encode(floors)) == floors


@settings(deadline=None)
@given(st.binary(max_size=200) | st.integers().map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_floors_or_nothing(data: bytes) -> None:
    assert decode(data) is None


@settings(deadline=None)
@given(FLOORS, st.data())
def test_any_changed_byte_is_noticed(floors: ChainFloors, data: st.DataObject) -> None:
    stored = bytearray(encode(floors))
    place = data.draw(st.integers(0, len(stored) - 1))
    stored[place] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(stored)) in (None, floors)


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100, None], ids=str)
def test_a_lost_slot_costs_the_last_change_at_most(
    store: TrustStore, content: bytes | None
) -> None:
    chain = store.add(FIRST)
    for path in ("floors.a.json", "floors.b.json"):
        store.raise_floors(chain, ChainFloors(sequence=store.floors(chain).sequence + 1))
        newest = store.raise_floors(chain, ChainFloors(sequence=store.floors(chain).sequence + 1))
        slot = store.folder / chain / path
        slot.unlink() if content is None else slot.write_bytes(content)
        assert store.floors(chain).sequence >= newest.sequence - 1
        again = store.raise_floors(chain, newest)
        assert store.floors(chain).sequence == again.sequence == newest.sequence


def test_what_a_newer_command_wrote_is_kept(store: TrustStore) -> None:
    chain = store.add(FIRST)
    slot = store.folder / chain / "floors.a.json"
    slot.write_bytes(encode(ChainFloors.model_validate({"slot": 1, "future": "kept"})))
    store.raise_floors(chain, ChainFloors(sequence=1))
    assert store.floors(chain).model_dump()["future"] == "kept"


# -- faults -------------------------------------------------------------------------------------


def story(root: Path, filesystem: Filesystem) -> None:
    """Everything a bundle can bring, twice."""
    root.mkdir(exist_ok=True)
    store = TrustStore(root, filesystem)
    chain = store.add(FIRST)
    for number in (1, 2):
        store.keep_root(chain, 2, SECOND)
        store.keep_revocations(chain, b"%d" % number)
        store.raise_floors(chain, ChainFloors(sequence=number, content=f"{number}"))
    store.keep_box_key(b"key")


def test_a_kill_at_any_change_loses_nothing_that_was_accepted(
    place: Path, figure: Callable[[str], None]
) -> None:
    recorder = Recorder()
    story(place / "whole", Filesystem(recorder))
    count = len(recorder.operations)
    figure(f"trust store: killed at {count} boundaries")
    for boundary in range(count):
        root = place / str(boundary)
        code = in_a_process(partial(story, root, Filesystem(KillAt(boundary))))
        assert code == -9
        store = TrustStore(root)
        before = [store.floors(chain) for chain in store.chains()]
        story(root, Filesystem())
        chain = sha256(FIRST)
        assert store.chains() == (chain,)
        assert all(floors.sequence in (0, 1, 2) for floors in before)
        assert store.floors(chain).sequence == 2
        assert store.roots(chain) == {1: FIRST, 2: SECOND}
        assert store.revocations(chain) == b"2"
        assert store.box_key.read_bytes() == b"key"


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.SYNC_FILE, Kind.RENAME, Kind.SYNC_DIRECTORY])
def test_a_disk_that_fails_is_a_plain_error_and_the_old_floors_hold(
    tmp_path: Path, kind: Kind
) -> None:
    chain = TrustStore(tmp_path).add(FIRST)
    TrustStore(tmp_path).raise_floors(chain, ChainFloors(sequence=1))
    failing = TrustStore(tmp_path, Filesystem(FailAt(0, errno.EIO, (kind,))))
    with pytest.raises(DiskTrouble):
        failing.raise_floors(chain, ChainFloors(sequence=2))
    assert TrustStore(tmp_path).floors(chain).sequence in (1, 2)


def test_what_may_not_be_read_is_said_and_not_taken_for_nothing(store: TrustStore) -> None:
    store.folder.symlink_to(store.folder)
    with pytest.raises(Failed) as error:
        store.chains()
    assert error.value.reference == "trust-unreadable"
