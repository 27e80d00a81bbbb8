"""How a bundle is divided over volumes; pure.

Every volume holds the whole head (all but blobs) and the few blobs that describe the rest, and a
share of the other blobs: so each can be checked alone and tells what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aibox.bundle.layout import CHUNK_BYTES, FOLDER_LIMIT, VOLUMES_LIMIT
from aibox.bundle.manifest import Carried
from aibox.bundle.sizes import show_size
from aibox.errors import BadUsage, Fault
from aibox.pins import Blob

_ENTRY_BYTES = 192  # A name of 64 digits takes six entries of 32 bytes in a FAT folder.
_LABEL_ENTRY_BYTES = 67  # A digest, its quotes and a comma.
_LABEL_VOLUME_BYTES = 64
_RESERVE_BYTES = 2 << 20
_RESERVE_SHARE = 100
"""Kept free: alignment and the tables of the file system (one part in so many)."""


@dataclass(frozen=True, slots=True)
class Order:
    """What goes where for whoever brings one volume after the other.

    Attributes:
        first: digests of blobs for the first volume: the program that starts everything.
        rows: the chunks of each large object, which are read in this order.
    """

    first: frozenset[str] = frozenset()
    rows: tuple[tuple[Blob, ...], ...] = ()


ANY_ORDER = Order()


def order_of(first: Iterable[str], objects: Iterable[Carried]) -> Order:
    """The order for a program's blobs and all objects of a bundle."""
    rows = {item.sha256: item.chunks for item in objects if len(item.chunks) > 1}
    return Order(frozenset(first), tuple(chunks for _, chunks in sorted(rows.items())))


def plan_volumes(
    blobs: Sequence[Blob],
    volume_bytes: int,
    head_bytes: int,
    head_blobs: int = 0,
    order: Order = ANY_ORDER,
) -> tuple[tuple[Blob, ...], ...]:
    """Divide `blobs` (each digest once) over volumes of `volume_bytes`, the same way in any order.

    Greatest first, each into the first volume with room; the chunks of one object never go back to
    an earlier volume. A file counts as the clusters and folder entries it takes on FAT32 or exFAT,
    and a reserve is kept for their tables.

    Args:
        volume_bytes: capacity of one medium as it is sold, in bytes.
        head_bytes: what lies on every volume, as `head_cost` counts it.
        head_blobs: how many blobs lie on every volume; they count against `FOLDER_LIMIT`.

    Returns:
        Per volume its blobs, sorted by digest. One empty volume when there are no blobs.

    Raises:
        BadUsage: `volume-too-small`, telling the least size; `volumes-too-many`.
    """
    cluster = _cluster_bytes(volume_bytes)
    room = _usable(volume_bytes) - head_bytes
    greatest = max((_cost(blob.size, cluster) for blob in blobs), default=0)
    if room < greatest:
        raise _too_small(volume_bytes, head_bytes, greatest)
    bins = _Bins(room, max(1, FOLDER_LIMIT - head_blobs))
    for place, cost, blob in _in_order(blobs, cluster, order):
        bins.put(place, cost, blob)
    if len(bins.shares) > VOLUMES_LIMIT:
        raise _too_many(volume_bytes, len(bins.shares))
    return tuple(tuple(sorted(share, key=_digest)) for share in bins.shares)


def require_volume(sizes: Iterable[int], volume_bytes: int) -> None:
    """The part of `plan_volumes` that can be told before anything is fetched: objects of these
    sizes (bytes) are cut into blobs, and the greatest has a place. Raises `volume-too-small`."""
    cluster = _cluster_bytes(volume_bytes)
    head = head_cost((), 0, (), volume_bytes)
    greatest = max((_cost(min(size, CHUNK_BYTES), cluster) for size in sizes), default=0)
    if _usable(volume_bytes) - head < greatest:
        raise _too_small(volume_bytes, head, greatest)


