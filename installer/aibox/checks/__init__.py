"""What can be wrong with GPUs, as judgements over what commands and files said. Pure.

Each module tells in a table which failures it knows; the numbers are rows of the list of failures
people reported with such machines. Rows without a check, and why: 8 to 10 and 31 in part need a
run on the GPU or a metrics exporter, 24 is a matter of waiting, 27 is seen as a module that is
not on disk, 35 is how this command line works.
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
    """What preflight has to know before anything is installed: are these the right GPUs, and
    does the driver that the release brings run its images."""
    return (*cards.profile(evidence), *images.of_release(evidence))


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
    return (doubtful("gpu checks", f"could not look at {told}", "everything seen", fix=fix),)
