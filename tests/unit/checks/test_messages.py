"""Sentences of the kernel and of engines; numbers are rows of the list of known failures."""

from __future__ import annotations

import pytest

from aibox.checks import messages
from aibox.checks.evidence import Source
from aibox.preflight import Status
from gpu_texts import asset, evidence, named, saying, states

GOOD, WARN, BAD = [Status.OK], [Status.WARN], [Status.VETO]


def kernel(text: str) -> list[Status]:
    return states(named(messages.examine, saying(Source.KERNEL_LOG, text), "kernel log"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dmesg.xid-79.txt", BAD * 2),
        ("dmesg.fallen-off.txt", BAD),
        ("dmesg.not-supported.txt", BAD),
        ("dmesg.xid-31.txt", GOOD),
        ("dmesg.unsigned.txt", GOOD),
    ],
)
def test_19_published_logs_of_the_kernel(name: str, expected: list[Status]) -> None:
    assert kernel(asset(name)) == expected


@pytest.mark.parametrize("number", [48, 64, 74, 79, 95, 119, 120, 140, 143, 144, 150, 171, 172])
def test_xids_of_broken_hardware_are_faults(number: int) -> None:
    assert kernel(f"NVRM: Xid (PCI:0000:01:00): {number}, pid=1") == BAD


@pytest.mark.parametrize("number", [63, 94, 154])
def test_xids_that_a_reset_ends_are_doubts(number: int) -> None:
    assert kernel(f"NVRM: Xid (PCI:0000:01:00): {number}, pid=1") == WARN


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68])
def test_xids_of_programs_say_nothing_of_the_hardware(number: int) -> None:
    assert kernel(f"NVRM: Xid (PCI:0000:01:00): {number}, pid=1") == GOOD


def test_an_xid_is_told_once_with_how_often_it_came() -> None:
    line = "NVRM: Xid (PCI:0000:3b:00): 74, pid=1\n"
    known = saying(Source.KERNEL_LOG, line * 3 + line.replace("3b", "5e"))
    told = [one.found for one in named(messages.examine, known, "kernel log")]
    assert told == [
        "Xid 74 of 0000:3b:00, 3 times: NVLink error",
        "Xid 74 of 0000:5e:00, 1 times: NVLink error",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: BAR1 is 0M @ 0x0 (PCI:0000:01:00.0)",
        "nouveau 0000:01:00.0: Failed to enable MSI-X",
    ],
    ids=["34", "13"],
)
def test_other_sentences_of_the_kernel(text: str) -> None:
    assert kernel(text) == BAD


def test_a_log_that_was_not_seen_is_not_called_clean() -> None:
    assert named(messages.examine, evidence(), "kernel log") == []


def engine(text: str) -> list[str]:
    known = evidence(logs={"aibox-chat-1": text})
    return [one.found for one in named(messages.examine, known, "aibox-chat-1 log")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (asset("engine-803.txt"), "Error 803"),
        (asset("engine-804.txt"), "Error 804"),
        (asset("engine-802.txt"), "Error 802"),
        ("CUDA error: no kernel image is available for execution on the device", "no code"),
        ("Failed to initialize NVML: Driver/library version mismatch", "differ"),
        ("Failed to initialize NVML: Unknown Error", "vanished"),
        ("RuntimeError: CUDA driver initialization failed, you might not have", "does not start"),
        ("ncclUnhandledCudaError: unhandled system error (run with NCCL_DEBUG", "/dev/shm"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "not fit"),
        ("ValueError: No available memory for the cache blocks.", "not fit"),
        ("Sequence group 1 is preempted by PreemptionMode.RECOMPUTE mode", "thrown out"),
        ("flashinfer.jit: download of cubins failed", "network"),
        ("openai_harmony.HarmonyError: error downloading or loading vocab file", "vocabulary"),
        ("ValueError: invalid literal for int() with base 10: 'MIG-6f1d'", "slice"),
        ("OSError: [Errno 24] Too many open files", "too few files"),
        ("CUDA error: an illegal memory access was encountered", "older than the model"),
    ],
)
def test_what_engines_end_with(text: str, told: str) -> None:
    found = engine(f"INFO 11-25 starting\n{text}\nINFO done\n")
    assert len(found) == 1
    assert told in found[0]


def test_an_engine_that_runs_well_is_not_told_of() -> None:
    assert engine("INFO Maximum concurrency for 2,048 tokens per request: 131.13x\n") == []
    assert engine("INFO Using flashinfer for attention\n") == []


def test_preemption_alone_is_a_doubt() -> None:
    known = evidence(logs={"aibox-chat-1": "Sequence group 1 is preempted by mode"})
    assert states(named(messages.examine, known, "aibox-chat-1 log")) == WARN
