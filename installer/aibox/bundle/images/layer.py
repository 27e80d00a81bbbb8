"""One layer, read once: its digest, its content's digest, and every member judged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import BinaryIO

from aibox.bundle.images.expand import compression_of, expand
from aibox.bundle.images.limits import Limits
from aibox.bundle.images.manifest import LAYER_COMPRESSIONS, Descriptor
from aibox.bundle.images.members import Judge
from aibox.bundle.images.problems import Note, Problem, ProblemKind, Unfit
from aibox.bundle.images.tar import Source, members
from aibox.pins import Blob

CHUNK_BYTES = 1 << 20
_MAGIC_BYTES = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as manifest and configuration name it; counted from 1, the lowest."""

    number: int
    descriptor: Descriptor
    diff_id: str

    @property
    def where(self) -> str:
        """How problems call it."""
        return f"layer {self.number}"


class Budget:
    """Uncompressed bytes that all layers of an image share, whichever thread reads them."""

    def __init__(self, total: int) -> None:
        self._left = total
        self._turn = Lock()

    def spend(self, count: int) -> bool:
        """Take `count` bytes; False when there are not so many left."""
        with self._turn:
            self._left -= count
            return self._left >= 0


def check_layer(
    layer: Layer,
    stream: BinaryIO,
    *,
    limits: Limits,
    budget: Budget,
    on_bytes: Callable[[int], None],
) -> tuple[Sequence[Problem], Sequence[Note]]:
    """Read a layer to its end. A wrong digest is told alone: whatever else is, follows from it."""
    hashed = _Hashed(stream, layer.descriptor.blob, on_bytes)
    judge = Judge(layer.number, layer.where)
    problems: list[Problem] = []
    try:
        content = _Content(layer, _expanded(layer, hashed.chunks()), limits, budget)
        for member in members(Source(content.chunks(), layer.where), limits):
            problems += judge.judge(member)
            if len(problems) >= limits.problems:
                break
        else:
            content.require_diff_id()
    except Unfit as unfit:
        problems.append(unfit.problem)
    if not hashed.is_right():
        expected = f"expected sha256:{layer.descriptor.blob.sha256}"
        return [Problem(ProblemKind.DIGEST, layer.where, expected)], ()
    return problems, judge.notes


class _Hashed:
    """The bytes of a blob and their digest; never more than one byte beyond its size."""

    def __init__(self, stream: BinaryIO, blob: Blob, on_bytes: Callable[[int], None]) -> None:
        self._stream, self._blob, self._on_bytes = stream, blob, on_bytes
        self._state, self._length = hashlib.sha256(), 0

    def chunks(self) -> Iterator[bytes]:
        """What is left of them."""
        while (left := self._blob.size + 1 - self._length) > 0:
            chunk = self._stream.read(min(CHUNK_BYTES, left))
            if not chunk:
                return
            self._length += len(chunk)
            self._state.update(chunk)
            self._on_bytes(len(chunk))
            yield chunk

    def is_right(self) -> bool:
        """Whether all bytes, read to their end now, are those of the digest."""
        for _ in self.chunks():
            pass
        return (self._state.hexdigest(), self._length) == (self._blob.sha256, self._blob.size)


def _expanded(layer: Layer, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The uncompressed layer; what its bytes begin with must be what the manifest says of them."""
    start = b""
    while len(start) < _MAGIC_BYTES and (chunk := next(chunks, b"")):
        start += chunk
    found, said = compression_of(start), LAYER_COMPRESSIONS[layer.descriptor.media_type]
    if found != said:
        raise Unfit(
            ProblemKind.COMPRESSION,
            layer.where,
            f"the manifest says {said or 'none'}, the bytes {found or 'none'}",
        )
    return expand(chain([start], chunks), found, layer.where)


class _Content:
    """Uncompressed bytes, hashed and counted against the limits."""

    def __init__(
        self, layer: Layer, chunks: Iterator[bytes], limits: Limits, budget: Budget
    ) -> None:
        self._layer, self._chunks, self._limits, self._budget = layer, chunks, limits, budget
        self._state, self._length = hashlib.sha256(), 0

    def chunks(self) -> Iterator[bytes]:
        """Raises `Unfit` (`BOMB`) before the bytes beyond a limit are used."""
        most = max(self._limits.ratio * self._layer.descriptor.size, self._limits.ratio_from)
        for chunk in self._chunks:
            self._length += len(chunk)
            if self._length > most:
                raise self._bomb(f"more than {self._limits.ratio} times its size")
            if not self._budget.spend(len(chunk)):
                raise self._bomb(f"the image has more than {self._limits.image_bytes} bytes")
            self._state.update(chunk)
            yield chunk

    def require_diff_id(self) -> None:
        """Raises `Unfit` unless the content is what the configuration names."""
        found = f"sha256:{self._state.hexdigest()}"
        if found != self._layer.diff_id:
            detail = f"{found}, not {self._layer.diff_id}"
            raise Unfit(ProblemKind.DIFF_ID, self._layer.where, detail)

    def _bomb(self, detail: str) -> Unfit:
        return Unfit(ProblemKind.BOMB, self._layer.where, detail)
