"""The reasons behind pip's failures, and what to type next."""

from __future__ import annotations

import re
from pathlib import Path

from refusal import FAILED, HOST_CANNOT, NOT_WHAT_IT_SHOULD_BE, Refused
from wanted import Wanted

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
        NOT_WHAT_IT_SHOULD_BE,
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


# What these mean where packages come from a bundle: they were checked when it was unpacked.
PROGRAM_DAMAGED = "program-damaged"
DAMAGES = ("package-not-as-locked", "package-not-found")


def explain(lines: list[str], wanted: Wanted) -> Refused:
    """The reason behind what pip printed before it gave up."""
    log = wanted.environment / "pip.log"
    context = "\n    ".join(["the last lines of pip:", *_telling(lines), f"all of them: {log}"])
    for pattern, reference, message, fault, hint, exit_code in REASONS:
        if re.search(pattern, "\n".join(lines)):
            if wanted.wheels and reference in DAMAGES:
                return _damaged(wanted.wheels, context)
            return Refused(
                reference,
                message,
                fault=fault,
                hint=hint.format(program=wanted.again),
                context=context,
                exit_code=exit_code,
            )
    return Refused(
        "environment-failed",
        "pip could not install the packages",
        fault="an upstream tool",
        hint=f"read the lines above, then repeat the command: {wanted.again}",
        context=context,
    )


def _damaged(wheels: Path, context: str) -> Refused:
    """What a bundle brought was checked when it was unpacked, so this happened afterwards."""
    return Refused(
        PROGRAM_DAMAGED,
        f"packages in {wheels} are not what the lock says; nothing of them was installed",
        fault="the host",
        hint="bring them back from the bundle that they came from: sh /path/of/the/bundle/aibox",
        context=context,
        exit_code=NOT_WHAT_IT_SHOULD_BE,
    )


def _telling(lines: list[str]) -> list[str]:
    noise = ("WARNING: Location", "[notice]")
    return [line for line in lines if line and not line.startswith(noise)][-LINES_SHOWN:]
