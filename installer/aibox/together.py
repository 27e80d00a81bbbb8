"""Several hosts changed as one: all commit, or all go back.

Each host does its own part with its own journal (`member`); here they are only told, in this order:

    reach -> copy the program and the plan's matter -> hold every lock, by name -> plan and judge
    -> copy what each lacks -> stage -> share secrets -> start in order -> judge -> commit

A host that is lost undoes by itself what was not committed. When that happens during the commit,
those that have committed go back again, unless the site says that the others stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aibox import footing, placing, receiving, trusting
from aibox.box import guard, host
from aibox.box.remote import Session
from aibox.box.trust_store import TrustStore
from aibox.bundle.layout import BLOBS, ROOTS, root_version
from aibox.copying import Share, of_plan, to_hosts
from aibox.errors import AiboxError, BadUsage, Failed, Fault, PreflightVeto, RolledBack
from aibox.lanes import Lanes
from aibox.orders import Order, Planned, Step
from aibox.prepare import Wish, Workplace, site_of
from aibox.receiving import Received
from aibox.record import Action
from aibox.release import Release
from aibox.site import Site

Confirm = Callable[[Mapping[str, Planned]], None]
"""Sees every host's plan; raises to stop."""


@dataclass(frozen=True, slots=True)
class Changed:
    """How it ended: the generation that each host serves, and the release they all run."""

    release: str
    generations: Mapping[str, int]
    site: Site


def site_with_hosts(inventory: Path | None) -> Site | None:
    """The site of an inventory that names hosts; None where it is about this host alone."""
    if inventory is None:
        return None
    found = site_of(Wish(inventory=inventory), None)
    return found if found.hosts else None


def install(place: Workplace, wish: Wish, action: Action, confirm: Confirm) -> Changed:
    """Make every host run its part of what `wish` asks for. Safe to repeat.

    Raises `BadUsage` (`hosts-need-bundle`, `hosts-misplaced`), `PreflightVeto` naming hosts and
    findings, `RolledBack` when all went back, and what hosts and lines raise.
    """
    site = site_of(wish, None)
    _require_bundle(wish)
    with ExitStack() as closing:
        received = closing.enter_context(
            receiving.receive(TrustStore(place.root), wish.bundle, wish.terms, place.report)
        )
        made = _release(received, wish.profile)
        placing.require_placed(made, site)
        lanes = closing.enter_context(Lanes.open(place, site))
        copied = _Copied(place, lanes, received, wish, site, made)
        copied.send(
            {name: of_plan(received, made, lanes.architecture(name)) for name in site.hosts}
        )
        crew = _Crew(place, site, lanes)
        closing.enter_context(crew.sessions(copied.program))
        crew.hold()
        plans = crew.plans(copied.order(Step.PLAN, action))
        _refuse_vetoed(plans)
        confirm(plans)
        copied.send(
            {name: [f"{BLOBS}/{one}" for one in plan.lacking] for name, plan in plans.items()}
        )
        crew.stage(copied.order(Step.STAGE, action))
        crew.share(footing.shared(made, site))
        generations = crew.activate()
        verified = received.verified
    # Only now: this host may be one of them, and its lock was held.
    if verified is not None:
        with guard.hold(place.root):
            trusting.accept(TrustStore(place.root), verified)
    return Changed(made.id, generations, site)


def rollback(place: Workplace, site: Site) -> Changed:
    """Every host serves again what all of them served before. Nothing is copied."""
    with Lanes.open(place, site) as lanes:
        crew = _Crew(place, site, lanes)
        with crew.sessions(lanes.installed_program):
            crew.hold()
            release = crew.aim("asked for")
            return Changed(release, crew.activate(), site)


def status(place: Workplace, site: Site) -> dict[str, dict[str, Any]]:
    """What each host says of itself; one that cannot be asked says why."""
    with Lanes.open(place, site, tolerant=True) as lanes:
        crew = _Crew(place, site, lanes)

        def ask(name: str) -> dict[str, Any]:
            try:
                lanes.require(name)
                with crew.session(name, lanes.installed_program) as session:
                    return session.ask(Order(step=Step.STATUS))
            except AiboxError as error:
                return {"state": "unknown", "error": error.as_json()}

        return lanes.each(ask)


def uninstall(place: Workplace, site: Site, purge: bool) -> None:
    """Remove the box from every host."""
    with Lanes.open(place, site) as lanes:
        crew = _Crew(place, site, lanes)
        with crew.sessions(lanes.installed_program):
            crew.ask(Order(step=Step.UNINSTALL, purge=purge))


