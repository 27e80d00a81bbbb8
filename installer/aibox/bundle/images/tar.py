"""A strict reader of tar streams: members without their content, nothing extracted.

It reads what Docker, BuildKit and the tools beside them write: ustar, pax and GNU long names.
Whatever two readers may understand differently is `Unfit`: the bytes we check must mean the same
to the program that unpacks them. Sources: POSIX.1-2017 (pax), and Go's archive/tar, which reads
them in Docker. Memory is bounded by `Limits.header_bytes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from aibox.bundle.images.limits import Limits
from aibox.bundle.images.problems import ProblemKind, Unfit

BLOCK = 512
_OCTAL = re.compile(rb"[0-7]+")
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_POSIX, _GNU = b"ustar\x0000", b"ustar  \x00"
_STAR_TRAILER = b"tar\x00"  # star's own format ends its prefix elsewhere
_ATTRIBUTE = b"SCHILY.xattr."
_ONCE = (b"path", b"linkpath", b"size")
_SPARSE = b"GNU.sparse."


class Type(Enum):
    """Types of members, by their letter in the header."""

    REGULAR = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    FOLDER = b"5"
    FIFO = b"6"


_TYPES = {b"\x00": Type.REGULAR, **{kind.value: kind for kind in Type}}
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_META = frozenset({_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK})


@dataclass(frozen=True, slots=True)
class Member:
    """One entry; names are bytes as they stand, `size` counts the bytes of its content."""

    name: bytes
    type: Type
    size: int = 0
    mode: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    attributes: tuple[bytes, ...] = ()


class Source:
    """Exact reads from chunks of any size; raises `Unfit` where the stream ends too early."""

    def __init__(self, chunks: Iterator[bytes], where: str) -> None:
        self.where = where
        self._chunks = chunks
        self._chunk = memoryview(b"")

    def take(self, count: int) -> bytes:
        """The next `count` bytes; b"" at the very end of the stream."""
        if len(self._chunk) >= count:
            data = bytes(self._chunk[:count])
            self._chunk = self._chunk[count:]
            return data
        parts = bytearray()
        while len(parts) < count and (self._chunk or self._refill()):
            piece = self._chunk[: count - len(parts)]
            parts += piece
            self._chunk = self._chunk[len(piece) :]
        if 0 < len(parts) < count:
            raise self.damaged("ends in the middle of a block")
        return bytes(parts)

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        while count > 0:
            if not self._chunk and not self._refill():
                raise self.damaged("ends in the middle of a file")
            step = min(count, len(self._chunk))
            self._chunk = self._chunk[step:]
            count -= step

    def require_zeros(self) -> None:
        """Read to the end, where nothing but padding may follow."""
        while self._chunk or self._refill():
            if any(self._chunk):
                raise self.damaged("bytes after its end")
            self._chunk = memoryview(b"")

    def damaged(self, detail: str) -> Unfit:
        """The problem that this is no sound archive."""
        return Unfit(ProblemKind.TAR, self.where, detail)

    def _refill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk = memoryview(chunk)
                return True
        return False


def members(source: Source, limits: Limits) -> Iterator[Member]:
    """Every member up to the end of the archive; the whole stream has been read then."""
    count, extras = 0, _Extras()
    while block := source.take(BLOCK):
        if not any(block):
            if any(source.take(BLOCK)):
                raise source.damaged("a lone block of zeros")
            source.require_zeros()
            break
        letter, size = _checked(block, source)
        # Of the other headers there is one for a member at the most.
        count += letter not in _META or letter == _PAX_GLOBAL
        if count > limits.layer_members:
            raise Unfit(ProblemKind.MEMBERS, source.where, f"more than {limits.layer_members}")
        if letter in _META:
            extras.read(letter, _body(source, size, limits), source)
            continue
        member = _member(block, letter, size, extras, source)
        yield member
        source.skip(_padded(member.size))
        extras = _Extras()
    if not extras.empty:
        raise source.damaged("ends after the header of a header")


class _Extras:
    """What the headers before a header say about it."""

    def __init__(self) -> None:
        self._records: dict[bytes, bytes] = {}
        self._seen: set[bytes] = set()

    @property
    def empty(self) -> bool:
        return not self._seen - {_PAX_GLOBAL}

    def read(self, letter: bytes, body: bytes, source: Source) -> None:
        if letter == _PAX_GLOBAL:
            _require_harmless(_records(body, source), source)
            return
        if letter in self._seen:
            raise source.damaged("two headers of one kind for one member")
        self._seen.add(letter)
        if letter == _PAX:
            found = _records(body, source)
        else:
            text = body.partition(b"\x00")[0]
            found = {b"path" if letter == _LONG_NAME else b"linkpath": text}
        if self._records.keys() & found.keys() & set(_ONCE):
            raise source.damaged("a name given twice")
        self._records |= found

    def text(self, key: bytes, default: bytes) -> bytes:
        return self._records.get(key) or default

    def size(self, default: int, source: Source) -> int:
        text = self._records.get(b"size")
        if not text:
            return default
        if _DECIMAL.fullmatch(text) is None:
            raise source.damaged("a size that is no number")
        return int(text)

    def attributes(self) -> tuple[bytes, ...]:
        cut = len(_ATTRIBUTE)
        return tuple(key[cut:] for key in self._records if key.startswith(_ATTRIBUTE))


def _checked(block: bytes, source: Source) -> tuple[bytes, int]:
    """Type letter and size of a header whose checksum is right."""
    expected = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _number(block[148:156], source) != expected:
        raise source.damaged("a header with a wrong checksum")
    if block[257:265] == _POSIX and block[508:] == _STAR_TRAILER:
        raise source.damaged("the format of star, which readers understand differently")
    return block[156:157], _number(block[124:136], source)


def _member(block: bytes, letter: bytes, size: int, extras: _Extras, source: Source) -> Member:
    kind = _TYPES.get(letter)
    name = extras.text(b"path", _name(block))
    if kind is None:
        raise Unfit(ProblemKind.TYPE, f"{source.where}: {shown(name)}", f"type {letter!r}")
    size = extras.size(size, source)
    if size and kind is not Type.REGULAR:
        raise source.damaged(f"{shown(name)}: content where its type has none")
    return Member(
        name=name,
        type=kind,
        size=size,
        mode=_number(block[100:108], source),
        link=extras.text(b"linkpath", _text(block[157:257])),
        device=(_number(block[329:337], source), _number(block[337:345], source)),
        attributes=extras.attributes(),
    )


def _name(block: bytes) -> bytes:
    name, prefix = _text(block[:100]), _text(block[345:500])
    return prefix + b"/" + name if prefix and block[257:265] == _POSIX else name


def _body(source: Source, size: int, limits: Limits) -> bytes:
    if size > limits.header_bytes:
        raise Unfit(ProblemKind.HEADER, source.where, f"{size} bytes; {limits.header_bytes} may be")
    data = source.take(_padded(size))
    if len(data) < size:
        raise source.damaged("ends in a header")
    return data[:size]


def _records(body: bytes, source: Source) -> dict[bytes, bytes]:
    """The records `length key=value\\n` of a pax header."""
    found: dict[bytes, bytes] = {}
    start = 0
    while start < len(body):
        length, space, _ = body[start : start + 20].partition(b" ")
        if not space or _DECIMAL.fullmatch(length) is None:
            raise source.damaged("a pax record without a length")
        end = start + int(length)
        record = body[start + len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(body) or not record.endswith(b"\n") or not key or not equals:
            raise source.damaged("a malformed pax record")
        if key in found or key.startswith(_SPARSE):
            raise source.damaged(f"the pax record {shown(key)} twice, or for a sparse file")
        found[key] = value[:-1]
        start = end
    return found


def _require_harmless(records: dict[bytes, bytes], source: Source) -> None:
    """Docker ignores global headers; other readers do not: they may say nothing of members."""
    for key in records:
        if key in _ONCE or key.startswith(_ATTRIBUTE):
            raise source.damaged(f"a global header that sets {shown(key)}")


def _number(data: bytes, source: Source) -> int:
    """A number of a header: octal, or binary where its first bit is set (GNU)."""
    if data[0] == 0x80:
        return int.from_bytes(data[1:], "big")
    text = data.strip(b" \x00")
    if text and _OCTAL.fullmatch(text) is None:
        raise source.damaged("a header with a number that is none")
    return int(text or b"0", 8)


def _text(data: bytes) -> bytes:
    return data.partition(b"\x00")[0]


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def shown(name: bytes) -> str:
    """A name for people: short, on one line, whatever bytes it is made of."""
    text = name[:160].decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
