"""`aibox install | upgrade | rollback | recover | uninstall`: the commands that change a box."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aibox import pipeline
from aibox import plan as plans
from aibox.box.transaction import Outcome
from aibox.cli import choice, media, several, show
from aibox.cli.options import (
    AllowDowngrade,
    AllowExpired,
    AllowUnsigned,
    AsJson,
    Bundle,
    EngineKeyFile,
    EngineModel,
    EngineUrl,
    HostsInventory,
    Inventory,
    Lockfile,
    Port,
    ProfileName,
    Root,
    Weights,
    Yes,
)
from aibox.cli.workplace import box_root, workplace
from aibox.errors import BadUsage, Failed, Fault
from aibox.pipeline import Installed
from aibox.plan import Plan
from aibox.prepare import Wish, Workplace
from aibox.profile import Runtime
from aibox.record import Action

_QUESTION = "How do I roll back a failed upgrade?"


def install(
    profile: ProfileName = None,
    lockfile: Lockfile = None,
    inventory: Inventory = None,
    port: Port = None,
    engine_url: EngineUrl = None,
    engine_model: EngineModel = None,
    engine_key_file: EngineKeyFile = None,
    bundle: Bundle = None,
    root: Root = None,
    weights: Weights = None,
    allow_unsigned: AllowUnsigned = False,
    allow_downgrade: AllowDowngrade = False,
    allow_expired: AllowExpired = False,
    yes: Yes = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on after a reboot; the server does so by itself."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Install a box, or bring it to what the options say. Safe to run again."""
    if resume:
        with show.progress() as report:
            outcome = pipeline.resume(workplace(report))
        _tell_outcome(outcome, as_json)
        return
    wish = Wish(profile, lockfile, inventory, port, engine_url, engine_model, engine_key_file)
    terms = media.terms_of(
        root, weights, unsigned=allow_unsigned, downgrade=allow_downgrade, expired=allow_expired
    )
    wish = media.wish_of(wish, bundle, terms)
    if several.site_with_hosts(inventory):
        several.install(wish, Action.INSTALL, yes=yes, first_is_fine=True, as_json=as_json)
        return
    confirm = _confirmation(yes, True)
    done = choice.proposing(wish, lambda it: _run(it, Action.INSTALL, confirm), yes=yes)
    _tell(done, as_json)


