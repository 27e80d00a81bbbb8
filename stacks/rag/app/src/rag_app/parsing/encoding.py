"""From bytes to text in the encodings Korean offices use."""

from __future__ import annotations

import codecs
import unicodedata

from rag_app.parsing.refusals import refused

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_CHARACTERS = 20_000


def decode(data: bytes, declared: str = "") -> str:
    """`data` as text: by its byte order mark, else UTF-8, UTF-16, CP949 (which contains EUC-KR).

    `declared` is what the document says of itself; it is tried after UTF-8 and ignored when the
    bytes contradict it. Raises `DocumentRefused` ("unknown-encoding") rather than guess: a wrong
    guess would index noise without anybody noticing.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            text = _strict(data, encoding)
            return _fail() if text is None else text
    text = _strict(data, "utf-8")
    if text is not None and "\x00" not in text:
        return text
    for encoding in (utf16_flavour(data), _known(declared), "cp949"):
        text = _strict(data, encoding) if encoding else None
        if text is not None and _plausible(text):
            return text
    return _fail()


def _fail() -> str:
    raise refused("unknown-encoding")


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _known(declared: str) -> str:
    try:
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):
        return ""
    # Codecs such as zlib or rot13 are no text encodings, and Latin-1 accepts any bytes at all.
    return name if name in {"euc_kr", "cp949", "johab", "iso2022_kr", "utf-16"} else ""


def utf16_flavour(data: bytes) -> str:
    """The UTF-16 of text without a mark, known by its spaces and line ends; empty if it is none."""
    if len(data) % 2 or b"\x00" not in data:
        return ""
    sample = data[:_SAMPLE_CHARACTERS]
    low, high = sample[0::2], sample[1::2]
    little = sum(1 for a, b in zip(low, high, strict=True) if b == 0 and a in b" \n")
    big = sum(1 for a, b in zip(low, high, strict=True) if a == 0 and b in b" \n")
    if little == big:
        return ""
    return "utf-16-le" if little > big else "utf-16-be"


def _plausible(text: str) -> bool:
    """Whether it reads as Korean: almost any bytes decode as CP949, but not into Hangul."""
    sample = [mark for mark in text[:_SAMPLE_CHARACTERS] if mark > "\x7f"]
    korean = sum(1 for mark in sample if "가" <= mark <= "힣" or "ㄱ" <= mark <= "ㆎ")
    others = sum(1 for mark in sample if unicodedata.category(mark)[0] in "SPZN")
    return "\x00" not in text and korean * 2 >= len(sample) - others
