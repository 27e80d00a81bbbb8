"""The only place that puts verbs in order. Every command is a recombination of them.

verify -> plan -> preflight -> provision -> stage -> activate -> gate -> commit | roll back
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from aibox import (
    activate,
    health,
    locking,
    measure,
    placement,
    profile,
    programs,
    provision,
    receiving,
    runtimes,
    servers,
    speed,
    stage,
    trusting,
)
from aibox import doctor as diagnosis
from aibox import gc as collector
from aibox import preflight as judging
from aibox import recover as recovery
from aibox import status as reporting
from aibox.box import guard, host, resumption
from aibox.box.journal import Intent
from aibox.box.runtime import Runtime
from aibox.box.store import Store
from aibox.box.transaction import Outcome, Transaction, staging
from aibox.box.trust_store import TrustStore
from aibox.errors import AiboxError, BadUsage, Failed, Fault
from aibox.plan import Current, Plan
from aibox.preflight import Finding
from aibox.prepare import (
    Prepared,
    Wish,
    Workplace,
    current,
    of_generation,
    prepare,
    readable,
    require_current,
    require_generation,
)
from aibox.record import Action, History
from aibox.release import Release
from aibox.site import Site
from aibox.verdict import Verdict

# Sees the plan, and whether it is the first of this box; raises to stop.
Confirm = Callable[[Plan, bool], None]


@dataclass(frozen=True, slots=True)
class Installed:
    """How an install or upgrade ended. `outcome` is None when nothing had to change."""

    generation: int
    plan: Plan
    outcome: Outcome | None


def preflight(place: Workplace, wish: Wish) -> tuple[Finding, ...]:
    """Judge this host for a plan; changes nothing."""
    with prepare(place, wish) as prepared:
        return judge(Store(place.root), place, prepared)


def plan(place: Workplace, wish: Wish) -> Plan:
    """What an installation would do; does nothing."""
    with prepare(place, wish) as prepared:
        return prepared.plan


def judge(store: Store, place: Workplace, prepared: Prepared) -> tuple[Finding, ...]:
    """Every finding about this host, its hardware and files of the site; changes nothing."""
    material = prepared.material
    judged = servers.judge if prepared.for_server else provision.judge
    asked = (store, place.content, material.release, material.plan)
    found = judged(*asked, place.report, prepared.released)
    part = placement.part(material.release, material.plan.site)
    return (*diagnosis.hardware(part), *found, *diagnosis.of_site(material.plan.site))


# -- changing -----------------------------------------------------------------------------------


def install(place: Workplace, wish: Wish, action: Action, confirm: Confirm) -> Installed:
    """Make the box run what `wish` asks for; the whole way, safe to repeat.

    Raises `PreflightVeto`, `RolledBack`, and what
    the verbs raise; the record says how it ended.
    """
    with ExitStack() as closing:
        # Before the box is touched (or made): a wrong option must leave nothing behind.
        prepared, seen = closing.enter_context(prepare(place, wish)), Store(place.root).current()
        store, lock_fd = closing.enter_context(recovered(place, existing=False))
        now = current(store)
        _refuse_alone(place, now)
        if store.current() != seen:
            prepared = closing.enter_context(prepare(place, wish))
        if now is not None and is_whole(store, now, prepared):
            ready_host(place, store, prepared, lock_fd)
            ready_server(place, store, prepared, now.generation, action, lock_fd)
            done = _already(place, store, now, prepared)
        else:
            confirm(prepared.plan, now is None)
            refusal = judging.veto(judge(store, place, prepared), profile=prepared.plan.profile)
            if refusal is not None:
                raise refusal
            ready_host(place, store, prepared, lock_fd)
            done = _install(place, store, prepared, action, lock_fd)
        settle(store, prepared)
        resumption.clear(store.filesystem, store.layout.root)
        return done


def resume(place: Workplace) -> Outcome:
    """Go on with an installation that waited for a reboot; the medium is not needed any more.

    Raises `BadUsage` when none waits, `NeedsPerson` when the reboot has not been, and what
    `install` raises.
    """
    with recovered(place) as (store, lock):
        waiting = servers.rebooted(store)
        number, action = waiting.generation, waiting.action
        servers.provide(store, place.content, number, action, place.report, lock)
        try:
            return _activate(place, store, number, action, None)
        finally:
            resumption.clear(store.filesystem, store.layout.root)


def ready_host(place: Workplace, store: Store, prepared: Prepared, lock: int) -> None:
    """What the host must have before anything is staged."""
    if prepared.for_server:
        servers.prepare(store, place.content, place.report, lock)
    else:
        provision.prepare(store, place.content, prepared.unit, place.report, lock)


def ready_server(
    place: Workplace, store: Store, prepared: Prepared, number: int, action: Action, lock: int
) -> None:
    """What a server must have before a sealed generation can serve."""
    if prepared.for_server:
        servers.provide(store, place.content, number, action, place.report, lock)


def _install(
    place: Workplace, store: Store, prepared: Prepared, action: Action, lock: int
) -> Installed:
    plan, material = prepared.plan, prepared.material
    with staging(
        store,
        action,
        release=plan.release,
        plan=plan.digest,
        provenance=material.provenance,
    ) as transaction:
        number = seal(place, store, prepared)
        ready_server(place, store, prepared, number, action, lock)
        outcome = _activate(place, store, number, action, transaction)
    return Installed(number, plan, outcome)


def seal(place: Workplace, store: Store, prepared: Prepared) -> int:
    """Seal the generation and, from a bundle, have its command line in the box."""
    received = prepared.received
    if received is None:
        return stage.run(store, prepared.material, place.report)
    with receiving.explaining(received):
        number = stage.run(store, prepared.material, place.report)
    programs.ensure(
        store,
        received.program,
        host.architecture(),
        receiving.first_steps(received),
        place.report,
    )
    return number


def settle(store: Store, prepared: Prepared) -> None:
    """The bundle serves: remember it, so that nothing older is taken for newer again.

    Done again after a crash between the commit and this, by the next run of the same command.
    """
    if prepared.received is not None and prepared.received.verified is not None:
        trusting.accept(TrustStore(store.layout.root, store.filesystem), prepared.received.verified)


def is_whole(store: Store, now: Current, prepared: Prepared) -> bool:
    """Whether the box already runs what is prepared, with every byte in its place."""
    same = store.file(now.generation, "plan.json") == prepared.plan.stored()
    return same and not store.damage(now.generation, deep=True)


def _already(place: Workplace, store: Store, now: Current, prepared: Prepared) -> Installed:
    """The same release and site: make sure that it runs and answers."""
    place.say("activate", f"generation {now.generation} is already installed and whole")
    _serve(place, store)
    verdict = gate_of(place, store)()
    if not verdict.passed:
        raise _unhealthy(verdict)
    return Installed(now.generation, prepared.plan, None)


def rollback(place: Workplace, to: int | None) -> Outcome:
    """Serve an earlier generation again; nothing is copied."""
    with recovered(place) as (store, _):
        require_generation(store)
        _refuse_alone(place, readable(store))
        number = store.rollback_target(to)
        _refuse_alone(place, of_generation(store, number))  # What serves may be damaged.
        place.say("rollback", f"to generation {number}")
        return _activate(place, store, number, Action.ROLLBACK, None)


def _refuse_alone(place: Workplace, now: Current | None) -> None:
    """One of several hosts does not change by itself: the others would be left behind."""
    site = Site.model_validate(now.plan["site"]) if now else Site()
    if site.member:
        raise BadUsage(
            "one-of-several",
            f"this host is {site.member!r}, one of {len(site.hosts)} hosts that change together",
            context=str(place.root),
            hint="give the command where the box was installed from: "
            "./aibox rollback --inventory FILE",
            fault=Fault.YOU,
        )


def _activate(
    place: Workplace,
    store: Store,
    number: int,
    action: Action,
    transaction: Transaction | None,
) -> Outcome:
    place.say("activate", f"switch to generation {number}")
    outcome = activate.activate(
        store,
        number,
        action=action,
        runtime=runtime_of(place, store),
        gate=_trial_gate(place, store, action),
        transaction=transaction,
    )
    error = outcome.error()
    if error is not None:
        raise error
    return outcome


def recover(place: Workplace) -> tuple[recovery.Done, ...]:
    """Finish or undo what an interrupted command left; the steps taken."""
    with guard.hold(place.root, existing=True):
        return _recover(place, Store(place.root))


def _recover(place: Workplace, store: Store) -> tuple[recovery.Done, ...]:
    begun = store.journal.read()
    # A trial that lost its power is judged as strictly as any other.
    action = begun.action if isinstance(begun, Intent) else Action.INSTALL
    gate = _trial_gate(place, store, action)
    done = recovery.recover(store, runtime_of(place, store), gate)
    for step in done:
        place.say("recover", step.step.value)
    return done


@contextmanager
def recovered(place: Workplace, *, existing: bool = True) -> Iterator[tuple[Store, int]]:
    """Hold the box, with whatever was interrupted finished or undone first.

    Without a box it is made, unless only an `existing` one is of use: `no-box` then.
    """
    with guard.hold(place.root, existing=existing) as descriptor:
        store = Store(place.root)
        _recover(place, store)
        yield store, descriptor


# -- running ------------------------------------------------------------------------------------


def start(place: Workplace) -> int:
    """Start what is installed and wait until it answers; returns the generation."""
    with recovered(place) as (store, _):
        now = require_current(store)
        _serve(place, store)
        reason = health.wait(
            runtimes.Probe(store, now, place.report),
            now.release.gate.ready_deadline_s,
            lambda line: place.say("start", line),
        )
        if reason:
            raise _unhealthy(Verdict(passed=False, reason=reason))
        return now.generation


def stop(place: Workplace) -> None:
    """Stop every service; the box stays installed."""
    with recovered(place) as (store, _):
        require_generation(store)
        runtime_of(place, store).stop()


def _serve(place: Workplace, store: Store) -> None:
    place.say("activate", "bring up the services")
    runtime_of(place, store).apply()


def runtime_of(place: Workplace, store: Store) -> Runtime:
    """Whoever runs the services of the box; what he does is told as progress."""
    return runtimes.services(store, place.report)


def gate_of(place: Workplace, store: Store) -> Callable[[], Verdict]:
    """What judges the generation that is `current` when it is asked."""

    def ask() -> Verdict:
        now = require_current(store)
        if not runtimes.has_gateway(now):
            return _settled(place, store, now)
        place.say("gate", f"{len(now.release.golden)} golden questions")
        return health.run(
            runtimes.assistant(store, now),
            now.release.golden,
            now.release.gate,
            _answered_before(store, now.generation),
            lambda line: place.say("gate", line),
            carried=now.release.documents,
            dying=runtimes.watch(runtime_of(place, store))
            if "chat" in now.release.serving
            else None,
        )

    return ask


def _trial_gate(place: Workplace, store: Store, action: Action) -> Callable[[], Verdict]:
    """What judges a trial: one that brings a release is asked for its speed as well."""
    gate = gate_of(place, store)
    return gate if action is Action.ROLLBACK else speed.guarded(place, store, gate)


def _settled(place: Workplace, store: Store, now: Current) -> Verdict:
    """A host of several without the gateway is asked what it can tell: are its services well?"""
    reason = health.wait(
        runtimes.Probe(store, now, place.report),
        now.release.gate.ready_deadline_s,
        lambda line: place.say("gate", line),
    )
    return Verdict(passed=not reason, reason=reason)


def _answered_before(store: Store, generation: int) -> frozenset[str]:
    """The ids the last generation that passed its gate answered (not this one)."""
    judged = [
        entry
        for entry in store.history.read().entries
        if entry.gate is not None and entry.gate.passed and entry.generation != generation
    ]
    return frozenset(
        result.id
        for entry in judged[-1:]
        if entry.gate is not None
        for result in entry.gate.results
        if result.passed
    )


def doctor(place: Workplace) -> tuple[Finding, ...]:
    """Every finding about host and box; changes nothing. Without a box, the host alone."""
    store = Store(place.root)
    now = readable(store)
    if now is None:
        return (*_host_alone(place), *diagnosis.graphics(None), *diagnosis.of_begun(store))
    services = runtime_of(place, store).services()
    ready = runtimes.Probe(store, now, place.report).ready()
    with guard.hold(place.root, shared=True):
        findings = diagnosis.examine(store, services, ready)
    graphics = diagnosis.graphics(now.release)
    # What preflight asks of the hardware is asked again among the rest.
    measured = measure.examine(store, now)
    return tuple(dict.fromkeys((*preflight(place, Wish()), *graphics, *findings, *measured)))


def _host_alone(place: Workplace) -> tuple[Finding, ...]:
    """Preflight for the profile that asks least; that it cannot be asked is a finding, too."""
    try:
        return preflight(place, Wish(profile="local"))
    except AiboxError as error:
        return (diagnosis.refused(error),)


def check_health(place: Workplace) -> Verdict:
    """Ask the golden questions now; changes nothing. Raises `Failed` (`box-stopped`)."""
    store = Store(place.root)
    require_current(store)
    health.refuse_stopped([service.state for service in runtime_of(place, store).services()])
    return gate_of(place, store)()


def collect(place: Workplace, keep: int) -> collector.Freed:
    """Free generations, blobs and environments that nothing worth keeping needs."""
    with recovered(place) as (store, _):
        require_current(store)
        freed = collector.collect(store, keep)
        programs.sweep(store, place.content.program)
        runtimes.sweep(store)
        measure.sweep(store)
        return freed


def uninstall(place: Workplace, purge: bool) -> None:
    """Stop the box and remove it; documents, record and trust stay unless `purge`.

    Trust stays because its floors are what refuses an older bundle to whoever installs next.
    """
    store = Store(place.root)
    _require_box_root(store)
    with guard.hold(place.root) as lock_fd:
        _clear_host(place, store, lock_fd, purge=purge)
        keep = set() if purge else {"data", "record.jsonl", "trust", "lock"}
        for path in sorted(place.root.iterdir()):
            if path.name not in keep:
                store.filesystem.remove_tree(path)
    if purge and not place.root.is_mount():
        # A disk of its own stays mounted, and is empty now.
        shutil.rmtree(place.root)


def _clear_host(place: Workplace, store: Store, lock: int, *, purge: bool) -> None:
    """Stop the services and take away what was brought to the host for them."""
    runtimes.clear(store, place.report)
    if runtimes.kind(store) is profile.Runtime.PROCESS:
        provision.remove(store, place.content, place.report, lock)
    else:
        servers.remove(store, place.content, place.report, lock, purge=purge)


def _require_box_root(store: Store) -> None:
    """Never empty a folder that is not a box."""
    if store.layout.blobs.is_dir() or store.layout.record.exists():
        return
    raise BadUsage(
        "no-box",
        "there is no box here to uninstall",
        context=str(store.layout.root),
        hint="see which folder AIBOX_HOME names, then: ./aibox status",
        fault=Fault.YOU,
    )


def status(place: Workplace) -> reporting.Status:
    """What the box is and does right now."""
    store = Store(place.root)
    now = current(store)
    services = runtime_of(place, store).services()
    measured = measure.standings(store, now) if now else {}
    return reporting.describe(store, now, services, _locked(place, now), calibrations=measured)


def _locked(place: Workplace, now: Current | None) -> Release | None:
    """What models.lock would install now, None when it cannot be read."""
    try:
        return locking.release_of(place.content, now.release.profile) if now else None
    except AiboxError:
        return None


def require_box(place: Workplace) -> None:
    """Raise `BadUsage` where nothing is installed."""
    require_current(Store(place.root))


def history(place: Workplace) -> History:
    """Every fact of the record, oldest first, and how much of it cannot be read."""
    return Store(place.root).history.read()


def _unhealthy(verdict: Verdict) -> Failed:
    return Failed(
        "box-unhealthy",
        f"the box runs, but does not answer as it must: {verdict.reason}",
        hint="see which service is at fault with: ./aibox status",
        fault=Fault.HOST,
    )
