"""The record's file: append, durable, and nothing else."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from aibox import record
from aibox.box.filesystem import Filesystem
from aibox.errors import Fault, NeedsPerson
from aibox.record import Entry, History


class RecordFile:
    """`record.jsonl`. Only the holder of the box's lock appends."""

    def __init__(self, path: Path, filesystem: Filesystem) -> None:
        self._path = path
        self._filesystem = filesystem

    def read(self) -> History:
        """What is recorded; an empty history if the file is missing.

        Raises `NeedsPerson` (`record-unreadable`): what cannot be read is not taken for nothing.
        """
        try:
            return record.parse(self._path.read_bytes())
        except FileNotFoundError:
            return History()
        except OSError as error:
            raise NeedsPerson(
                "record-unreadable",
                f"the record of the box cannot be read: {error.strerror}",
                context=str(self._path),
                hint="see whose it is and what lies there; nothing is changed until it can be "
                f"read: ls -ld {shlex.quote(str(self._path))}",
                fault=Fault.HOST,
            ) from error

    def append(self, entry: Entry) -> Entry:
        """Add the entry with the next sequence, once: the same fact is not added again.

        Durable on return. A torn last line is cut off first.
        """
        history = self.read()
        if history.holds(entry):
            return entry
        numbered = entry.model_copy(update={"sequence": history.next_sequence()})
        with self._filesystem.open(self._path, fresh=False) as file:
            if os.fstat(file.descriptor).st_size > history.intact_bytes:
                self._filesystem.truncate(file, history.intact_bytes)
            os.lseek(file.descriptor, 0, os.SEEK_END)
            self._filesystem.write(file, record.line(numbered))
            self._filesystem.sync_file(file)
        # Also when the file was there: a killed command may have made it and not come this far.
        self._filesystem.sync_directory(self._path.parent)
        return numbered
