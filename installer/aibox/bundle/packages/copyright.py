"""The licence of a Debian package, read from its `copyright` file (DEP-5)."""

from __future__ import annotations

import re

from aibox.bundle.packages.control import paragraphs

UNKNOWN = "unknown"
LIMIT = 4 << 20
"""Bytes of a copyright file that are read at the most."""

_FORMAT = re.compile(r"copyright-format|dep-?5", re.IGNORECASE)
_JOINT = re.compile(
    r"(?:\s*[,;|])?\s+(?:and/or|and|or(?!\s+(?:later|newer|any)))\s+|\s*[,;|]\s*", re.IGNORECASE
)


def licence_of(text: str) -> str:
    """The short names of all licences in a package, joined by `AND`; `unknown` without DEP-5.

    Only the machine-readable format says which is which. A file's choice (`GPL-2 or MIT`) counts
    as both: this tells what to read, it decides nothing.
    """
    read = list(paragraphs(text.splitlines()))
    if not read or not _FORMAT.search(read[0].get("Format")):
        return UNKNOWN
    names: dict[str, None] = {}
    for paragraph in read:
        if paragraph.get("Files") or paragraph is read[0]:
            first = paragraph.get("License").split("\n", 1)[0]
            names |= dict.fromkeys(name.strip() for name in _JOINT.split(first) if name.strip())
    return " AND ".join(sorted(names, key=str.lower)) or UNKNOWN
