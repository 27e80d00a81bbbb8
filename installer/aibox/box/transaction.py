"""One journalled change of what serves.

The order of writes is the contract; a crash after any of them is answered by `recover.decide`::

    P1 stage    intent{stage}, then blobs and the tree       -> the attempt is dropped
    P3 switch   intent{switch}, state{tries_left}, current   -> the way back
    P4 trial    services, gate                               -> the way back, or the gate once more
    P5 commit   intent{verdict}, state{last_good}            -> finished forward
    P6 clean    record, then the intent goes                 -> finished forward

The way back is journalled too (intent{undo, target, verdict}), so that neither the reason nor
the second fact of a failed gate is lost, however often the power goes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aibox.box import contents as listing
from aibox.box.filesystem import DiskTrouble
from aibox.box.journal import Intent, Phase
from aibox.box.runtime import Runtime
from aibox.box.state import State
from aibox.box.store import Store
from aibox.errors import AiboxError, Failed, Fault, NeedsPerson, RolledBack
from aibox.record import Action, Entry, Provenance, Result
from aibox.verdict import Trouble, Verdict

STOPPED = "stopped by the operator"
"""The reason of a trial that was interrupted (Ctrl-C)."""

_RETURN = {Result.ROLLED_BACK: Action.ROLLBACK, Result.RECOVERED: Action.RECOVER}

Clock = Callable[[], datetime]
Gate = Callable[[], Verdict]


def wall_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Outcome:
    """How a transaction ended.

    Attributes:
        generation: where it was to go.
        source: the generation that served before.
        serving: the generation that serves now, None if none does.
        result: COMMITTED; ROLLED_BACK or RECOVERED if another generation serves instead;
            FAILED if none does, or the only one there is failed its own gate.
    """

    transaction: str
    action: Action
    generation: int | None
    source: int | None
    serving: int | None
    result: Result
    verdict: Verdict | None
    reason: str
    entries: tuple[Entry, ...]

    def error(self) -> AiboxError | None:
        """What the command must end with: None (exit 0), or the error of exit 1, 5 or 6."""
        if self.result is Result.COMMITTED:
            return None
        if self.result is not Result.FAILED:
            return self._error(
                RolledBack,
                "rolled-back",
                f"generation {self.generation} did not serve; generation {self.serving} does again",
                "see both facts: ./aibox history",
            )
        if self.source is not None and self.serving is None:
            return self._error(
                NeedsPerson,
                "nothing-serves",
                "the new generation did not serve, and no earlier one is whole",
                "install again: ./aibox install --profile local",
            )
        return self._error(
            Failed,
            "gate-failed",
            f"generation {self.generation} did not pass its gate",
            "see why: ./aibox doctor",
        )

    def _error(self, kind: type[AiboxError], reference: str, message: str, hint: str) -> AiboxError:
        trouble = self.verdict.trouble if self.verdict else None
        if trouble is None:
            fault = Fault.YOU if self.reason == STOPPED else Fault.UPSTREAM
            return kind(reference, message, context=self._why(), hint=hint, fault=fault)
        why = ": ".join(filter(None, (self.reason, trouble.context)))
        return kind(reference, message, context=why, hint=trouble.hint, fault=Fault(trouble.fault))

    def _why(self) -> str:
        cases = self.verdict.failed_ids() if self.verdict else ()
        return self.reason + (f" (cases: {', '.join(cases)})" if cases else "")


class Transaction:
    """A transaction in progress; `intent` is what the journal holds."""

    def __init__(self, store: Store, intent: Intent, clock: Clock) -> None:
        self.store = store
        self.intent = intent
        self._clock = clock

    def switch(self, generation: int) -> None:
        """P3: make `current` name the generation, on trial."""
        store = self.store
        self._note(
            phase=Phase.SWITCH,
            generation=generation,
            source=store.current(),
            boot=store.boot,
            release=store.release(generation),
            plan=plan_digest(store, generation),
        )
        store.with_room(lambda: store.slots.save(_with(store, tries_left=1)))
        store.with_room(lambda: store.switch(generation))

    def trial(self, runtime: Runtime, gate: Gate) -> Verdict:
        """P4: run the services and ask the gate. Whatever goes wrong is an answer: no."""

        def ask() -> Verdict:
            runtime.apply()
            return gate()

        return answered(ask)

    def commit(self, verdict: Verdict) -> Outcome:
        """P5 and P6: from the state's fsync on, the generation is the good one."""
        self._note(verdict=verdict)
        state, generation = self.store.slots.load(), self.intent.generation
        previous = state.prev_good if state.last_good == generation else state.last_good
        good = _with(
            self.store,
            last_good=generation,
            prev_good=previous,
            transaction=self.intent.transaction,
            tries_left=0,
            recoveries=0,
        )
        self.store.with_room(lambda: self.store.slots.save(good))
        return self.finish()

    def finish(self) -> Outcome:
        """P6: record the commit and close. May be called again after a crash."""
        entry = self._record(self.intent.generation, Result.COMMITTED, self.intent.reason)
        self._close()
        return self._outcome(Result.COMMITTED, self.intent.generation, (entry,))

    def undo(self, reason: str, verdict: Verdict | None, ending: Result) -> None:
        """Choose what must serve again and journal it; `way_back` then goes there."""
        target = self.intent.source
        if target is not None and not self.store.is_sound(target):
            target = next(iter(self._others(target)), None)
        self._note(
            phase=Phase.UNDO, target=target, reason=_text(reason), verdict=verdict, ending=ending
        )

    def way_back(self, runtime: Runtime | None) -> Outcome:
        """Go where phase undo says, record both facts and close. May be called again.

        Without a runtime the services are left alone (recovery gave up on them).

        Raises:
            NeedsPerson: the services do not come back either; the record says so.
        """
        intent = self.intent
        self.store.with_room(lambda: self.store.switch(intent.target))
        trouble = self._run_target(runtime)
        self._settle_state()
        entries = self._record_way_back(trouble)
        self._close()
        if trouble is not None:
            raise _does_not_start(intent.target, trouble) from trouble
        alone = intent.target is None or intent.target == intent.generation
        return self._outcome(Result.FAILED if alone else intent.ending, intent.target, entries)

    def committed(self) -> bool:
        """Whether the commit point is behind us: the state names this transaction."""
        return self.store.slots.load().transaction == self.intent.transaction

    def abort(self, reason: str, *, parts: bool) -> Outcome:
        """Drop an attempt that switched nothing; `parts` also drops half-imported blobs."""
        self.store.clear_staging(parts=parts)
        entry = self._record(self.intent.generation, Result.FAILED, reason)
        self._close()
        return self._outcome(Result.FAILED, self.store.current(), (entry,))

    def _others(self, damaged: int) -> Iterator[int]:
        """Sound generations other than those that just failed, the best first."""
        tried = {damaged, self.intent.generation}
        good = self.store.history.read().good()
        present = self.store.generations()
        return (n for n in good if n in present and n not in tried and self.store.is_sound(n))

    def _settle_state(self) -> None:
        """What serves now is what boot must end up on; and this recovery has ended.

        Not before the services were run: a recovery that they kill must stay counted.
        """
        state, target = self.store.slots.load(), self.intent.target
        settled = _with(self.store, last_good=target, tries_left=0, recoveries=0)
        if settled != state:
            self.store.with_room(lambda: self.store.slots.save(settled))

    def _run_target(self, runtime: Runtime | None) -> AiboxError | None:
        if runtime is None:
            return None
        try:
            runtime.apply() if self.intent.target is not None else runtime.stop()
        except AiboxError as error:
            return error
        except Exception as error:
            return Failed(
                "runtime-broke",
                _text(f"{type(error).__name__}: {error}"),
                hint="find out why: ./aibox doctor",
                fault=Fault.US,
            )
        return None

    def _record_way_back(self, trouble: AiboxError | None) -> tuple[Entry, ...]:
        intent, entries = self.intent, []
        if intent.generation is not None:
            entries.append(self._record(intent.generation, Result.FAILED, intent.reason))
        if intent.target is not None and intent.target != intent.generation:
            ending = Result.FAILED if trouble else intent.ending
            reason = _text(trouble.message) if trouble else self._why_back()
            entries.append(self._record(intent.target, ending, reason))
        return tuple(entries)

    def _why_back(self) -> str:
        failed = self.intent.generation
        return self.intent.reason if failed is None else f"generation {failed} did not serve"

    def _record(self, generation: int | None, result: Result, reason: str) -> Entry:
        own = generation == self.intent.generation
        entry = Entry(
            sequence=0,
            transaction=self.intent.transaction,
            generation=generation,
            release=self.intent.release if own else _release(self.store, generation),
            action=self.intent.action if own else _RETURN[self.intent.ending],
            outcome=result,
            started=self.intent.started,
            finished=self._clock(),
            reason=_text(reason),
            plan=self.intent.plan if own else plan_digest(self.store, generation),
            gate=self.intent.verdict if own else None,
            provenance=self.intent.provenance if own else None,
        )
        return self.store.with_room(lambda: self.store.history.append(entry))

    def _close(self) -> None:
        self.store.journal.clear()
        self.store.clear_staging(parts=False)
        self._keep_reserve()

    def _keep_reserve(self) -> None:
        try:
            self.store.keep_reserve()
        except DiskTrouble:
            return  # The disk is full: the reserve comes back with the next transaction.

    def _note(self, **changes: object) -> None:
        intent = self.intent.model_copy(update=changes)
        self.store.with_room(lambda: self.store.journal.write(intent))
        self.intent = intent

    def _outcome(self, result: Result, serving: int | None, entries: tuple[Entry, ...]) -> Outcome:
        return Outcome(
            transaction=self.intent.transaction,
            action=self.intent.action,
            generation=self.intent.generation,
            source=self.intent.source,
            serving=serving,
            result=result,
            verdict=self.intent.verdict,
            reason=self.intent.reason,
            entries=entries,
        )


