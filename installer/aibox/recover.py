"""What an interrupted command left behind is finished or undone before anything else happens.

`decide` is a pure function of what the disk says; `recover` does what it says until nothing is
left, so it may be killed anywhere and run again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum

from aibox.box.journal import Intent, Phase, Unreadable
from aibox.box.runtime import Runtime
from aibox.box.state import State
from aibox.box.store import Store
from aibox.box.transaction import Clock, Gate, Outcome, Transaction, wall_clock
from aibox.digest import of_bytes
from aibox.errors import Fault, NeedsPerson
from aibox.record import Action, Result

RECOVERIES_CAP = 28
"""Recoveries begun and never finished before services are left alone (Mender's loop breaker)."""


class Step(StrEnum):
    """What recovery does next."""

    NOTHING = "nothing"
    SET_ASIDE = "set an unreadable intent aside"
    DISCARD = "drop what was only staged"
    FORWARD = "finish what was committed"
    ASK_AGAIN = "ask the gate once more after a reboot"
    UNDO = "undo a trial that was interrupted"
    GO_BACK = "finish an undo that was interrupted"
    RESTORE = "make `current` name the generation that must serve"


@dataclass(frozen=True)
class Facts:
    """Everything the decision rests on.

    Attributes:
        intent: the journal's.
        state: the newest valid slot.
        current: what `current` names, None if nothing sealed.
        sealed: the generations on disk.
        good: those that once passed their gate, the newest first.
        recorded: the one that the record calls serving.
        boot: the name of this boot.
    """

    intent: Intent | Unreadable | None
    state: State
    current: int | None
    sealed: tuple[int, ...]
    good: tuple[int, ...]
    recorded: int | None
    boot: str


@dataclass(frozen=True)
class Done:
    """A step taken, and how its transaction ended if it was one."""

    step: Step
    outcome: Outcome | None = None


def decide(facts: Facts) -> Step:
    """The next step. Whatever is not understood leads back to what was good."""
    intent, state = facts.intent, facts.state
    if intent is None:
        settled = facts.current == state.last_good == expected(facts)
        return Step.NOTHING if settled else Step.RESTORE
    if isinstance(intent, Unreadable):
        return Step.SET_ASIDE
    if intent.phase is Phase.STAGE:
        return Step.DISCARD
    if intent.phase is Phase.UNDO:
        return Step.GO_BACK
    if state.transaction == intent.transaction:
        return Step.FORWARD
    rebooted = intent.boot != facts.boot
    on_trial = facts.current == intent.generation and not intent.together
    return Step.ASK_AGAIN if rebooted and on_trial and state.tries_left > 0 else Step.UNDO


def expected(facts: Facts) -> int | None:
    """The generation that must serve when no transaction is open; None if there is none.

    `current` is believed when the record agrees with it, else the state is; a state that says
    nothing serves (the last one was damaged) is believed too. Both slots lost: whatever is left.
    """
    agreed = facts.current if facts.current == facts.recorded else None
    stopped = facts.state.sequence > 0 and facts.state.last_good is None
    others = () if stopped else (facts.current, facts.recorded, *facts.good)
    wishes = (agreed, facts.state.last_good, *others)
    return next((number for number in wishes if number in facts.sealed), None)


def recover(
    store: Store, runtime: Runtime, gate: Gate, *, clock: Clock = wall_clock
) -> tuple[Done, ...]:
    """Bring the box to one whole generation; the steps taken, none if it was whole.

    The caller holds the box. Every mutating command begins with this.

    Raises:
        NeedsPerson: `nothing-serves`, if no generation on the box is whole; `recovery-loop`,
            after 28 recoveries that never finished; `does-not-start`.
        DiskTrouble: the disk refused; run it again when it does not.
    """
    store.initialise()
    done: list[Done] = []
    while (step := decide(look(store))) is not Step.NOTHING:
        if step is Step.SET_ASIDE:
            _set_aside(store)
            done.append(Done(step))
        else:
            done.append(Done(step, _take(step, store, runtime, gate, clock)))
    store.clear_staging(parts=False)
    return tuple(done)


def look(store: Store) -> Facts:
    """Read the facts from the disk."""
    history = store.history.read()
    return Facts(
        intent=store.journal.read(),
        state=store.slots.load(),
        current=store.current(),
        sealed=store.generations(),
        good=history.good(),
        recorded=history.serving(),
        boot=store.boot,
    )


def _take(step: Step, store: Store, runtime: Runtime, gate: Gate, clock: Clock) -> Outcome:
    transaction = _transaction(store, clock)
    if step is Step.DISCARD:
        return transaction.abort("interrupted while staging", parts=False)
    if step is Step.FORWARD:
        return transaction.finish()
    if _count(store) > RECOVERIES_CAP:
        return _give_up(transaction)
    if step is Step.ASK_AGAIN:
        return _ask_again(transaction, runtime, gate)
    if step is not Step.GO_BACK:
        transaction.undo(_WHY[step], transaction.intent.verdict, Result.RECOVERED)
    return _served(transaction.way_back(runtime))


_WHY = {
    Step.UNDO: "interrupted before the gate passed",
    Step.RESTORE: "`current` or the state of the box was damaged",
}


def _transaction(store: Store, clock: Clock) -> Transaction:
    """The open one, or a new one of our own that begins on the way back."""
    held = store.journal.read()
    if isinstance(held, Intent):
        return Transaction(store, held, clock)
    own = Intent(
        transaction=secrets.token_hex(8),
        action=Action.RECOVER,
        phase=Phase.UNDO,
        started=clock(),
        source=expected(look(store)),
    )
    return Transaction(store, own, clock)


def _count(store: Store) -> int:
    """Count this recovery as begun; the transaction's end sets the count to 0."""
    state = store.slots.load()
    counted = state.model_copy(update={"recoveries": state.recoveries + 1})
    return store.with_room(lambda: store.slots.save(counted)).recoveries


def _set_aside(store: Store) -> None:
    """Keep what the intent held as evidence and go on as if there were none."""
    held = store.journal.read()
    content = held.content if isinstance(held, Unreadable) else b""
    kept = store.layout.quarantine / f"intent-{of_bytes(content)[:16]}"
    store.filesystem.move(store.journal.path, kept)


def _ask_again(transaction: Transaction, runtime: Runtime, gate: Gate) -> Outcome:
    """The trial of P4 once more: a reboot in the middle of it says nothing about the release."""
    store, generation = transaction.store, transaction.intent.generation
    last_try = store.slots.load().model_copy(update={"tries_left": 0})
    store.with_room(lambda: store.slots.save(last_try))
    if generation is not None and store.is_sound(generation):
        verdict = transaction.trial(runtime, gate)
        if verdict.passed:
            return transaction.commit(verdict)
        transaction.undo(verdict.reason, verdict, Result.ROLLED_BACK)
    else:
        transaction.undo("damaged after a reboot", None, Result.ROLLED_BACK)
    return _served(transaction.way_back(runtime))


def _give_up(transaction: Transaction) -> Outcome:
    """Name the last good generation, touch no service, and call for a person."""
    if transaction.intent.phase is not Phase.UNDO or transaction.intent.target is None:
        transaction.undo("recovery never came to an end", None, Result.RECOVERED)
    outcome = transaction.way_back(None)
    raise NeedsPerson(
        "recovery-loop",
        f"recovery was begun {RECOVERIES_CAP} times and never ended; it is given up",
        context=f"`current` names generation {outcome.serving}; services were left alone",
        hint="find out what kills it: ./aibox doctor",
        fault=Fault.HOST,
    )


def _served(outcome: Outcome) -> Outcome:
    """The outcome, unless the box was left with nothing to serve although it had something."""
    error = outcome.error()
    if isinstance(error, NeedsPerson):
        raise error
    return outcome
