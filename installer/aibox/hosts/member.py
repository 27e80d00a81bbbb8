"""One of several hosts, as it does what it is told: a step at a time, under its own lock.

It plans, stages and activates as a box of one host does, with the same verbs and the same journal;
but it never commits by itself. Who tells it may be lost at any time: then what is on trial is
undone here and now, and by recovery when this process is lost as well.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from aibox import pipeline, runtimes
from aibox.box import resumption, secrets, system_units
from aibox.box.journal import Intent, Phase
from aibox.box.store import Store
from aibox.box.transaction import Outcome, Transaction, answered, begin, staging
from aibox.errors import AiboxError, Failed, Fault, VerificationRefused
from aibox.orders import Order, Planned, Step
from aibox.plan import Plan
from aibox.prepare import Prepared, Wish, Workplace, current, prepare, require_current
from aibox.receiving import Terms
from aibox.record import Action, Result
from aibox.stage import missing
from aibox.verdict import Verdict

Facts = dict[str, Any]
INCOMING = "incoming"
"""Below the box root: where bundles are copied to."""


@dataclass
class _Held:
    """A box that is held, and how far it has come."""

    store: Store
    lock: int
    generation: int | None = None
    transaction: Transaction | None = None
    verdict: Verdict | None = None
    settle: Callable[[], None] = lambda: None


class Member:
    """The steps of one session. A context manager: leaving it undoes what is not committed."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._closing = ExitStack()
        self._held: _Held | None = None
        self._steps: dict[Step, Callable[[Order], Facts]] = {
            Step.HOLD: self._hold,
            Step.PLAN: self._plan,
            Step.STAGE: self._stage,
            Step.REVEAL: self._reveal,
            Step.ADOPT: self._adopt,
            Step.AIM: self._aim,
            Step.APPLY: self._apply,
            Step.GATE: self._gate,
            Step.COMMIT: self._commit,
            Step.UNDO: self._undo,
            Step.REBOOT: self._reboot,
            Step.STATUS: self._status,
            Step.UNINSTALL: self._uninstall,
        }

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._abandon("whoever changes this box was lost before the end")
        finally:
            self._closing.close()

    def do(self, order: Order) -> Facts:
        """Take one step; raises what its verbs raise."""
        return self._steps[order.step](order)

    # -- steps ----------------------------------------------------------------------------------

    def _hold(self, _order: Order) -> Facts:
        store, lock = self._closing.enter_context(pipeline.recovered(self._place, existing=False))
        self._held = _Held(store, lock)
        now = current(store)
        return {
            "boot": store.boot,
            "generation": now.generation if now else None,
            "release": now.release.id if now else "",
        }

    def _plan(self, order: Order) -> Facts:
        store = self._box.store
        with prepare(self._place, _wish(order)) as prepared:
            _require_same(prepared, order)
            now = current(store)
            whole = now is not None and pipeline.is_whole(store, now, prepared)
            found = () if whole else pipeline.judge(store, self._place, prepared)
            return Planned(
                digest=prepared.plan.digest,
                release=prepared.plan.release,
                profile=prepared.plan.profile,
                whole=whole,
                first=now is None,
                steps=prepared.plan.steps,
                differences=_differences(prepared.plan),
                lacking={} if whole else _lacking(store, prepared),
                findings=found,
            ).model_dump(mode="json")

    def _stage(self, order: Order) -> Facts:
        try:
            return self._staged(order)
        except VerificationRefused:
            # What is whole by its size is not copied again, so what is wrong must not stay.
            filesystem = self._box.store.filesystem
            filesystem.remove_tree(self._box.store.layout.root / INCOMING)
            raise

    def _staged(self, order: Order) -> Facts:
        held, place = self._box, self._place
        with prepare(place, _wish(order)) as prepared:
            _require_same(prepared, order)
            pipeline.ready_host(place, held.store, prepared, held.lock)
            now = current(held.store)
            if now is not None and pipeline.is_whole(held.store, now, prepared):
                held.generation = now.generation
            else:
                self._begin_staging(prepared, order.action)
                held.generation = pipeline.seal(place, held.store, prepared)
            pipeline.ready_server(
                place, held.store, prepared, held.generation, order.action, held.lock
            )
        held.settle = partial(pipeline.settle, held.store, prepared)
        return {"generation": held.generation, "changed": held.transaction is not None}

    def _begin_staging(self, prepared: Prepared, action: Action) -> None:
        held, plan = self._box, prepared.plan
        held.transaction = self._closing.enter_context(
            staging(
                held.store,
                action,
                release=plan.release,
                plan=plan.digest,
                provenance=prepared.material.provenance,
                together=True,
            )
        )

    def _reveal(self, order: Order) -> Facts:
        store = self._box.store
        root = store.layout.root
        return {name: secrets.reveal(store.filesystem, root, name) for name in order.names}

    def _adopt(self, order: Order) -> Facts:
        store = self._box.store
        for name, value in sorted(order.values.items()):
            secrets.adopt(store.filesystem, store.layout.root, name, value)
        return {}

    def _aim(self, order: Order) -> Facts:
        held = self._box
        held.generation = held.store.rollback_target(None)
        held.transaction = begin(held.store, Action.ROLLBACK, reason=order.reason, together=True)
        return {"generation": held.generation, "release": held.store.release(held.generation)}

    def _apply(self, _order: Order) -> Facts:
        held = self._box
        runtime = pipeline.runtime_of(self._place, held.store)

        def start() -> Verdict:
            runtime.apply()
            return Verdict(passed=True)

        if held.transaction is not None and held.generation is not None:
            held.store.require_sound(held.generation)
            held.transaction.switch(held.generation)
        return _facts(answered(start))

    def _gate(self, _order: Order) -> Facts:
        held = self._box
        held.verdict = answered(pipeline.gate_of(self._place, held.store))
        gateway = runtimes.has_gateway(require_current(held.store))
        return {**_facts(held.verdict), "gateway": gateway}

    def _commit(self, _order: Order) -> Facts:
        held = self._box
        store, transaction = held.store, held.transaction
        if held.verdict is None or not held.verdict.passed:
            raise _out_of_turn("to commit what was not judged")
        if transaction is not None:
            transaction.commit(held.verdict)
            held.transaction = None
        held.settle()
        resumption.clear(store.filesystem, store.layout.root)
        store.filesystem.remove_tree(store.layout.root / INCOMING)
        return {"generation": held.generation}

    def _undo(self, order: Order) -> Facts:
        outcome = self._abandon(order.reason)
        serving = outcome.serving if outcome else self._box.store.current()
        return {"serving": serving, "undone": outcome is not None}

    def _reboot(self, _order: Order) -> Facts:
        """Go down soon; what waits here is staged again by who asked for it."""
        store = self._box.store
        resumption.clear(store.filesystem, store.layout.root)
        system_units.reboot()
        return {"boot": store.boot}

    def _status(self, _order: Order) -> Facts:
        return pipeline.status(self._place).model_dump(mode="json")

    def _uninstall(self, order: Order) -> Facts:
        pipeline.uninstall(self._place, order.purge)
        return {}

    # -- what they share ------------------------------------------------------------------------

    @property
    def _box(self) -> _Held:
        if self._held is None:
            raise _out_of_turn("to change before it was told to hold still")
        return self._held

    def _abandon(self, reason: str) -> Outcome | None:
        """Undo what is not committed, if anything is; what came of it."""
        held = self._held
        if held is None or held.transaction is None:
            return None
        transaction, held.transaction = held.transaction, None
        intent = held.store.journal.read()
        if not isinstance(intent, Intent):
            return None
        transaction.intent = intent
        if intent.phase is Phase.STAGE:
            return transaction.abort(reason, parts=False)
        verdict = held.verdict if held.verdict and not held.verdict.passed else None
        transaction.undo(reason, verdict, Result.ROLLED_BACK)
        # Whoever listened may be gone: what brings the services back must not fail for that.
        quiet = replace(self._place, report=_quietly(self._place.report))
        return transaction.way_back(pipeline.runtime_of(quiet, held.store))


