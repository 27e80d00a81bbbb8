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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aibox import placement, prerequisites, receiving, trusting
from aibox import preflight as judging
from aibox.box import guard
from aibox.box.trust_store import TrustStore
from aibox.bundle.layout import BLOBS, ROOTS, root_version
from aibox.errors import AiboxError, BadUsage, Fault, PreflightVeto
from aibox.hosts.connections import Connections
from aibox.hosts.sessions import Sessions
from aibox.hosts.transfer import Share, of_plan, to_hosts
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
    with _planned(place, wish, site, action) as (copied, hosts, plans):
        vetoed = refusal(plans)
        if vetoed is not None:
            raise vetoed
        confirm(plans)
        copied.send(
            {name: [f"{BLOBS}/{one}" for one in plan.lacking] for name, plan in plans.items()}
        )
        hosts.stage(copied.order(Step.STAGE, action))
        hosts.share(prerequisites.shared(copied.release, site))
        generations = hosts.activate()
        made, verified = copied.release, copied.received.verified
    # Only now: this host may be one of them, and its lock was held.
    if verified is not None:
        with guard.hold(place.root):
            trusting.accept(TrustStore(place.root), verified)
    return Changed(made.id, generations, site)


def plan(place: Workplace, wish: Wish) -> dict[str, Planned]:
    """What an installation would do on each host, and what preflight finds there.

    Copies the program and what a plan is made of to every host, and changes nothing else.
    """
    site = site_of(wish, None)
    with _planned(place, wish, site, Action.INSTALL) as (_, _, plans):
        return plans


@contextmanager
def _planned(
    place: Workplace, wish: Wish, site: Site, action: Action
) -> Iterator[tuple[_Copied, Sessions, dict[str, Planned]]]:
    """Everything up to the plans, with every host held for the block."""
    _require_bundle(wish)
    with ExitStack() as closing:
        received = closing.enter_context(
            receiving.receive(TrustStore(place.root), wish.bundle, wish.terms, place.report)
        )
        made = _release(received, wish.profile, received.description.architectures[0])
        placement.require_placed(made, site)
        connections = closing.enter_context(Connections.open(place, site))
        for architecture in sorted({connections.architecture(name) for name in site.hosts}):
            _release(received, made.profile, architecture)
        copied = _Copied(place, connections, received, wish, site, made)
        copied.send(
            {name: of_plan(received, made, connections.architecture(name)) for name in site.hosts}
        )
        hosts = Sessions(site, connections)
        closing.enter_context(hosts.opened(copied.program))
        hosts.hold()
        yield copied, hosts, hosts.plans(copied.order(Step.PLAN, action))


def rollback(place: Workplace, site: Site) -> Changed:
    """Every host serves again what all of them served before. Nothing is copied."""
    with Connections.open(place, site) as connections:
        hosts = Sessions(site, connections)
        with hosts.opened(connections.installed_program):
            hosts.hold()
            release = hosts.aim("asked for")
            return Changed(release, hosts.activate(), site)


def status(place: Workplace, site: Site) -> dict[str, dict[str, Any]]:
    """What each host says of itself; one that cannot be asked says why."""
    with Connections.open(place, site, tolerant=True) as connections:
        hosts = Sessions(site, connections)

        def ask(name: str) -> dict[str, Any]:
            try:
                connections.require(name)
                with hosts.session(name, connections.installed_program) as session:
                    return session.ask(Order(step=Step.STATUS))
            except AiboxError as error:
                return {"state": "unknown", "error": error.as_json()}

        return connections.each(ask)


def uninstall(place: Workplace, site: Site, purge: bool) -> None:
    """Remove the box from every host."""
    with Connections.open(place, site) as connections:
        hosts = Sessions(site, connections)
        with hosts.opened(connections.installed_program):
            hosts.ask(Order(step=Step.UNINSTALL, purge=purge))


def _require_bundle(wish: Wish) -> None:
    if not wish.bundle or wish.terms.weights:
        what = "weights of one's own are" if wish.bundle else "a checkout is"
        raise BadUsage(
            "hosts-need-bundle",
            f"{what} for one host; several are installed from a bundle that holds everything",
            hint="name it: ./aibox install --inventory FILE --bundle BUNDLE",
            fault=Fault.YOU,
        )


def _release(received: Received, profile: str | None, architecture: str) -> Release:
    made = receiving.release_of(received, profile, architecture)
    if made.runtime.value != "container":
        raise BadUsage(
            "hosts-need-containers",
            f"the profile {made.profile} is for one user on one host",
            hint="choose one for servers: ./aibox profiles",
            fault=Fault.YOU,
        )
    return made


def refusal(plans: Mapping[str, Planned]) -> PreflightVeto | None:
    """The error that names every host with a veto, or None when all can take the release."""
    refusals = {
        name: judging.veto(plan.findings, profile=plan.profile)
        for name, plan in sorted(plans.items())
    }
    vetoed = {name: refusal.message for name, refusal in refusals.items() if refusal}
    if not vetoed:
        return None
    told = "\n".join(f"{name}: {text}" for name, text in vetoed.items())
    return PreflightVeto(
        "preflight-veto",
        f"{len(vetoed)} of {len(plans)} hosts cannot take the release; nothing was changed\n{told}",
        context=", ".join(vetoed),
        hint="put that right there, then: ./aibox install --inventory FILE --bundle BUNDLE",
        fault=Fault.HOST,
    )


@dataclass
class _Copied:
    """A bundle on its way to the hosts, and what they are told about it."""

    place: Workplace
    connections: Connections
    received: Received
    wish: Wish
    site: Site
    release: Release

    @property
    def folder(self) -> str:
        """Where it lies on every host."""
        return f"{self.connections.root}/incoming/{self.received.media.bundle[:16]}"

    def program(self, _name: str) -> list[str]:
        """What starts its command line there."""
        return [
            "env",
            f"AIBOX_HOME={self.connections.root}",
            "sh",
            f"{self.folder}/aibox",
            "member",
        ]

    def send(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Files by host, named as in the bundle; only what is not there whole yet is sent."""
        shares = {
            name: Share(self.received.media, names) for name, names in wanted.items() if names
        }
        to_hosts(self.connections, shares, self.folder)

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
                site=placement.of_host(self.site, name),
                manifest=self.received.media.bundle,
                allow_unsigned=terms.allow_unsigned,
                allow_downgrade=terms.allow_downgrade,
                allow_expired=terms.allow_expired,
            )

        return of
