"""Commands about a box of several hosts: those with an inventory that names them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer

from aibox import placement
from aibox import plan as plans
from aibox.cli import media, show
from aibox.cli.workplace import workplace
from aibox.errors import BadUsage, Failed, Fault
from aibox.hosts import coordination
from aibox.hosts.coordination import Changed
from aibox.orders import Planned
from aibox.prepare import Wish
from aibox.profile import Runtime
from aibox.record import Action
from aibox.site import Site

site_with_hosts = coordination.site_with_hosts
_SHOWN = 6


def install(wish: Wish, action: Action, *, yes: bool, first_is_fine: bool, as_json: bool) -> None:
    """Install or upgrade all hosts of the wish's inventory."""
    with show.progress() as report:
        place = workplace(report)
        done = media.trusting_if_asked(
            place,
            wish,
            lambda: coordination.install(place, wish, action, _confirmation(yes, first_is_fine)),
        )
    _tell(done, as_json)


def plan(wish: Wish, as_json: bool) -> None:
    """What an installation would do on each host."""
    found = _planned(wish)
    if as_json:
        show.data({name: planned.model_dump(mode="json") for name, planned in found.items()})
        return
    for name, planned in found.items():
        for line in _plan_lines(planned):
            show.text(f"{name}: {line}")


def preflight(wish: Wish, as_json: bool) -> None:
    """Judge every host; exit code 3 when one cannot take the release."""
    found = _planned(wish)
    rows = [
        {"host": name, **finding.model_dump(mode="json")}
        for name, planned in found.items()
        for finding in planned.findings
    ]
    if as_json:
        show.data(rows)
    else:
        show.table(rows, ("host", "status", "check", "found", "expected"))
    refusal = coordination.refusal(found)
    if refusal is not None:
        show.end_with(refusal)


def _planned(wish: Wish) -> dict[str, Planned]:
    with show.progress() as report:
        place = workplace(report)
        return media.trusting_if_asked(place, wish, lambda: coordination.plan(place, wish))


def rollback(site: Site, as_json: bool) -> None:
    """All hosts serve again what they served before."""
    with show.progress() as report:
        done = coordination.rollback(workplace(report), site)
    _tell(done, as_json)


def status(site: Site, as_json: bool) -> None:
    """What each host runs; exit code 1 when one cannot be asked."""
    with show.progress() as report:
        found = coordination.status(workplace(report), site)
    silent = [name for name, facts in found.items() if "error" in facts]
    if as_json:
        show.data(_as_one(found))
    else:
        for name, facts in found.items():
            _show(name, facts)
    if silent:
        show.end_with(_unanswered(silent))


def uninstall(site: Site, purge: bool, as_json: bool) -> None:
    """Remove the box from all hosts."""
    with show.progress() as report:
        coordination.uninstall(workplace(report), site, purge)
    if as_json:
        show.data({"state": "not-installed", "purged": purge, "hosts": sorted(site.hosts)})
    else:
        kept = "" if purge else "; documents, history and trust were kept"
        show.note(f"removed from {', '.join(sorted(site.hosts))}{kept}")


def refuse_generation() -> NoReturn:
    """Generations are counted by each host on its own."""
    raise BadUsage(
        "generations-differ",
        "hosts count their generations each on its own, so --to names none of them",
        hint="go back to what all of them served before: ./aibox rollback --inventory FILE",
        fault=Fault.YOU,
    )


def require_hosts(inventory: Path | None) -> Site | None:
    """The site of an inventory that was named; it must be about several hosts."""
    found = site_with_hosts(inventory)
    if inventory is not None and found is None:
        raise BadUsage(
            "inventory-without-hosts",
            "this command needs an inventory only for a box of several hosts",
            context=f"{inventory} has no [hosts]",
            hint="leave it out: ./aibox status",
            fault=Fault.YOU,
        )
    return found


def _confirmation(yes: bool, first_is_fine: bool) -> Callable[[Mapping[str, Planned]], None]:
    def confirm(found: Mapping[str, Planned]) -> None:
        for name, planned in sorted(found.items()):
            for line in _plan_lines(planned):
                show.note(f"{name}: {line}")
        first = first_is_fine and all(planned.first for planned in found.values())
        asked = not (yes or first) and sys.stdin.isatty()
        if asked and not typer.confirm("go on?", err=True):
            raise Failed(
                "declined",
                "stopped before anything was changed",
                hint="see how each host stands: ./aibox status --inventory FILE",
                fault=Fault.YOU,
            )

    return confirm


def _plan_lines(planned: Planned) -> list[str]:
    if planned.whole:
        return [f"runs release {planned.release[:12]} already"]
    size = sum(planned.lacking.values()) / 1e6
    lines = [
        f"plan {planned.digest[:12]} for release {planned.release[:12]}; {size:.1f} MB to copy",
        *(f"  {step}" for step in planned.steps),
        *(f"  {line}" for line in planned.differences[:_SHOWN]),
    ]
    if len(planned.differences) > _SHOWN:
        lines.append(f"  and {len(planned.differences) - _SHOWN} more differences")
    return lines


def _tell(done: Changed, as_json: bool) -> None:
    url = plans.address(placement.of_gateway(done.site), Runtime.CONTAINER)
    if as_json:
        hosts = dict(sorted(done.generations.items()))
        show.data({"release": done.release, "hosts": hosts, "url": url})
        return
    counted = ", ".join(f"{name} {number}" for name, number in sorted(done.generations.items()))
    show.note(f"release {done.release[:12]} serves; generations: {counted}")
    show.text(f"Open:  {url}")


def _as_one(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The `status` contract for all hosts together, and each host's own under `hosts`."""
    known = [facts for facts in found.values() if "error" not in facts]
    states = {facts["state"] for facts in found.values()}
    releases = {facts["release"] for facts in known}
    gates = [facts["last_gate"] for facts in known if facts["last_gate"]]
    return {
        "release": releases.pop() if len(releases) == 1 else "",
        "generation": None,
        "profile": next((facts["profile"] for facts in known if facts["profile"]), ""),
        "state": states.pop() if len(states) == 1 else "degraded",
        "services": [
            {**service, "host": name}
            for name, facts in found.items()
            for service in facts.get("services", ())
        ],
        "last_gate": max(gates, key=lambda gate: len(gate["results"]), default=None),
        "hosts": found,
    }


def _show(name: str, facts: Mapping[str, Any]) -> None:
    if "error" in facts:
        show.text(f"{name}: {facts['error']['message']}")
        return
    generation = f", generation {facts['generation']}" if facts["generation"] is not None else ""
    show.text(f"{name}: {facts['state']}{generation}, release {facts['release'][:12] or '(none)'}")
    for service in facts["services"]:
        show.text(f"  {service['name']:<10} {service['state']}")


def _unanswered(names: list[str]) -> Failed:
    return Failed(
        "hosts-silent",
        f"{', '.join(names)} cannot be asked",
        hint="see whether they run, then again: ./aibox status --inventory FILE",
        fault=Fault.HOST,
    )