def answered(ask: Callable[[], Verdict]) -> Verdict:
    """What `ask` says; whatever goes wrong in it is an answer: no."""
    try:
        return ask()
    except AiboxError as error:
        trouble = Trouble(
            reference=error.reference,
            context=_text(error.context),
            hint=_text(error.hint),
            fault=error.fault.value,
        )
        return Verdict(passed=False, reason=_text(error.message), trouble=trouble)
    except KeyboardInterrupt:
        return Verdict(passed=False, reason=STOPPED)
    except Exception as error:
        return Verdict(passed=False, reason=_text(f"{type(error).__name__}: {error}"))


def begin(
    store: Store,
    action: Action,
    *,
    clock: Clock = wall_clock,
    release: str = "",
    plan: str = "",
    reason: str = "",
    provenance: Provenance | None = None,
    together: bool = False,
) -> Transaction:
    """P1: journal what is about to be tried. `release` and `plan` are digests, if known yet.

    `together` is for one of several hosts: recovery then undoes what nobody has committed.

    Raises:
        Failed: `unfinished-transaction`; the caller recovers first.
    """
    store.initialise()
    if store.journal.read() is not None:
        raise Failed(
            "unfinished-transaction",
            "an earlier command was interrupted and is not tidied up yet",
            hint="finish or undo it: ./aibox recover",
            fault=Fault.HOST,
        )
    intent = Intent(
        transaction=secrets.token_hex(8),
        action=action,
        phase=Phase.STAGE,
        started=clock(),
        source=store.current(),
        release=release,
        plan=plan,
        reason=_text(reason),
        provenance=provenance,
        together=together,
    )
    if action is Action.ROLLBACK:  # The reserve is kept for the way back, not for more of the same.
        store.with_room(lambda: store.journal.write(intent))
    else:
        store.journal.write(intent)
    return Transaction(store, intent, clock)