def upgrade(
    lockfile: Lockfile = None,
    inventory: Inventory = None,
    bundle: Bundle = None,
    root: Root = None,
    weights: Weights = None,
    allow_unsigned: AllowUnsigned = False,
    allow_downgrade: AllowDowngrade = False,
    allow_expired: AllowExpired = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Move the box to the release of a bundle or of models.lock; undone if its gate fails."""
    wish = Wish(lockfile=lockfile, inventory=inventory)
    terms = media.terms_of(
        root, weights, unsigned=allow_unsigned, downgrade=allow_downgrade, expired=allow_expired
    )
    wish = media.wish_of(wish, bundle, terms)
    if several.site_with_hosts(inventory):
        several.install(wish, Action.UPGRADE, yes=yes, first_is_fine=False, as_json=as_json)
        return
    _tell(_run(wish, Action.UPGRADE, _confirmation(yes, False)), as_json)


def _run(wish: Wish, action: Action, confirm: pipeline.Confirm) -> Installed:
    with show.progress() as report:
        place = workplace(report, wish.profile)
        if action is Action.UPGRADE:
            pipeline.require_box(place)
            _require_aim(place, wish)
        return media.trusting_if_asked(
            place, wish, lambda: pipeline.install(place, wish, action, confirm)
        )


def rollback(
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Generation; default: the one before.")
    ] = None,
    inventory: HostsInventory = None,
    as_json: AsJson = False,
) -> None:
    """Serve an earlier generation again. Nothing is copied."""
    if site := several.require_hosts(inventory):
        if to is not None:
            several.refuse_generation()
        several.rollback(site, as_json)
        return
    with show.progress() as report:
        outcome = pipeline.rollback(workplace(report), to)
    _tell_outcome(outcome, as_json)


def _tell_outcome(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        show.data({"generation": outcome.serving, "outcome": outcome.result.value})
    else:
        show.note(f"generation {outcome.serving} serves; the facts are in: ./aibox history")


def recover(as_json: AsJson = False) -> None:
    """Finish or undo what an interrupted command left behind."""
    with show.progress() as report:
        steps = [done.step.value for done in pipeline.recover(workplace(report))]
    if as_json:
        show.data({"steps": steps})
    else:
        show.note("recovered: " + ", ".join(steps) if steps else "nothing to recover")


def uninstall(
    purge: Annotated[
        bool, typer.Option("--purge", help="Also documents, history and trust.")
    ] = False,
    yes: Yes = False,
    inventory: HostsInventory = None,
    as_json: AsJson = False,
) -> None:
    """Stop and remove the box; documents, history and trust stay unless --purge."""
    site = several.require_hosts(inventory)
    if purge and not yes and sys.stdin.isatty():
        where = f"on {', '.join(sorted(site.hosts))}" if site else f"in {box_root()}"
        typed = typer.prompt(f"this removes every document {where}; type 'purge'", err=True)
        if typed != "purge":
            raise _declined("./aibox uninstall")
    if site:
        several.uninstall(site, purge, as_json)
        return
    with show.progress() as report:
        pipeline.uninstall(workplace(report), purge)
    if as_json:
        show.data({"state": "not-installed", "purged": purge})
    else:
        show.note("removed" if purge else "removed; documents, history and trust were kept")


def _confirmation(yes: bool, first_is_fine: bool) -> pipeline.Confirm:
    """Show the plan; ask only a person at a terminal, and never for a first install."""

    def confirm(plan: Plan, first: bool) -> None:
        for line in plan_lines(plan):
            show.note(line)
        asked = not (yes or (first and first_is_fine)) and sys.stdin.isatty()
        if asked and not typer.confirm("go on?", err=True):
            raise _declined("./aibox plan")

    return confirm


def plan_lines(plan: Plan) -> list[str]:
    """The plan as people read it."""
    lines = [f"plan {plan.digest[:12]} for release {plan.release[:12]}, profile {plan.profile}"]
    lines += [f"  {step}" for step in plan.steps]
    shown = plan.differences[:12]
    lines += [f"  {item.name}: {item.current} -> {item.desired}" for item in shown]
    if len(plan.differences) > len(shown):
        lines.append(f"  and {len(plan.differences) - len(shown)} more; all of them: ./aibox plan")
    return lines


def _declined(command: str) -> Failed:
    return Failed(
        "declined",
        "stopped before anything was changed",
        hint=f"look again with: {command}",
        fault=Fault.YOU,
    )


def _require_aim(place: Workplace, wish: Wish) -> None:
    """A box without a checkout has nothing newer than what it runs."""
    named = wish.bundle or wish.lockfile or wish.inventory
    if place.content.program is not None and not named:
        raise BadUsage(
            "upgrade-to-what",
            "this box came from a bundle, so there is no newer release in it",
            hint="name the bundle to move to: ./aibox upgrade --bundle BUNDLE",
            fault=Fault.YOU,
        )


def _tell(done: Installed, as_json: bool) -> None:
    url = plans.address(done.plan.site, Runtime(done.plan.runtime))
    if as_json:
        show.data(
            {
                "generation": done.generation,
                "release": done.plan.release,
                "profile": done.plan.profile,
                "changed": done.outcome is not None,
                "url": url,
            }
        )
        return
    state = "is installed" if done.outcome else "was already installed"
    show.note(f"generation {done.generation} {state}: release {done.plan.release[:12]}")
    show.text(f"Open:  {url}")
    show.text(f'Ask:   ./aibox ask "{_QUESTION}"')


COMMANDS = {
    "install": install,
    "upgrade": upgrade,
    "rollback": rollback,
    "recover": recover,
    "uninstall": uninstall,
}
