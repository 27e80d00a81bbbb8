"""The sessions with all hosts of a box: told side by side, committed together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aibox import placement
from aibox.box.remote import Session
from aibox.errors import AiboxError, Failed, Fault, RolledBack
from aibox.hosts.connections import Connections
from aibox.orders import Order, Planned, Step
from aibox.site import Site


@dataclass
class Sessions:
    """The sessions of all hosts of a box."""

    site: Site
    connections: Connections
    _sessions: dict[str, Session] = field(default_factory=dict)
    _program: Callable[[str], list[str]] = lambda _name: []

    @contextmanager
    def session(self, name: str, program: Callable[[str], list[str]]) -> Iterator[Session]:
        """A session with one host for the block."""
        session = self.connections.session(name, program(name))
        try:
            yield session
        finally:
            session.close()

    @contextmanager
    def opened(self, program: Callable[[str], list[str]]) -> Iterator[None]:
        """One with each host for the block; on leaving, hosts undo what is not committed."""
        self._program = program
        try:
            for name in sorted(self.site.hosts):
                self._sessions[name] = self.connections.session(name, program(name))
            yield
        finally:
            self.connections.each(lambda name: self._sessions[name].close(), sorted(self._sessions))

    def hold(self) -> None:
        """Every host's lock, in the order of names: two of these never wait for one another."""
        for name in sorted(self.site.hosts):
            self._sessions[name].ask(Order(step=Step.HOLD))

    def ask(
        self, order: Order | Callable[[str], Order], names: Sequence[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """One step on several hosts at once; raises the first trouble when all have answered."""

        def one(name: str) -> dict[str, Any]:
            return self._sessions[name].ask(order(name) if callable(order) else order)

        return self.connections.each(one, names)

    def plans(self, order: Callable[[str], Order]) -> dict[str, Planned]:
        """What each would do."""
        said = self.ask(order)
        return {name: Planned.model_validate(facts) for name, facts in said.items()}

    def stage(self, order: Callable[[str], Order]) -> None:
        """Bring everything to every host; one that asks for a reboot gets it, and goes on."""

        def one(name: str) -> dict[str, Any]:
            try:
                return self._sessions[name].ask(order(name))
            except AiboxError as error:
                if error.reference != "reboot-needed":
                    raise
                self._reboot(name, error)
                return self._sessions[name].ask(order(name))

        self.connections.each(one)

    def _reboot(self, name: str, why: AiboxError) -> None:
        say = self.connections.teller(name)
        say(f"reboots: {why.context}")
        before = self._sessions[name].ask(Order(step=Step.REBOOT))["boot"]
        self._sessions[name].close()
        self.connections.await_reboot(name)
        session = self._sessions[name] = self.connections.session(name, self._program(name))
        if session.ask(Order(step=Step.HOLD))["boot"] == before:
            raise Failed(
                "reboot-not-done",
                f"the host {name} was told to reboot and did not",
                hint=f"reboot it by hand, then give the same command again: ssh {name} reboot",
                fault=Fault.HOST,
            )

    def share(self, secrets: Mapping[str, Sequence[str]]) -> None:
        """Let the hosts that need the same secret have it; it is kept nowhere here."""
        for secret, (owner, *others) in sorted(secrets.items()):
            told = self._sessions[owner].ask(Order(step=Step.REVEAL, names=(secret,)))
            values = {secret: str(told[secret])}
            self.ask(Order(step=Step.ADOPT, values=values), others)

    def aim(self, reason: str) -> str:
        """Choose on each host what it served before; the release, which must be one."""
        said = self.ask(Order(step=Step.AIM, reason=reason))
        found = {str(facts["release"]) for facts in said.values()}
        if len(found) == 1:
            return found.pop()
        raise Failed(
            "hosts-differ",
            "the hosts did not serve the same release before, so there is none to go back to",
            context=", ".join(f"{name}: {facts['release'][:12]}" for name, facts in said.items()),
            hint="bring all to one: ./aibox install --inventory FILE --bundle BUNDLE",
            fault=Fault.HOST,
        )

    # -- the trial --------------------------------------------------------------------------------

    def activate(self) -> dict[str, int]:
        """Start, judge and commit on all hosts, or go back; the generation that each serves."""
        troubles = self._trial()
        if troubles and self._as_one:
            raise self._gone_back(self.undo(_in_words(troubles)), troubles)
        passed = [name for name in sorted(self.site.hosts) if name not in troubles]
        committed, lost = self._commit(passed)
        if lost and self._as_one:
            raise self._gone_back(self._return(sorted(committed), _in_words(lost)), lost)
        if failed := {**troubles, **lost}:
            raise self._gone_back(self.undo(_in_words(failed), sorted(failed)), failed)
        return committed

    @property
    def _as_one(self) -> bool:
        return self.site.together.when_one_fails == "all-go-back"

    def _trial(self) -> dict[str, str]:
        """Start everywhere, who is asked before who asks; then judge. Why hosts did not pass."""
        troubles: dict[str, str] = {}
        for step in (Step.APPLY, Step.GATE):
            for names in placement.stages(self.site):
                troubles |= self._judged(step, [name for name in names if name not in troubles])
                if troubles and self._as_one:
                    return troubles
        return troubles

    def _judged(self, step: Step, names: Sequence[str]) -> dict[str, str]:
        said = self._tell(Order(step=step), names)
        return {
            name: facts.message if isinstance(facts, AiboxError) else str(facts["reason"])
            for name, facts in said.items()
            if isinstance(facts, AiboxError) or not facts["passed"]
        }

    def _tell(self, order: Order, names: Sequence[str]) -> dict[str, dict[str, Any] | AiboxError]:
        """Like `ask`, with failures among the answers: one host must not keep others waiting."""

        def one(name: str) -> dict[str, Any] | AiboxError:
            try:
                return self._sessions[name].ask(order)
            except AiboxError as error:
                return error

        return self.connections.each(one, names)

    def _commit(self, names: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
        """One after the other; where all go back, nobody commits after one that could not."""
        committed, lost = dict[str, int](), dict[str, str]()
        for name in names:
            said = self._tell(Order(step=Step.COMMIT), [name])[name]
            if not isinstance(said, AiboxError):
                committed[name] = int(said["generation"])
                continue
            lost[name] = said.message
            if self._as_one:
                break
        return committed, lost

    def undo(self, reason: str, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Go back on all hosts at once; what each serves then, or why it does not say."""
        asked = sorted(self.site.hosts) if names is None else names
        return dict(self._tell(Order(step=Step.UNDO, reason=reason), asked))

    def _return(self, committed: Sequence[str], reason: str) -> dict[str, Any]:
        """Those that had committed go back as after a rollback; the others undo."""
        said = self.undo(
            reason, [name for name in sorted(self.site.hosts) if name not in committed]
        )
        for step in (Step.AIM, Step.APPLY, Step.GATE, Step.COMMIT):
            said |= self._tell(Order(step=step, reason=reason), committed)
        return said

    def _gone_back(self, said: Mapping[str, Any], troubles: Mapping[str, str]) -> AiboxError:
        silent = [name for name, facts in sorted(said.items()) if isinstance(facts, AiboxError)]
        ending = self._ending(said)
        if silent:
            ending += f"; {', '.join(silent)} cannot be asked, and goes back by itself"
        nothing = ending.startswith("nothing")
        kind, reference = (Failed, "gate-failed") if nothing else (RolledBack, "rolled-back")
        return kind(
            reference,
            f"{_in_words(troubles)}; {ending}",
            context=", ".join(sorted(troubles)),
            hint="see how each stands: ./aibox status --inventory FILE",
            fault=Fault.UPSTREAM,
        )

    def _ending(self, said: Mapping[str, Any]) -> str:
        told = [facts for facts in said.values() if not isinstance(facts, AiboxError)]
        if told and all(facts.get("serving", 0) is None for facts in told):
            return "nothing was served before, so nothing is now"
        if self._as_one:
            return "every host that can be reached serves again what it served before"
        return "the other hosts stay with the new release, as the site says"


def _in_words(troubles: Mapping[str, str]) -> str:
    return "; ".join(
        text if name in text else f"the host {name}: {text}" for name, text in troubles.items()
    )
