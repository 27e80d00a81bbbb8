"""What the kernel and the engines have logged: known sentences, and what each asks for.

| check | what people run into |
|---|---|
| kernel log | Xids (19, §2.7), a card off the bus, MSI-X (13), BAR1 (34), an unknown card |
| NAME log | what engines end with: 1, 2, 4-7, 9, 11, 12, 20-22, 30, 37 |

An Xid that a program causes (13, 31, 43, 45, 68) says nothing of the hardware and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aibox.checks.evidence import Evidence, Source, bad, doubtful, good
from aibox.preflight import Finding, Status

FAULTS = {
    48: "memory error of two bits",
    64: "a faulty row could not be recorded",
    74: "NVLink error",
    79: "the GPU fell off the bus",
    95: "uncontained memory error",
    119: "the GPU's own processor does not answer",
    120: "error of the GPU's own processor",
    140: "unrecovered memory error",
    143: "the GPU could not be set up",
    **dict.fromkeys(range(144, 151), "NVLink error"),
    171: "uncorrected memory error",
    172: "uncorrected memory error",
}
PASSING = {
    63: "a faulty row is replaced at the next reset",
    94: "contained memory error",
    154: "the driver asks for a recovery",
}
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f:.]+)\): (\d+)")
SERIAL = "save the log for whoever repairs the host: nvidia-bug-report.sh"
RESTART = "restart the host; does it come back, have the card looked at: systemctl reboot"
_KERNEL = (
    (
        re.compile(r"fallen off the bus"),
        "a GPU fell off the bus",
        "look at power and seat of the card, then: systemctl reboot",
    ),
    (
        re.compile(r"BAR\d? is 0M|NVRM: BAR\d? .*is 0M"),
        "a GPU has no window to its memory (BAR1 is 0M)",
        "switch on Above 4G Decoding in the firmware: systemctl reboot --firmware-setup",
    ),
    (
        re.compile(r"Failed to enable MSI-X"),
        "a GPU gets no interrupts (MSI-X): nouveau may have held it",
        "let an installation bar nouveau, then: systemctl reboot",
    ),
    (
        re.compile(r"not supported by the[^\n]*(?:\n[^\n]*)?\d+ driver release"),
        "a GPU is newer than the driver, or wants open kernel modules",
        "take the driver of the release: ./aibox install",
    ),
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence that engines log, what it means, and what to do; `row` is where it is told of."""

    row: int
    pattern: re.Pattern[str]
    meaning: str
    fix: str
    status: Status = Status.VETO


def _sentence(
    row: int, pattern: str, meaning: str, *, fix: str, status: Status = Status.VETO
) -> Sentence:
    return Sentence(row, re.compile(pattern), meaning, fix, status)


_INSTALL = "let an installation bring driver and toolkit of the release: ./aibox install"
_UPGRADE = "take a release that suits this host: ./aibox upgrade"
_TUNE = "lower max-model-len or max-num-seqs in the profile, then: ./aibox lock"
SENTENCES = (
    _sentence(1, r"Error 803|unsupported display driver / cuda driver combination",
        "the image's own driver library is in the way (Error 803)", fix=_INSTALL),
    _sentence(2, r"Error 804|forward compatibility was attempted on non supported HW",
        "the driver is older than the image's CUDA (Error 804)", fix=_INSTALL),
    _sentence(4, r"no kernel image is available",
        "the image has no code for this card", fix=_UPGRADE),
    _sentence(5, r"Driver/library version mismatch",
        "libraries and loaded driver differ", fix="restart the host: systemctl reboot"),
    _sentence(6, r"Failed to initialize NVML: Unknown Error",
        "its GPUs vanished, as after systemctl daemon-reload", fix="start it anew: ./aibox start"),
    _sentence(7, r"Error 802|system not yet initialized",
        "Fabric Manager has not set up the GPUs (Error 802)",
        fix="see why: journalctl --unit nvidia-fabricmanager"),
    _sentence(9, r"CUDA (?:driver )?initialization (?:failed|error)|cuInit.*\b(?:3|999)\b",
        "CUDA does not start", fix="see what is wrong with the driver: dmesg"),
    _sentence(11, r"unhandled system error|Bus error",
        "GPUs cannot exchange data: /dev/shm may be too small", fix=_INSTALL),
    _sentence(12, r"CUDA out of memory|torch\.OutOfMemoryError|No available memory for the cache",
        "the model and its contexts do not fit into the GPU", fix=_TUNE),
    _sentence(12, r"is preempted|preemption mode",
        "contexts were thrown out of a full GPU memory", fix=_TUNE, status=Status.WARN),
    _sentence(20, r"flashinfer[^\n]*(?:download|edge\.urm\.nvidia\.com)|Failed to download cubin",
        "the engine wanted kernels from a network", fix=_UPGRADE),
    _sentence(21, r"HarmonyError|error downloading or loading vocab file",
        "the engine wanted a vocabulary from a network", fix=_UPGRADE),
    _sentence(22, r"invalid literal for int\(\) with base 10: '(?:MIG|GPU)-",
        "the engine cannot read the name of a slice (MIG)", fix=_INSTALL),
    _sentence(30, r"Too many open files", "too few files may be open", fix=_INSTALL),
    _sentence(37, r"an illegal memory access was encountered",
        "the engine wrote where it must not: it may be older than the model", fix=_UPGRADE),
)  # fmt: skip


def examine(evidence: Evidence) -> Iterator[Finding]:
    """Every finding in the logs that could be read."""
    yield from _kernel(evidence)
    for name, text in sorted(evidence.logs.items()):
        yield from _engine(name, text)


def _kernel(evidence: Evidence) -> Iterator[Finding]:
    if Source.KERNEL_LOG not in evidence.said:
        return
    log = evidence.text(Source.KERNEL_LOG)
    findings = [*_xids(_counted(log))]
    for pattern, meaning, fix in _KERNEL:
        if pattern.search(log):
            findings.append(bad("kernel log", meaning, "nothing about a GPU", fix=fix))
    yield from findings or (good("kernel log", "no GPU at fault", "nothing about a GPU"),)


def _counted(log: str) -> dict[tuple[int, str], int]:
    counted: dict[tuple[int, str], int] = {}
    for found in _XID.finditer(log):
        key = (int(found[2]), found[1])
        counted[key] = counted.get(key, 0) + 1
    return counted


def _xids(counted: Mapping[tuple[int, str], int]) -> Iterator[Finding]:
    for (number, address), times in sorted(counted.items()):
        told = f"Xid {number} of {address}, {times} times: "
        if number in FAULTS:
            yield bad("kernel log", told + FAULTS[number], "nothing about a GPU", fix=RESTART)
        elif number in PASSING:
            fix = "stop the box, then restart the host: systemctl reboot"
            yield doubtful("kernel log", told + PASSING[number], "nothing about a GPU", fix=fix)


def _engine(name: str, text: str) -> Iterator[Finding]:
    for one in SENTENCES:
        if one.pattern.search(text):
            make = bad if one.status is Status.VETO else doubtful
            yield make(f"{name} log", one.meaning, "no known sentence of failure", fix=one.fix)
