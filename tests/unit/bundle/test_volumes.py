"""Dividing blobs: each once, none too full, the same in any order; labels that contradict."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle import label as labels
from aibox.bundle import volumes
from aibox.bundle.layout import CHUNK_BYTES, FOLDER_LIMIT
from aibox.bundle.sizes import parse_size
from aibox.errors import BadUsage, VerificationRefused
from aibox.pins import Blob

HEAD = 100_000
CLUSTER = 32 << 10


def blob(number: int, size: int) -> Blob:
    return Blob(sha256=f"{number:064x}", size=size)


def blobs(sizes: list[int]) -> list[Blob]:
    return [blob(number, size) for number, size in enumerate(sizes)]


SIZES = st.lists(st.integers(0, 3_000_000), max_size=60)


@given(SIZES, st.integers(6_000_000, 60_000_000), st.randoms())
def test_every_blob_is_on_one_volume_in_any_order(
    sizes: list[int], volume_bytes: int, dice: random.Random
) -> None:
    given_blobs = blobs(sizes)
    plan = volumes.plan_volumes(given_blobs, volume_bytes, HEAD)
    assert sorted(b.sha256 for share in plan for b in share) == [b.sha256 for b in given_blobs]
    dice.shuffle(given_blobs)
    assert volumes.plan_volumes(given_blobs, volume_bytes, HEAD) == plan


@given(SIZES, st.integers(6_000_000, 60_000_000))
def test_no_volume_takes_more_clusters_than_it_has(sizes: list[int], volume_bytes: int) -> None:
    for share in volumes.plan_volumes(blobs(sizes), volume_bytes, HEAD):
        clusters = sum(-(-b.size // CLUSTER) for b in share)
        assert HEAD + clusters * CLUSTER + len(share) * 192 <= volume_bytes * 0.99


@given(SIZES.filter(bool), st.integers(1, 5_000_000))
def test_a_volume_too_small_is_told_the_least_size_and_that_is_enough(
    sizes: list[int], volume_bytes: int
) -> None:
    try:
        volumes.plan_volumes(blobs(sizes), volume_bytes, HEAD)
    except BadUsage as refusal:
        assert refusal.reference == "volume-too-small"
        least = parse_size(refusal.hint.rsplit(" ", 1)[1])
        assert least > volume_bytes
        volumes.plan_volumes(blobs(sizes), least, HEAD)


def test_a_disc_takes_whole_chunks() -> None:
    plan = volumes.plan_volumes(blobs([CHUNK_BYTES] * 300), 25 * 10**9, HEAD)
    assert [len(share) for share in plan] == [92, 92, 92, 24]


def test_small_blobs_fill_what_large_ones_leave() -> None:
    plan = volumes.plan_volumes(blobs([4_000_000, 4_000_000, *[100_000] * 10]), 7_500_000, HEAD)
    assert len(plan) == 2


def test_a_folder_takes_as_many_names_as_fat_does() -> None:
    plan = volumes.plan_volumes(blobs([1] * (FOLDER_LIMIT + 1)), 25 * 10**9, HEAD, 10)
    assert [len(share) for share in plan] == [FOLDER_LIMIT - 10, 11]


def test_many_small_blobs_over_many_volumes_are_planned_at_once() -> None:
    plan = volumes.plan_volumes(blobs([n % 40_000 for n in range(50_000)]), 25 * 10**9, HEAD)
    assert len(plan) == 5


def test_without_blobs_there_is_one_volume() -> None:
    assert volumes.plan_volumes([], 10**9, HEAD) == ((),)


def test_more_volumes_than_anybody_carries_are_refused() -> None:
    with pytest.raises(BadUsage) as refusal:
        volumes.plan_volumes(blobs([1_000_000] * 1000), 3_300_000, HEAD)
    assert refusal.value.reference == "volumes-too-many"


def test_the_head_counts_clusters_folders_and_the_label() -> None:
    few = volumes.head_cost([1], 1, [], 10**9)
    assert volumes.head_cost([1, 1], 1, [], 10**9) - few == CLUSTER + 192
    assert volumes.head_cost([1], 2, [], 10**9) - few == CLUSTER
    many = volumes.head_cost([1], 1, blobs([1] * 10_000), 10**9)
    label = labels.labels("a" * 64, [blobs([1] * 10_000)])[0]
    assert many - few > len(labels.dump(label)) - 2 * CLUSTER


def whereabouts(plan: tuple[tuple[Blob, ...], ...]) -> dict[str, int]:
    return {b.sha256: number for number, share in enumerate(plan, 1) for b in share}


@given(st.lists(st.integers(2, 9), min_size=1, max_size=6), SIZES, st.randoms())
def test_the_chunks_of_an_object_never_go_back_to_an_earlier_volume(
    lengths: list[int], sizes: list[int], dice: random.Random
) -> None:
    numbers = iter(range(10_000, 20_000))
    rows = tuple(
        tuple(blob(next(numbers), 2_000_000 if n < length - 1 else 700_000) for n in range(length))
        for length in lengths
    )
    given_blobs = [*blobs(sizes), *(chunk for row in rows for chunk in row)]
    dice.shuffle(given_blobs)
    order = volumes.Order(rows=rows)
    plan = volumes.plan_volumes(given_blobs, 9_000_000, HEAD, order=order)
    found = whereabouts(plan)
    assert len(found) == len(given_blobs)
    for row in rows:
        places = [found[chunk.sha256] for chunk in row]
        assert places == sorted(places)


def test_what_starts_everything_is_on_the_first_volume() -> None:
    large, program = blobs([4_000_000] * 5), [blob(100, 300_000), blob(101, 1_000)]
    order = volumes.Order(first=frozenset(b.sha256 for b in program))
    found = whereabouts(volumes.plan_volumes([*large, *program], 7_500_000, HEAD, order=order))
    assert {found[b.sha256] for b in program} == {1}
    assert max(found.values()) > 1


LABELS = labels.labels("a" * 64, [blobs([5, 6]), [blob(7, 8)]])


def test_a_label_tells_the_whole_division() -> None:
    again = labels.parse(labels.dump(LABELS[1]), "here")
    assert again == LABELS[1]
    assert again.name == "volume 2 of 2"
    assert again.other(1).missing() == "volume 1 of 2 (holds 2 blobs, 11 bytes)"
    assert again.number_of()[blob(7, 8).sha256] == 2


def test_folders_of_volumes_sort_as_they_count() -> None:
    assert labels.folder_name(LABELS[0]) == "volume-01-of-02"
    many = labels.labels("a" * 64, [[]] * 120)
    assert labels.folder_name(many[6]) == "volume-007-of-120"


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(labels.dump(LABELS[0])) | fields).encode()


SHARE = {"size": 1, "blobs": ["b" * 64]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        changed(number=0),
        changed(number=3),
        changed(of=3),
        changed(of=10**9),
        changed(bundle="A" * 64),
        changed(format=2),
        changed(colour="red"),
        changed(volumes=[SHARE, SHARE]),
        changed(volumes=[SHARE, {"size": 1, "blobs": ["../../etc/passwd"]}]),
        changed(volumes=[SHARE, {"size": -1, "blobs": []}]),
    ],
)
def test_a_label_that_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(VerificationRefused) as refusal:
        labels.parse(data, "/media/b")
    assert refusal.value.reference == "volume-label-invalid"
    assert "/media/b" in refusal.value.message
