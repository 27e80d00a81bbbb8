"""`aibox member`: how who changes a box of several hosts speaks to one of them. Not for people."""

from __future__ import annotations

import sys

from aibox.cli.workplace import workplace
from aibox.hosts.member_session import serve


def member() -> None:
    """Take orders from standard input (one of several hosts; used over ssh by `install`)."""

    def send(line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    serve(workplace(lambda _: None), sys.stdin.buffer, send)


COMMANDS = {"member": member}
