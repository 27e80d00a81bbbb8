"""The index of a bundle: which objects of the releases it carries, cut into which blobs; pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from aibox import digest
from aibox.bundle.finding import COMMAND
from aibox.bundle.layout import CHUNK_BYTES
from aibox.bundle.manifest import FORMAT, Absent, Carried, Index
from aibox.bundle.sizes import show_size
from aibox.errors import Fault, VerificationRefused
from aibox.pins import Blob

OBJECT_LIMIT = 8 << 40
"""Bytes of one object at the most: no file of a model or an image comes near."""

TOTAL_LIMIT = 64 << 40
"""Bytes of all objects of a bundle at the most."""


def make(carried: Iterable[Carried], absent: Iterable[Absent] = ()) -> Index:
    """The index in its one order, by digest."""
    return Index(
        format=FORMAT,
        carried=tuple(sorted(carried, key=lambda item: item.sha256)),
        absent=tuple(sorted(absent, key=lambda item: item.sha256)),
    )


def dump(index: Index) -> bytes:
    """The bytes of the index blob; the same index gives the same bytes."""
    return digest.canonical_json(index.model_dump(mode="json"))


def parse(data: bytes) -> Index:
    """Read an index whose digest was checked; raises `VerificationRefused` (`index-invalid`)."""
    try:
        index = Index.model_validate_json(data)
    except (ValidationError, RecursionError) as error:
        raise _refused("it is not readable: " + str(error).splitlines()[0]) from error
    if index.format != FORMAT:
        raise _refused(f"it has format {index.format}, this aibox reads {FORMAT}")
    return index


def chunks(index: Index) -> dict[str, Blob]:
    """Every blob of the carried objects, by digest. Objects may share blobs."""
    return {chunk.sha256: chunk for item in index.carried for chunk in item.chunks}


def check(
    index: Index,
    named: Iterable[Blob],
    needed: Iterable[Blob],
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> None:
    """Prove that the index is sound and complete, before anything is written or read.

    Args:
        named: the blobs that the signed manifest itself names.
        needed: every object of the releases and of the program, with its size.
        chunk_bytes: the size at which objects are cut.

    Raises:
        VerificationRefused: `index-invalid` (an object twice, two sizes, chunks of wrong size,
            absurd sizes) or `index-incomplete` (an object neither carried nor said to be absent).
    """
    sizes: dict[str, int] = {}
    items: tuple[Carried | Absent, ...] = (*index.carried, *index.absent)
    for item in items:
        if item.sha256 in sizes:
            raise _refused(f"it names the object {item.sha256} twice")
        if item.size > OBJECT_LIMIT:
            raise _refused(f"the object {item.sha256} of {show_size(item.size)} cannot be")
        sizes[item.sha256] = item.size
    if (total := sum(sizes.values())) > TOTAL_LIMIT:
        raise _refused(f"objects of {show_size(total)} cannot be")
    _check_chunks(index, {blob.sha256: blob.size for blob in named}, chunk_bytes)
    _check_complete(sizes, needed)


def _check_chunks(index: Index, sizes: dict[str, int], chunk_bytes: int) -> None:
    """`sizes`: blobs of known size; every chunk is added."""
    for item in index.carried:
        *whole, last = [chunk.size for chunk in item.chunks] or [0]
        rightly_cut = all(size == chunk_bytes for size in whole) and last <= chunk_bytes
        if not item.chunks or not rightly_cut or (whole and not last):
            raise _refused(f"the object {item.sha256} is not cut at {chunk_bytes} bytes")
        for chunk in item.chunks:
            if sizes.setdefault(chunk.sha256, chunk.size) != chunk.size:
                raise _refused(f"the blob {chunk.sha256} has two sizes")


def _check_complete(sizes: dict[str, int], needed: Iterable[Blob]) -> None:
    for blob in needed:
        size = sizes.get(blob.sha256)
        if size is None:
            raise VerificationRefused(
                "index-incomplete",
                "a release needs an object that the bundle neither carries nor says is elsewhere",
                context=f"sha256:{blob.sha256}, {blob.size} bytes",
                hint="the bundle was made wrongly; make it again with: ./aibox bundle build",
                fault=Fault.UPSTREAM,
            )
        if size != blob.size:
            raise _refused(f"the object {blob.sha256} has {size} bytes, a release says {blob.size}")


def _refused(facts: str) -> VerificationRefused:
    return VerificationRefused(
        "index-invalid",
        "the index of the bundle contradicts itself or the releases",
        context=facts,
        hint=f"ask whoever made the bundle for it again, then: {COMMAND}",
        fault=Fault.UPSTREAM,
    )
