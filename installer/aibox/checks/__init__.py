"""What can be wrong with GPUs, as judgements over what commands and files said. Pure.

Each module tells in a table which failures it knows; the numbers are rows of the list of failures
people reported with such machines. What no question shows: whether cards exchange data (10 in
part: it has to be tried), how long a start takes (24), exporters of metrics, which no box has (31),
and restarts in the middle of an installation (35), which the command line does itself.
"""

from __future__ import annotations

from aibox.checks import cards, containers, driver, fabric, images, messages
from aibox.checks.evidence import Evidence, doubtful, good
from aibox.preflight import Finding


def examine(evidence: Evidence) -> tuple[Finding, ...]:
    """Every finding about the GPUs of a host; a single one where there is none to look at."""
    if not evidence.machine.gpus:
        return _without(evidence)
    return (
        *driver.examine(evidence),
        *cards.examine(evidence),
        *fabric.examine(evidence),
        *images.examine(evidence),
        *containers.examine(evidence),
        *messages.examine(evidence),
        *_unseen(evidence),
    )


def of_hardware(evidence: Evidence) -> tuple[Finding, ...]:
    """What preflight has to know before anything is installed: are these the right GPUs, is
    there a driver or does the release bring one, and does such a driver run its images."""
    return (
        *cards.profile(evidence),
        *driver.of_release(evidence),
        *images.of_release(evidence),
    )


def _without(evidence: Evidence) -> tuple[Finding, ...]:
    if evidence.wanted is not None:
        return tuple(cards.profile(evidence))
    return (good("gpus", "no NVIDIA GPU", "none is needed"),)


def _unseen(evidence: Evidence) -> tuple[Finding, ...]:
    """Sources that are there and did not answer; a check that did not run must not look passed."""
    if not evidence.refused:
        return ()
    told = "; ".join(f"{source.value}: {why}" for source, why in sorted(evidence.refused.items()))
    fix = "look again as root: sudo ./aibox doctor"
    if evidence.machine.root:
        fix = f"see what it says: {min(evidence.refused).value}"
    return (doubtful("gpu checks", f"could not look at {told}", "everything seen", fix=fix),)
