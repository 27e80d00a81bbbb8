"""The reasons behind pip's failures, and what to type next."""

from __future__ import annotations

import re
from pathlib import Path

from refusal import FAILED, HOST_CANNOT, NOT_WHAT_THE_LOCK_SAYS, Refused

LINES_SHOWN = 8

# The first that matches wins: pattern, reference, message, fault, hint, exit code.
REASONS = (
    (
        r"DO NOT MATCH THE HASHES|Hashes are required|does not match",
        "package-not-as-locked",
        "a package is not what the lock says; nothing of it was installed",
        "an upstream tool",
        "something between the index and this machine altered it, or the index is not the one "
        "that you think; see which: pip config list",
        NOT_WHAT_THE_LOCK_SAYS,
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "disk-full",
        "the disk is full",
        "the host",
        "free 500 MB, then repeat the command: {program}",
        HOST_CANNOT,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "certificate-unknown",
        "the package index shows a certificate that this machine does not trust",
        "the host",
        "name the file of your authority: PIP_CERT=/path/to/authority.pem {program}",
        FAILED,
    ),
    (
        r"Retrying \(|NewConnectionError|name resolution|Network is unreachable|ProxyError",
        "index-unreachable",
        "the environment is not made yet, and the package index cannot be reached",
        "the host",
        "connect this machine, use a bundle, or name a folder that holds the wheels: "
        "PIP_NO_INDEX=1 PIP_FIND_LINKS=/path/to/wheels {program}",
        FAILED,
    ),
    (
        r"No matching distribution found",
        "package-not-found",
        "a locked package is not in the index or has no build for this Python",
        "the host",
        "use another Python, which AIBOX_PYTHON names: AIBOX_PYTHON=python3.12 {program}",
        HOST_CANNOT,
    ),
)


def explain(lines: list[str], program: str, log: Path) -> Refused:
    """The reason behind what pip printed before it gave up."""
    text = "\n".join(lines)
    context = "\n    ".join(["the last lines of pip:", *_telling(lines), f"all of them: {log}"])
    for pattern, reference, message, fault, hint, exit_code in REASONS:
        if re.search(pattern, text):
            return Refused(
                reference,
                message,
                fault=fault,
                hint=hint.format(program=program),
                context=context,
                exit_code=exit_code,
            )
    return Refused(
        "environment-failed",
        "pip could not install the packages",
        fault="an upstream tool",
        hint=f"read the lines above, then repeat the command: {program}",
        context=context,
    )


def _telling(lines: list[str]) -> list[str]:
    noise = ("WARNING: Location", "[notice]")
    return [line for line in lines if line and not line.startswith(noise)][-LINES_SHOWN:]