def _quietly(report: Callable[[Any], None]) -> Callable[[Any], None]:
    def tell(progress: Any) -> None:
        try:
            report(progress)
        except AiboxError:
            return

    return tell


def _out_of_turn(told: str) -> Failed:
    return Failed(
        "order-out-of-turn",
        f"this host was told {told}",
        hint="use the command line of one bundle on all hosts: ./aibox --version",
        fault=Fault.US,
    )


def _require_same(prepared: Prepared, order: Order) -> None:
    """The copy here must be the bundle that was verified where the command was given."""
    found = prepared.received.media.bundle if prepared.received else ""
    if found != order.manifest:
        raise VerificationRefused(
            "copy-differs",
            "the bundle on this host is not the one that was verified",
            context=f"{found[:16]} instead of {order.manifest[:16]}",
            hint=f"remove the copy there, then give the same command again: rm -r {order.bundle}",
            fault=Fault.HOST,
        )


def _wish(order: Order) -> Wish:
    return Wish(
        profile=order.profile,
        bundle=(Path(order.bundle),),
        site=order.site,
        terms=Terms(
            roots=(Path(order.root),) if order.root else (),
            allow_unsigned=order.allow_unsigned,
            allow_downgrade=order.allow_downgrade,
            allow_expired=order.allow_expired,
            partial=True,
        ),
    )


def _differences(plan: Plan) -> tuple[str, ...]:
    return tuple(f"{one.name}: {one.current} -> {one.desired}" for one in plan.differences)


def _lacking(store: Store, prepared: Prepared) -> dict[str, int]:
    """The chunks of what neither the copy nor the store has."""
    received = prepared.received
    if received is None:
        return {}
    wanted = {item.sha256 for item in missing(store, prepared.material)}
    return {
        chunk.sha256: chunk.size
        for item in received.index.carried
        if item.sha256 in wanted
        for chunk in item.chunks
        if received.media.volume_of(chunk.sha256) is None
    }


def _facts(verdict: Verdict) -> Facts:
    return {"passed": verdict.passed, "reason": verdict.reason}
