"""Unpack the program of a bundle into its folder in the box.

Usage: unpack_program.py BUNDLE FOLDER DIGEST

`BUNDLE/program.txt`, whose SHA-256 is DIGEST, names every file; each is a blob. Nothing is believed
but digests, and nothing outside FOLDER is written. It may be stopped at any point, also by
`kill -9`, and run again, also twice at once:

- `FOLDER/program.lock` is held (flock) by whoever unpacks;
- a file gets its name when it is whole; one that has it is read again before it is believed;
- `FOLDER/program.txt` is written last: without it the program is not started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from medium import Medium
from program_folder import ProgramFolder
from program_text import ProgramFile, parse
from progress import Progress
from refusal import INTERRUPTED, Refused
from sole import holding


def main(bundle: Path, folder: Path, digest: str) -> int:
    """Unpack what is not there yet; returns the exit code."""
    os.umask(0o022)
    progress = Progress("./aibox")
    again = f'sh "{bundle / "aibox"}"'
    try:
        _unpack(Medium(bundle, again), ProgramFolder(folder, again), digest, progress)
    except Refused as refused:
        progress.say("the program was not unpacked")
        refused.tell()
        return refused.exit_code
    except KeyboardInterrupt:
        progress.say(f"interrupted; to go on: {again}")
        return INTERRUPTED
    return 0


def _unpack(medium: Medium, folder: ProgramFolder, digest: str, progress: Progress) -> None:
    with folder.explaining(), holding(folder.lock, "unpacks the program", progress):
        if folder.is_whole(digest):
            return
        progress.say(f"unpacking the program into {folder.path}; only the first run does this")
        text = medium.text(digest)
        folder.begin()
        wanted = _not_there(parse(text), folder, progress)
        # Taken in any order, so that the volumes of a split bundle can be brought one by one.
        missing = [file for file in wanted if not medium.has(file)]
        _take([file for file in wanted if file not in missing], medium, folder, progress)
        if missing:
            raise medium.incomplete(missing)
        folder.finish(text)


def _not_there(
    files: Sequence[ProgramFile], folder: ProgramFolder, progress: Progress
) -> list[ProgramFile]:
    wanted = []
    for number, file in enumerate(files):
        progress.update("looking at what is there", f"{number} of {len(files)} files")
        if not folder.has(file):
            wanted.append(file)
    return wanted


def _take(
    files: Sequence[ProgramFile], medium: Medium, folder: ProgramFolder, progress: Progress
) -> None:
    total, done = sum(file.size for file in files), 0

    def show(count: int) -> None:
        nonlocal done
        done += count
        progress.update("unpacking", f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")

    folder.require_room(total)
    for file in files:
        folder.take(file, medium.blocks(file), show)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
