"""Kernel modules that are compiled on the box (DKMS): who brings them, how their build failed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aibox.bundle.packages.control import Paragraph

_DEPENDS_ON_DKMS = re.compile(r"(?:^|[,\s])dkms(?:$|[\s,|(:])")
_SOURCE = re.compile(
    r"(?:^|,)\s*(?P<name>[a-z0-9][a-z0-9.+-]*-source(?:-[a-z0-9.+-]+)?)(?=[\s,(]|$)"
)
# file.c:123:4: error: …, and what make and modpost say without a place in a file
_COMPILER = re.compile(r"^\S+:[0-9]+(?::[0-9]+)?: (?:fatal )?error: ")
_OTHER = re.compile(r"^(?:ERROR|Error!|error:|make(?:\[[0-9]+\])?: \*\*\*|/bin/sh: )")


def is_module(control: Paragraph) -> bool:
    """Whether a package brings a module to be compiled: it depends on dkms itself."""
    needs = f"{control.get('Depends')}, {control.get('Pre-Depends')}"
    return bool(_DEPENDS_ON_DKMS.search(needs)) and control.get("Package") != "dkms"


def source_packages(control: Paragraph) -> tuple[str, ...]:
    """Packages that hold a module's source apart from its package (Ubuntu's kernel-source)."""
    return tuple(match["name"] for match in _SOURCE.finditer(control.get("Depends")))


def first_error(log: Sequence[str]) -> str:
    """The first line of a build's log that says why it failed; the last line if none does."""
    for pattern in (_COMPILER, _OTHER):
        for line in log:
            if pattern.match(line):
                return line.strip()
    return log[-1].strip() if log else "the build said nothing"
