"""The gate's last question, where a release asks it: is it as fast as the one before it?

Asked of an upgrade alone, after the golden questions, on the hardware of the last measurement of
the release before, and of the engine `chat` alone. Only what was measured counts: where nothing is
known the sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable

from aibox import measure
from aibox.box.store import Store
from aibox.errors import AiboxError
from aibox.measuring import basis, results
from aibox.measuring.basis import CHAT
from aibox.measuring.load import Measured
from aibox.plan import Current
from aibox.prepare import Workplace, require_current
from aibox.profile import ThroughputPolicy
from aibox.verdict import Verdict

# Of a load that the engine was asked and did not manage: that is slow, not unknown.
_SLOW = frozenset({"bench-no-answer", "bench-too-slow"})


def guarded(place: Workplace, store: Store, gate: Callable[[], Verdict]) -> Callable[[], Verdict]:
    """The gate, and after it what the release's [gate] says of its throughput."""

    def ask() -> Verdict:
        verdict = gate()
        if not verdict.passed:
            return verdict
        now = require_current(store)
        _tell_of_calibration(place, store, now)
        return _judged(place, store, now, verdict)

    return ask


def _tell_of_calibration(place: Workplace, store: Store, now: Current) -> None:
    for service, told in measure.standings(store, now).items():
        if told.startswith("stale"):
            anew = basis.typed("calibrate", service)
            place.say("gate", f"the calibration of {service} counts no more ({told}); anew: {anew}")


def _judged(place: Workplace, store: Store, now: Current, verdict: Verdict) -> Verdict:
    policy = now.release.gate.throughput_policy
    if policy is ThroughputPolicy.OFF or CHAT not in now.release.serving:
        return verdict
    earlier = _release_before(store, now)
    if earlier is None:
        return verdict
    before, unknown = _before(store, now, earlier)
    if before is None:
        enough, told = True, f"throughput not compared: {unknown}"
    else:
        enough, told = _compared(place, store, now, before)
    place.say("gate", told)
    if enough or policy is ThroughputPolicy.WARN:
        return verdict.model_copy(update={"throughput": told})
    return verdict.model_copy(update={"passed": False, "reason": told, "throughput": told})


def _compared(place: Workplace, store: Store, now: Current, before: Measured) -> tuple[bool, str]:
    """Whether it is fast enough, or nobody can tell; and the sentence about it."""
    most = now.release.gate.throughput_loss_max_percent or 0.0
    try:
        found = measure.measure(place, now.release, (before.load,), "gate")
    except AiboxError as error:
        if error.reference in _SLOW:
            return False, f"too slow: {error.message}"
        return True, f"throughput not measured: {error.message}"
    enough, told = results.judged(before, found[0], most)
    if enough or now.release.gate.throughput_policy is ThroughputPolicy.WARN:
        return enough, told + _kept(store, now, found)
    return enough, told


def _kept(store: Store, now: Current, found: tuple[Measured, ...]) -> str:
    """Keep what the next upgrade is held against, unless more is known; why not, where it fails.

    Never of a release that is undone: it would be compared with its own slowness.
    """
    try:
        if measure.results_that_hold(store, now.release) is None:
            measure.keep(store, now, found)
    except AiboxError as error:
        return f"; not kept for the next upgrade: {error.message}"
    return ""


def _before(store: Store, now: Current, release: str) -> tuple[Measured | None, str]:
    """What to hold it against; without it, why there is nothing."""
    if CHAT not in basis.measurable(now.release):
        return None, "only engines of the kind vllm are measured"
    known = measure.read_results(store, release)
    if known is None:
        if (store.layout.root / measure.results_of(release, CHAT)).exists():
            return None, "what was measured of the release before cannot be read"
        return None, "the release before was not measured (aibox bench)"
    if known.basis.hardware != measure.hardware(now.release.serving[CHAT]):
        return None, "the release before was measured on other hardware"
    found = results.to_repeat(known, measure.most_at_once(now.release))
    if found is None:
        return None, (
            "no load about documents that both engines take was measured of the release before"
        )
    limit = measure.context_of(now.release)
    if limit is not None and found.load.shape.longest > limit:
        return None, f"the load of before does not fit into {limit} tokens"
    return found, ""


def _release_before(store: Store, now: Current) -> str | None:
    """The release that passed its gate last, None before the first."""
    for entry in reversed(store.history.read().entries):
        if entry.gate is not None and entry.gate.passed and entry.generation != now.generation:
            return entry.release
    return None
