"""Each card: all of them there, whole, healthy, at full width, and those the box is for.

| check | what people run into |
|---|---|
| gpu profile | other cards, fewer, smaller, in slices of MIG (22, 29), without formats (23) |
| gpu answers | a card on the bus that the driver lost (19) |
| gpu N memory errors | uncorrected ECC errors, rows that wait to be or cannot be remapped (§2.7) |
| gpu N state | a reset is due; it is slowed down by heat or power |
| gpu N bus | fewer lanes than it could have; no window to its memory, BAR1 (34) |
| persistence | the driver is unloaded and set up anew between uses (§2.7) |

Only what is wrong with a single card is told of it; a healthy card is one finding.
"""

from __future__ import annotations

from collections.abc import Iterator

from aibox import hardware
from aibox.checks import texts
from aibox.checks.evidence import Evidence, Source, bad, doubtful, good, graded
from aibox.checks.texts import Card
from aibox.preflight import Finding, Status

RESET = "stop the box, then restart the host: systemctl reboot"
REPLACE = "have the card replaced; its serial number and errors: nvidia-smi -q"
LOST = "look at power and seat of the card, restart the host, then: dmesg"
_MEMORY = "ECC Errors/Volatile/"
_UNCORRECTED = (
    *("DRAM Uncorrectable", "SRAM Uncorrectable", "SRAM Uncorrectable Parity"),
    *("SRAM Uncorrectable SEC-DED", "Total Uncorrectable"),
)
_NOTHING_TO_DO = ("", "None", "No")


def examine(evidence: Evidence) -> Iterator[Finding]:
    """The findings of all cards; nothing of a single one while no driver is loaded."""
    yield from profile(evidence)
    if not evidence.machine.driver:
        return
    found = texts.cards(evidence.text(Source.CARDS)).cards
    yield _answers(evidence, found)
    yield from _formats(evidence)
    for number, card in enumerate(found):
        faults = tuple(_faults(number, card))
        told = f"{card.get('Product Name')}, {card.get('FB Memory Usage/Total')}"
        yield from faults or (good(f"gpu {number}", told, "healthy"),)
    yield from _persistence(found)


def profile(evidence: Evidence) -> Iterator[Finding]:
    """Whether the host has what the box, or the release to be installed, needs."""
    wanted = evidence.wanted
    if wanted is None:
        return
    found = hardware.match(wanted, evidence.machine)
    expected = f"{wanted.count} of {', '.join(wanted.gpus)}, {wanted.memory_mib_min} MiB each"
    fix = "see which profile fits this host: ./aibox profiles"
    for reason in found.reasons:
        yield bad("gpu profile", reason, expected, fix=fix)
    for note in found.notes:
        yield doubtful("gpu profile", note, expected, fix=fix)
    if found == hardware.Match():
        yield good("gpu profile", f"{len(evidence.machine.gpus)} GPUs", expected)


def _answers(evidence: Evidence, found: tuple[Card, ...]) -> Finding:
    there = {gpu.address for gpu in evidence.machine.gpus if gpu.kernel_driver != "vfio-pci"}
    silent = sorted(there - {card.address for card in found})
    expected = "every GPU on the bus answers"
    if not silent:
        return good("gpu answers", f"{len(found)} of {len(there)}", expected)
    why = evidence.refused.get(Source.CARDS) or "; ".join(evidence.machine.problems)
    told = f"{', '.join(silent)} does not answer" + (f": {why}" if why else "")
    return bad("gpu answers", told, expected, fix=LOST)


def _formats(evidence: Evidence) -> Iterator[Finding]:
    """A card of an older generation than the profile's list of formats was written for."""
    if evidence.wanted is None:
        return
    for gpu in evidence.used:
        able = gpu.capability
        lacking = [
            one.value
            for one in evidence.wanted.quantisations
            if able and able < hardware.NATIVE_FROM.get(one, (0, 0))
        ]
        if lacking:
            found = f"{gpu} does not compute in {', '.join(lacking)}"
            fix = "see which profile fits this host: ./aibox profiles"
            yield bad("gpu profile", found, "the formats of the profile", fix=fix)


def _faults(number: int, card: Card) -> Iterator[Finding]:
    yield from _memory(number, card)
    yield from _state(number, card)
    yield from _bus(number, card)


def _memory(number: int, card: Card) -> Iterator[Finding]:
    check, expected = f"gpu {number} memory errors", "none"
    if card.get("Remapped Rows/Remapping Failure Occurred") == "Yes":
        yield bad(check, "a faulty row could not be replaced", expected, fix=REPLACE)
    elif card.get("Remapped Rows/Pending") == "Yes":
        yield doubtful(check, "a faulty row is replaced at the next reset", expected, fix=RESET)
    count = max(card.number(_MEMORY + name) or 0 for name in _UNCORRECTED)
    if count:
        found = f"{count} uncorrected since the last reset"
        yield doubtful(check, found, expected, fix=RESET)


def _state(number: int, card: Card) -> Iterator[Finding]:
    check, expected = f"gpu {number} state", "no reset due, not slowed down"
    due = card.get("GPU Reset Status/Reset Required")
    action = card.get("GPU Recovery Action")
    if due == "Yes" or action not in _NOTHING_TO_DO:
        yield bad(check, f"a reset is due ({action or 'required'})", expected, fix=RESET)
    reasons = ("HW Thermal Slowdown", "HW Power Brake Slowdown")
    slowed = [
        reason
        for section in ("Clocks Event Reasons", "Clocks Throttle Reasons")
        for reason in reasons
        if card.get(f"{section}/HW Slowdown/{reason}") == "Active"
    ]
    if slowed:
        fix = "look at fans, dust and power supply, then: nvidia-smi -q -d PERFORMANCE"
        yield doubtful(check, slowed[0], expected, fix=fix)


def _bus(number: int, card: Card) -> Iterator[Finding]:
    width = "PCI/GPU Link Info/Link Width/"
    now, best = card.number(width + "Current"), card.number(width + "Max")
    if now and best and now < best:
        found, fix = f"{now} of {best} lanes", "seat the card anew, then: nvidia-smi -q -d PCIE"
        yield doubtful(f"gpu {number} bus", found, f"{best} lanes", fix=fix)
    if card.number("BAR1 Memory Usage/Total") == 0:
        fix = "switch on Above 4G Decoding in the firmware: systemctl reboot --firmware-setup"
        yield bad(f"gpu {number} bus", "BAR1 has 0 MiB", "a window to its memory", fix=fix)


def _persistence(found: tuple[Card, ...]) -> Iterator[Finding]:
    modes = [card.get("Persistence Mode") for card in found]
    if not modes:
        return
    off = [str(number) for number, mode in enumerate(modes) if mode == "Disabled"]
    status = Status.WARN if off else Status.OK
    yield graded(
        status,
        "persistence",
        f"off for GPU {', '.join(off)}" if off else "on",
        "the driver stays set up between uses",
        fix="keep it: systemctl enable --now nvidia-persistenced",
    )
