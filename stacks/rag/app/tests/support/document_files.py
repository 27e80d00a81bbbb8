"""Makes real documents for tests: PDF (also encrypted), DOCX, zip archives."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import docx

_PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")


def pdf(*pages: Sequence[str], title: str = "", password: str = "") -> bytes:
    """A PDF with a line of text for each string; any Unicode of the basic plane.

    The font is not embedded, only mapped to Unicode: enough for a text layer. With `password`
    it carries a standard security handler (RC4, 40 bits) that the empty password does not open.
    """
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        _pages_object(len(pages)),
        b"<</Type/Font/Subtype/Type0/BaseFont/Test/Encoding/Identity-H"
        b"/DescendantFonts[4 0 R]/ToUnicode 5 0 R>>",
        b"<</Type/Font/Subtype/CIDFontType2/BaseFont/Test/DW 600/FontDescriptor 6 0 R"
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>>>",
        _stream(_unicode_map("".join(line for page in pages for line in page))),
        b"<</Type/FontDescriptor/FontName/Test/Flags 4/FontBBox[0 0 1000 1000]/ItalicAngle 0"
        b"/Ascent 800/Descent -200/CapHeight 700/StemV 80>>",
        b"<</Title<feff" + title.encode("utf-16-be").hex().encode() + b">>>",
    ]
    for lines in pages:
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources<</Font<</F1 3 0 R>>>>"
            + b"/Contents %d 0 R>>" % (len(objects) + 2)
        )
        objects.append(_stream(_content(lines)))
    return _file(objects, _encryption(password) if password else b"")


def _pages_object(count: int) -> bytes:
    kids = b" ".join(b"%d 0 R" % (8 + 2 * number) for number in range(count))
    return b"<</Type/Pages/Count %d/Kids[%s]>>" % (count, kids)


def _content(lines: Sequence[str]) -> bytes:
    shown = [b"<%s> Tj 0 -16 Td" % line.encode("utf-16-be").hex().encode() for line in lines]
    return b"BT /F1 12 Tf 20 760 Td " + b"\n".join(shown) + b" ET"


def _unicode_map(used: str) -> bytes:
    pairs = [b"<%04x> <%04x>" % (ord(mark), ord(mark)) for mark in sorted(set(used))]
    blocks = [pairs[first : first + 100] for first in range(0, len(pairs), 100)]
    body = b"\n".join(
        b"%d beginbfchar\n%s\nendbfchar" % (len(block), b"\n".join(block)) for block in blocks
    )
    return (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        b"1 begincodespacerange <0000> <ffff> endcodespacerange\n" + body + b"\nendcmap end end"
    )


def _stream(content: bytes) -> bytes:
    return b"<</Length %d>>\nstream\n%s\nendstream" % (len(content), content)


def _file(objects: Sequence[bytes], encryption: bytes) -> bytes:
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<</Size %d/Root 1 0 R/Info 7 0 R%s>>\n" % (len(objects) + 1, encryption)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % table)


def _encryption(password: str) -> bytes:
    """Standard security handler, revision 2 (PDF 1.7, 7.6.3): algorithms 2, 3 and 4."""
    padded = (password.encode() + _PADDING)[:32]
    identity = b"0123456789abcdef"
    owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
    key = hashlib.md5(padded + owner + b"\xff\xff\xff\xff" + identity).digest()[:5]
    user = _rc4(key, _PADDING)
    return b"/ID[<%s><%s>]/Encrypt<</Filter/Standard/V 1/R 2/P -1/O<%s>/U<%s>>>" % tuple(
        part.hex().encode() for part in (identity, identity, owner, user)
    )


def _rc4(key: bytes, data: bytes) -> bytes:
    state, other = list(range(256)), 0
    for place in range(256):
        other = (other + state[place] + key[place % len(key)]) % 256
        state[place], state[other] = state[other], state[place]
    out, first, second = bytearray(), 0, 0
    for byte in data:
        first = (first + 1) % 256
        second = (second + state[first]) % 256
        state[first], state[second] = state[second], state[first]
        out.append(byte ^ state[(state[first] + state[second]) % 256])
    return bytes(out)


def docx_bytes(document: docx.document.Document) -> bytes:
    """The file that python-docx writes."""
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def archive(entries: Mapping[str, bytes]) -> bytes:
    """A zip file, deflated."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    return file.getvalue()


def docx_with_part(content: bytes, name: str = "word/document.xml") -> bytes:
    """A DOCX whose part `name` is replaced by `content`."""
    with zipfile.ZipFile(io.BytesIO(docx_bytes(docx.Document()))) as source:
        parts = {entry: source.read(entry) for entry in source.namelist()}
    return archive({**parts, name: content})


def written(folder: Path, name: str, content: bytes | str) -> Path:
    """The path of a new file below `folder`."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