def _require_bundle(wish: Wish) -> None:
    if not wish.bundle or wish.terms.weights:
        what = "weights of one's own are" if wish.bundle else "a checkout is"
        raise BadUsage(
            "hosts-need-bundle",
            f"{what} for one host; several are installed from a bundle that holds everything",
            hint="name it: ./aibox install --inventory FILE --bundle BUNDLE",
            fault=Fault.YOU,
        )


def _release(received: Received, profile: str | None) -> Release:
    made = receiving.release_of(received, profile, host.architecture())
    if made.runtime.value != "container":
        raise BadUsage(
            "hosts-need-containers",
            f"the profile {made.profile} is for one user on one host",
            hint="choose one for servers: ./aibox profiles",
            fault=Fault.YOU,
        )
    return made


def _refuse_vetoed(plans: Mapping[str, Planned]) -> None:
    vetoed = {name: plan.veto for name, plan in sorted(plans.items()) if plan.veto}
    if vetoed:
        told = "\n".join(f"{name}: {text}" for name, text in vetoed.items())
        raise PreflightVeto(
            "preflight-veto",
            f"{len(vetoed)} of {len(plans)} hosts cannot take the release; nothing was changed\n"
            f"{told}",
            context=", ".join(vetoed),
            hint="put that right there, then: ./aibox install --inventory FILE --bundle BUNDLE",
            fault=Fault.HOST,
        )


@dataclass
class _Copied:
    """A bundle on its way to the hosts, and what they are told about it."""

    place: Workplace
    lanes: Lanes
    received: Received
    wish: Wish
    site: Site
    release: Release

    @property
    def folder(self) -> str:
        """Where it lies on every host."""
        return f"{self.lanes.root}/incoming/{self.received.media.bundle[:16]}"

    def program(self, _name: str) -> list[str]:
        """What starts its command line there."""
        return ["env", f"AIBOX_HOME={self.lanes.root}", "sh", f"{self.folder}/aibox", "member"]

    def send(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Files by host, named as in the bundle; only what is not there whole yet is sent."""
        shares = {
            name: Share(self.received.media, names) for name, names in wanted.items() if names
        }
        to_hosts(self.lanes, shares, self.folder)

    def order(self, step: Step, action: Action) -> Callable[[str], Order]:
        """The order of one step for each host, by its name."""
        terms = self.wish.terms
        head = self.received.media.head
        roots = sorted(version for path in head if (version := root_version(path)))

        def of(name: str) -> Order:
            return Order(
                step=step,
                action=action,
                profile=self.release.profile,
                bundle=self.folder,
                root=f"{self.folder}/{ROOTS}/{roots[0]}.root.json" if roots else "",
                site=placing.of_host(self.site, name),
                manifest=self.received.media.bundle,
                allow_unsigned=terms.allow_unsigned,
                allow_downgrade=terms.allow_downgrade,
                allow_expired=terms.allow_expired,
            )

        return of


@dataclass
class _Crew:
    """The sessions of all hosts."""

    place: Workplace
    site: Site
    lanes: Lanes
    _sessions: dict[str, Session] = field(default_factory=dict)
    _program: Callable[[str], list[str]] = lambda _name: []

    @contextmanager
    def session(self, name: str, program: Callable[[str], list[str]]) -> Iterator[Session]:
        """A session with one host for the block."""
        session = self.lanes.session(name, program(name))
        try:
            yield session
        finally:
            session.close()

    @contextmanager
    def sessions(self, program: Callable[[str], list[str]]) -> Iterator[None]:
        """One with each host for the block; on leaving, hosts undo what is not committed."""
        self._program = program
        try:
            for name in sorted(self.site.hosts):
                self._sessions[name] = self.lanes.session(name, program(name))
            yield
        finally:
            self.lanes.each(lambda name: self._sessions[name].close(), sorted(self._sessions))

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

        return self.lanes.each(one, names)

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

        self.lanes.each(one)

    def _reboot(self, name: str, why: AiboxError) -> None:
        say = self.lanes.teller(name)
        say(f"reboots: {why.context}")
        before = self._sessions[name].ask(Order(step=Step.REBOOT))["boot"]
        self._sessions[name].close()
        self.lanes.await_reboot(name)
        session = self._sessions[name] = self.lanes.session(name, self._program(name))
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
            for names in placing.stages(self.site):
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

        return self.lanes.each(one, names)

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
