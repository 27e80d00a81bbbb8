"""Become another program in a network namespace whose only interface is loopback, and up.

Usage: unshare --net … python -m aibox.bundle.build.without_network PROGRAM ARGUMENTS…
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

_SET_FLAGS = 0x8914  # SIOCSIFFLAGS, linux/sockios.h
_UP_AND_RUNNING = 0x1 | 0x40  # IFF_UP | IFF_RUNNING, linux/if.h


def main(argv: list[str]) -> None:
    """Bring loopback up and start the program in this process' place."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # struct ifreq: 16 bytes of name, then the flags.
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP_AND_RUNNING))
    os.execvp(argv[0], argv)  # noqa: S606 - a list of words, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