@contextmanager
def staging(
    store: Store,
    action: Action,
    *,
    clock: Clock = wall_clock,
    release: str = "",
    plan: str = "",
    reason: str = "",
    provenance: Provenance | None = None,
    together: bool = False,
) -> Iterator[Transaction]:
    """A transaction for the block: an error before the switch drops it and records why.

    Half-imported blobs are kept for the next try, except on a full disk, which needs the room.
    """
    transaction = begin(
        store,
        action,
        clock=clock,
        release=release,
        plan=plan,
        reason=reason,
        provenance=provenance,
        together=together,
    )
    try:
        yield transaction
    except BaseException as error:
        held = store.journal.read()
        if isinstance(held, Intent) and held.phase is Phase.STAGE:
            _drop(transaction, error)
        raise


def plan_digest(store: Store, generation: int | None) -> str:
    """The digest of the generation's `plan.json`; "" if it has none."""
    if generation is None:
        return ""
    found = listing.load(store.layout.generation(generation))
    return found.files.get("plan.json", "") if found else ""


def _release(store: Store, generation: int | None) -> str:
    found = listing.load(store.layout.generation(generation)) if generation is not None else None
    return found.manifest if found else ""


def _drop(transaction: Transaction, error: BaseException) -> None:
    full = isinstance(error, DiskTrouble) and error.full
    reason = error.message if isinstance(error, AiboxError) else type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        reason = "interrupted"
    try:
        transaction.abort(reason, parts=full)
    except DiskTrouble:
        return  # The error that is under way matters more; the next command recovers.


def _with(store: Store, **changes: object) -> State:
    return store.slots.load().model_copy(update=changes)


def _text(reason: str) -> str:
    """Text that can be stored: file names may hold bytes that are no text."""
    return reason.encode("utf-8", "backslashreplace").decode()


def _does_not_start(target: int | None, trouble: AiboxError) -> NeedsPerson:
    return NeedsPerson(
        "does-not-start",
        f"`current` names generation {target} again, but its services do not start",
        context=trouble.message,
        hint="find out why: ./aibox doctor",
        fault=trouble.fault,
    )
