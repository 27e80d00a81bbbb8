"""What a box trusts, as files: chains of roots, revocations, and floors that only rise.

::

    trust/box.key                      the box's own key (signs what it says it holds)
    trust/<chain>/1.root.json …        a chain of roots; its name is the SHA-256 of the first
    trust/<chain>/revoked.json         the newest list of revocations of that chain
    trust/<chain>/floors.a.json, .b    what was accepted before, two slots written in turn

Chains are independent: a vendor's and a customer's may lie side by side. Bytes and numbers only:
whoever writes here has verified them (`aibox.trusting`), and holds the lock of the box.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from aibox import digest
from aibox.box.filesystem import Filesystem
from aibox.box.layout import checked
from aibox.digest import canonical_json, is_digest
from aibox.errors import Failed, Fault

REVOCATIONS = "revoked.json"


class ChainFloors(BaseModel):
    """What of a chain was accepted before; see `bundle.trust.head.Floors` for the meaning.

    `slot` tells which of two slots is newer. Unknown keys are kept, so that an older command does
    not lose what a newer one wrote.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    slot: int = 0
    sequence: int = 0
    content: str = ""
    min_sequence: int = 0
    root_version: int = 0
    revocations_version: int = 0
    time_floor: int = 0

    def raised(self, other: ChainFloors) -> ChainFloors:
        """The higher of both, number by number; `content` goes with its sequence."""
        newer = max(self, other, key=lambda floors: (floors.sequence, bool(floors.content)))
        names = ("min_sequence", "root_version", "revocations_version", "time_floor")
        higher = {name: max(getattr(self, name), getattr(other, name)) for name in names}
        return self.model_copy(
            update={**higher, "sequence": newer.sequence, "content": newer.content}
        )


def encode(floors: ChainFloors) -> bytes:
    """The bytes of a slot: canonical JSON with the CRC-32 of everything else in it."""
    values = floors.model_dump(mode="json")
    return canonical_json(values | {"crc": zlib.crc32(canonical_json(values))}) + b"\n"


def decode(data: bytes) -> ChainFloors | None:
    """The floors in a slot; None for any bytes that are not exactly some."""
    try:
        values = json.loads(data)
        crc = values.pop("crc")
        valid = crc == zlib.crc32(canonical_json(values))
        return ChainFloors.model_validate(values) if valid else None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


class TrustStore:
    """The folder `trust` below a box root. Reading needs no folder, writing makes it."""

    def __init__(self, root: Path, filesystem: Filesystem | None = None) -> None:
        self.folder = root / "trust"
        self.box_key = self.folder / "box.key"
        self._filesystem = filesystem or Filesystem()

    def chains(self) -> tuple[str, ...]:
        """The names of the chains that are whole enough to begin with their first root.

        Raises `Failed`: `trust-unreadable`.
        """
        try:
            names = sorted(entry.name for entry in self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise _unreadable(self.folder, error) from error
        return tuple(name for name in names if is_digest(name) and self._first(name))

    def roots(self, chain: str) -> dict[int, bytes]:
        """The roots of a chain by version, from 1 on without a gap."""
        found: dict[int, bytes] = {}
        while (data := self._read(chain, f"{len(found) + 1}.root.json")) is not None:
            found[len(found) + 1] = data
        return found

    def newest(self, chain: str) -> bytes:
        """The newest root of a chain that `chains` names."""
        roots = self.roots(chain)
        return roots[len(roots)]

    def revocations(self, chain: str) -> bytes | None:
        """The newest list of revocations of a chain, None when there is none."""
        return self._read(chain, REVOCATIONS)

    def floors(self, chain: str) -> ChainFloors:
        """What was accepted before; zeros when nothing was."""
        return self._newest_slot(chain)[0]

    def add(self, first: bytes) -> str:
        """Begin a chain with its first root; its name. Nothing if it is there."""
        chain = digest.of_bytes(first)
        if not self._first(chain):
            self._make(chain)
            self._filesystem.publish(self._path(chain, "1.root.json"), first)
        return chain

    def keep_root(self, chain: str, version: int, data: bytes) -> None:
        """Add a root to a chain; durable on return."""
        if self._read(chain, f"{version}.root.json") != data:
            self._filesystem.publish(self._path(chain, f"{version}.root.json"), data)

    def keep_revocations(self, chain: str, data: bytes) -> None:
        """Replace the list of revocations of a chain; durable on return."""
        if self.revocations(chain) != data:
            self._filesystem.publish(self._path(chain, REVOCATIONS), data)

    def raise_floors(self, chain: str, floors: ChainFloors) -> ChainFloors:
        """Write the higher of what is held and `floors` over the older slot."""
        held, index = self._newest_slot(chain)
        raised = held.raised(floors)
        if raised == held and held.slot:
            return held
        raised = raised.model_copy(update={"slot": held.slot + 1})
        self._filesystem.publish(self._slots(chain)[1 - index], encode(raised))
        return raised

    def keep_box_key(self, data: bytes) -> None:
        """Write the box's own key, for its owner's eyes alone; durable on return."""
        self._filesystem.make_directory(self.folder)
        self._filesystem.publish(self.box_key, data)

    def _make(self, chain: str) -> None:
        for folder in (self.folder, self.folder / chain):
            self._filesystem.make_directory(folder)

    def _first(self, chain: str) -> bool:
        data = self._read(chain, "1.root.json")
        return data is not None and digest.of_bytes(data) == chain

    def _path(self, chain: str, name: str) -> Path:
        return self.folder / checked(chain) / name

    def _slots(self, chain: str) -> tuple[Path, Path]:
        return self._path(chain, "floors.a.json"), self._path(chain, "floors.b.json")

    def _newest_slot(self, chain: str) -> tuple[ChainFloors, int]:
        """The valid slot that is newer, and its index; (zeros, 1) when neither is valid."""
        read = [self._read(chain, path.name) for path in self._slots(chain)]
        found = [
            (floors, index) for index, data in enumerate(read) if (floors := decode(data or b""))
        ]
        return max(found, key=lambda pair: pair[0].slot, default=(ChainFloors(), 1))

    def _read(self, chain: str, name: str) -> bytes | None:
        path = self._path(chain, name)
        try:
            with open(path, "rb", opener=_without_links) as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(path, error) from error


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _unreadable(path: Path, error: OSError) -> Failed:
    return Failed(
        "trust-unreadable",
        "what this box trusts cannot be read",
        context=f"{path}: {error.strerror}",
        hint="run this as the owner of the box: ./aibox trust list",
        fault=Fault.HOST,
    )
