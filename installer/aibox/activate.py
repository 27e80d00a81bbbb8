"""Make a sealed generation serve, or leave the box as it was."""

from __future__ import annotations

from aibox.box.filesystem import DiskTrouble
from aibox.box.journal import Intent
from aibox.box.runtime import Runtime
from aibox.box.store import Store
from aibox.box.transaction import STOPPED, Clock, Gate, Outcome, Transaction, staging, wall_clock
from aibox.record import Action, Result


def activate(
    store: Store,
    generation: int,
    *,
    action: Action,
    runtime: Runtime,
    gate: Gate,
    clock: Clock = wall_clock,
    transaction: Transaction | None = None,
    reason: str = "",
) -> Outcome:
    """Switch to `generation`, run its services, ask the gate; commit, or go back. Then record.

    The caller holds the box and has recovered it. `transaction` is the one under which the
    generation was staged; without one (a rollback) a new one begins. The outcome's `error()`
    says how the command must end: a failed gate is never exit 0.

    Raises:
        NeedsPerson: the generation is damaged (nothing was changed), or the way back failed.
        DiskTrouble: the disk failed even on the way back; the next command recovers.
    """
    if transaction is not None:
        return _run(transaction, generation, runtime, gate)
    with staging(store, action, clock=clock, reason=reason) as begun:
        return _run(begun, generation, runtime, gate)


def _run(transaction: Transaction, generation: int, runtime: Runtime, gate: Gate) -> Outcome:
    transaction.store.require_sound(generation)
    try:
        transaction.switch(generation)
        verdict = transaction.trial(runtime, gate)
        if verdict.passed:
            return transaction.commit(verdict)
        transaction.undo(verdict.reason, verdict, Result.ROLLED_BACK)
        return transaction.way_back(runtime)
    except DiskTrouble as error:
        return _after(transaction, runtime, error.message)
    except KeyboardInterrupt:
        return _after(transaction, runtime, STOPPED)


def _after(transaction: Transaction, runtime: Runtime, reason: str) -> Outcome:
    """End at once what recovery would have to end later, starting from what the disk says."""
    store = transaction.store
    held = store.journal.read()
    if isinstance(held, Intent):
        transaction.intent = held
    if transaction.committed():
        # Written, but perhaps not durable: an fsync that failed is not repeated, it is redone.
        store.slots.save(store.slots.load())
        return transaction.finish()
    transaction.undo(reason, transaction.intent.verdict, Result.ROLLED_BACK)
    return transaction.way_back(runtime)
