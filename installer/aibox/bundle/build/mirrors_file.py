"""Reading what this packager knows of addresses: a mirrors file of his, and apt's configuration."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from aibox.bundle.packages import sources
from aibox.bundle.packages.mirrors import COMMAND, VERSION, Mirrors, MirrorsFile
from aibox.bundle.packages.sources import Source
from aibox.schema import read_toml

VARIABLE = "AIBOX_MIRRORS"
APT = Path("/etc/apt")
LIMIT = 1 << 20
"""Bytes of a file of apt's configuration that are read at the most."""

_LIST = "mirror+file:"


def read(path: Path | None = None, apt: Path = APT) -> Mirrors:
    """What `path` (or $AIBOX_MIRRORS) and apt's configuration below `apt` say.

    Raises `BadUsage` (`mirrors-missing`, `-invalid`, …) for a mirrors file that is not right;
    files of apt that cannot be read are passed over, as whoever runs apt would see.
    """
    if path is None and os.environ.get(VARIABLE):
        path = Path(os.environ[VARIABLE])
    if path is None:
        return Mirrors((), configured(apt))
    file = read_toml(path, MirrorsFile, what="mirrors", version=VERSION, command=COMMAND)
    return Mirrors(file.archive, configured(apt))


def configured(apt: Path) -> tuple[Source, ...]:
    """The archives that apt uses with this folder as its configuration."""
    parts = apt / "sources.list.d"
    files = [apt / "sources.list", *sorted((*parts.glob("*.list"), *parts.glob("*.sources")))]
    found = (source for file in files for source in sources.parse(file.name, _text(file)))
    return tuple(plain for source in found if (plain := _first_mirror(source)) is not None)


def _first_mirror(source: Source) -> Source | None:
    """A source with a list of mirrors gets the first of the list: we fetch without apt's help."""
    if not source.address.startswith(_LIST):
        return source
    for line in _text(Path("/" + source.address.removeprefix(_LIST).lstrip("/"))).splitlines():
        address = line.partition("#")[0].split()
        if address and address[0].startswith(("http:", "https:", "file:")):
            return dataclasses.replace(source, address=address[0].rstrip("/"))
    return None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""