def head_cost(
    files: Iterable[int], directories: int, blobs: Iterable[Blob], volume_bytes: int
) -> int:
    """Bytes taken on every volume.

    Args:
        files: sizes of the files and blobs that all volumes hold, in bytes.
        directories: how many directories there are.
        blobs: the blobs that are divided; each has a line in volume.json.
    """
    cluster = _cluster_bytes(volume_bytes)
    label = sum(_LABEL_ENTRY_BYTES for _ in blobs) + VOLUMES_LIMIT * _LABEL_VOLUME_BYTES
    return sum(_cost(size, cluster) for size in (*files, label)) + directories * cluster


_Place = tuple[int, int]
"""Where a blob comes: the first ones before all, then by falling cost; equal ones are alike."""


def _in_order(blobs: Sequence[Blob], cluster: int, order: Order) -> list[tuple[_Place, int, Blob]]:
    """Blobs as they are put, each with its place and cost. A chunk comes where the first of its
    object does, also the last one, which is smaller."""
    alike: dict[str, tuple[int, int, int]] = {}
    for number, row in enumerate(order.rows):
        cost = max(_cost(chunk.size, cluster) for chunk in row)
        for position, chunk in enumerate(row):
            alike.setdefault(chunk.sha256, (cost, number, position))
    keyed = []
    for blob in blobs:
        cost = _cost(blob.size, cluster)
        like, row_number, position = alike.get(blob.sha256, (cost, len(order.rows), 0))
        place = (0 if blob.sha256 in order.first else 1, -like)
        keyed.append(((place, row_number, position, blob.sha256), cost, blob))
    keyed.sort(key=lambda item: item[0])
    return [(key[0], cost, blob) for key, cost, blob in keyed]


@dataclass
class _Bins:
    """First fit. What is put comes in order of its places, which keeps the search short."""

    room: int
    most: int

    def __post_init__(self) -> None:
        self.shares: list[list[Blob]] = [[]]
        self._free = [self.room]
        self._place: _Place | None = None
        self._from = 0

    def put(self, place: _Place, cost: int, blob: Blob) -> None:
        if place != self._place:
            self._place, self._from = place, 0
        number = self._from
        while number < len(self.shares) and not self._fits(number, cost):
            number += 1
        if number == len(self.shares):
            self.shares.append([])
            self._free.append(self.room)
        self._from = number  # What does not take this blob takes none of its size.
        self.shares[number].append(blob)
        self._free[number] -= cost

    def _fits(self, number: int, cost: int) -> bool:
        return self._free[number] >= cost and len(self.shares[number]) < self.most


def _digest(blob: Blob) -> str:
    return blob.sha256


def _cluster_bytes(volume_bytes: int) -> int:
    """32 KiB up to 32 GB (FAT32), above it 128 KiB (exFAT as media are sold)."""
    return (32 << 10) if volume_bytes <= 32 * 10**9 else (128 << 10)


def _cost(size: int, cluster: int) -> int:
    return -(-size // cluster) * cluster + _ENTRY_BYTES


def _usable(volume_bytes: int) -> int:
    return volume_bytes - volume_bytes // _RESERVE_SHARE - _RESERVE_BYTES


def _too_small(volume_bytes: int, head_bytes: int, greatest: int) -> BadUsage:
    megabyte = 10**6
    least = (head_bytes + greatest + _RESERVE_BYTES) * _RESERVE_SHARE // (_RESERVE_SHARE - 1)
    shown = f"{-(-least // megabyte) + 1}MB"
    return BadUsage(
        "volume-too-small",
        f"a volume of {show_size(volume_bytes)} cannot hold what every volume holds"
        f" ({show_size(head_bytes)}) and the greatest blob ({show_size(greatest)})",
        context=f"least size: {shown}",
        hint=f"give at least: ./aibox bundle build --volume-size {shown}",
        fault=Fault.YOU,
    )


def _too_many(volume_bytes: int, count: int) -> BadUsage:
    return BadUsage(
        "volumes-too-many",
        f"volumes of {show_size(volume_bytes)} would be {count}; {VOLUMES_LIMIT} are the limit",
        hint="give a greater size: ./aibox bundle build --volume-size 25GB",
        fault=Fault.YOU,
    )
