"""Build, check and read a bundle of one sparse object; prints what it took, as JSON.

    python large_objects.py FOLDER SIZE

A program of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "installer"))

from aibox.bundle import index as indexes
from aibox.bundle.checking import check_content
from aibox.bundle.media import Media
from aibox.bundle.writer import BundleWriter, Source

MARKS = (0, (2 << 30) - 3, (4 << 30) - 3)
"""Where bytes other than zero lie: the start, and across the sizes that have broken others."""


def main(folder: Path, size: int) -> None:
    """Make the object and take it through."""
    source = sparse(folder / "source", size)
    with BundleWriter(folder / "box") as writer:
        index = indexes.make(writer.add_objects([source]))
        writer.finish({"bundle.json": b"{}"})
    source.path.unlink()
    indexes.check(index, (), ())
    (carried,) = index.carried
    with Media.open([folder / "box"]) as media:
        found = check_content(media, {}, index, report=lambda _: None)
        with media.open_object(carried) as stream:
            read = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(size - 5)
            end = stream.read()
    print(
        json.dumps(
            {
                "ok": found.ok,
                "right": read == source.sha256,
                "end": end.decode(),
                "chunks": len(carried.chunks),
                "peak_mib": peak_mib(),
            }
        )
    )


def sparse(path: Path, size: int) -> Source:
    """A file that takes no room but for its marks and its end."""
    with path.open("wb") as file:
        for mark in (mark for mark in MARKS if mark < size):
            file.seek(mark)
            file.write(b"MARKED")
        os.truncate(path, size)
        file.seek(size - 5)
        file.write(b"ENDED")
    with path.open("rb") as file:
        return Source(path, hashlib.file_digest(file, "sha256").hexdigest(), size)


def peak_mib() -> float:
    """Peak of resident memory; unlike `ru_maxrss`, not that of whoever started us."""
    found = re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
