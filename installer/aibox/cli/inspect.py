"""`aibox preflight | plan | status | health | history | doctor`: looking, never changing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from aibox import pipeline
from aibox import preflight as judging
from aibox.cli import choice, media, show
from aibox.cli.install import plan_lines
from aibox.cli.options import (
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
)
from aibox.cli.workplace import workplace
from aibox.errors import Failed, Fault
from aibox.measuring.basis import CHAT
from aibox.preflight import Finding
from aibox.prepare import Wish, site_of
from aibox.receiving import Terms
from aibox.record import Provenance


def preflight(
    profile: ProfileName = None,
    lockfile: Lockfile = None,
    inventory: Inventory = None,
    port: Port = None,
    bundle: Bundle = None,
    root: Root = None,
    weights: Weights = None,
    allow_unsigned: AllowUnsigned = False,
    as_json: AsJson = False,
) -> None:
    """Judge this host for a profile; exit code 3 when it cannot take the release."""
    wish = media.wish_of(
        Wish(profile, lockfile, inventory, port), bundle, _looking(root, weights, allow_unsigned)
    )
    if _several(inventory):
        from aibox.cli import several

        several.preflight(wish, as_json)
        return
    findings = choice.proposing(wish, _judged)
    rows = [finding.model_dump(mode="json") for finding in findings]
    if as_json:
        show.data(rows)
    else:
        show.table(rows, ("status", "check", "found", "expected"))
    refusal = judging.veto(findings, profile=profile or "local")
    if refusal is not None:
        show.end_with(refusal)


def _several(inventory: Path | None) -> bool:
    """Whether it is about several hosts; looking at one does not wait for what changes others."""
    return inventory is not None and bool(site_of(Wish(inventory=inventory), None).hosts)


def _judged(wish: Wish) -> tuple[Finding, ...]:
    with show.progress() as report:
        return pipeline.preflight(workplace(report, wish.profile), wish)


def _looking(root: list[Path] | None, weights: list[Path] | None, unsigned: bool) -> Terms:
    return media.terms_of(root, weights, unsigned=unsigned, downgrade=True, expired=True)


def plan(
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
    as_json: AsJson = False,
) -> None:
    """Show what an install would do, and what it would change; does nothing."""
    wish = media.wish_of(
        Wish(profile, lockfile, inventory, port, engine_url, engine_model, engine_key_file),
        bundle,
        _looking(root, weights, allow_unsigned),
    )
    if _several(inventory):
        from aibox.cli import several

        several.plan(wish, as_json)
        return
    with show.progress() as report:
        made = pipeline.plan(workplace(report, profile), wish)
    if as_json:
        show.data({**made.model_dump(mode="json"), "digest": made.digest, "bytes": made.size})
        return
    for line in plan_lines(made):
        show.text(line)
    show.text(f"  {len(made.tree)} files, {made.size / 1048576:.1f} MiB")


def status(inventory: HostsInventory = None, as_json: AsJson = False) -> None:
    """What runs, what differs from models.lock, and what the last gate said."""
    if inventory is not None:
        # Only then: looking at this box does not wait for what changes others.
        from aibox.cli import several

        if site := several.require_hosts(inventory):
            several.status(site, as_json)
            return
    with show.progress() as report:
        found = pipeline.status(workplace(report))
    if as_json:
        show.data(found.model_dump(mode="json"))
        return
    show.text(f"state       {found.state.value}")
    if found.generation is not None:
        show.text(f"generation  {found.generation}, release {found.release[:12]}")
        show.text(f"profile     {found.profile}, engine {found.engine}, {found.url}")
    if found.last_gate:
        passed = [case["passed"] for case in found.last_gate["results"]]
        word = "passed" if found.last_gate["passed"] else "failed"
        number = found.last_gate["generation"]
        show.text(
            f"last gate   {word}: {sum(passed)} of {len(passed)} questions, generation {number}"
        )
        if told := found.last_gate.get("throughput"):
            show.text(f"            {told}")
    for line in _calibrations(found.calibrations):
        show.text(line)
    for one in found.stalls:
        show.text(f"stalled     {one.service}: {one.times} times in 24 hours, last at {one.last}")
    for item in found.differences:
        show.text(f"models.lock {item.name}: {item.current} -> {item.desired}")
    rows = [service.model_dump() for service in found.services]
    show.table(
        [{**row, "uptime": f"{row['uptime_s']:.0f} s"} for row in rows],
        ("name", "state", "pid", "uptime", "restarts"),
    )


def _calibrations(found: Mapping[str, str]) -> Iterator[str]:
    """A line for each engine; that which people wait for goes without its name."""
    for number, (service, told) in enumerate(found.items()):
        label = "" if number else "calibration"
        yield f"{label:<11} {'' if service == CHAT else f'{service}: '}{told}"


def health(as_json: AsJson = False) -> None:
    """Ask the golden questions now; exit code 1 when the box does not answer as it must."""
    with show.progress() as report:
        verdict = pipeline.check_health(workplace(report))
    if as_json:
        show.data(verdict.model_dump(mode="json"))
    else:
        show.table([case.model_dump() for case in verdict.results], ("id", "passed", "reason"))
    if not verdict.passed:
        show.end_with(
            Failed(
                "unhealthy",
                f"the box does not answer as it must: {verdict.reason}",
                hint="see which service is at fault with: ./aibox status",
                fault=Fault.HOST,
            )
        )


def doctor(as_json: AsJson = False) -> None:
    """One finding per part of host and box, each with its fix; changes nothing."""
    with show.progress() as report:
        findings = pipeline.doctor(workplace(report))
    rows = [finding.model_dump(mode="json") for finding in findings]
    if as_json:
        show.data(rows)
    else:
        fine = judging.Status.OK.value
        shown = [{**row, "fix": "" if row["status"] == fine else row["fix"]} for row in rows]
        show.table(shown, ("status", "check", "found", "fix"))
    bad = [finding for finding in findings if finding.status is judging.Status.VETO]
    if bad:
        show.end_with(
            Failed(
                "doctor-found-faults",
                f"{len(bad)} of {len(findings)} checks failed: {', '.join(f.check for f in bad)}",
                hint=bad[0].fix,
                fault=Fault.HOST,
            )
        )


_HISTORY = ("generation", "release", "action", "outcome", "started", "bundle", "reason")


def _provenance(found: Provenance | None) -> str:
    if found is None:
        return "-"
    return f"{found.sequence} " + ("signed" if found.signed_by else "unsigned")


def history(as_json: AsJson = False) -> None:
    """Everything this box ever did, oldest first."""
    with show.progress() as report:
        found = pipeline.history(workplace(report))
    entries = found.entries
    rows = [
        {
            "generation": entry.generation,
            "release": entry.release,
            "action": entry.action.value,
            "outcome": entry.outcome.value,
            "started": entry.started.isoformat(),
            "finished": entry.finished.isoformat(),
            "reason": entry.reason,
            "plan": entry.plan,
            "gate": entry.gate.model_dump(mode="json") if entry.gate else None,
            "provenance": entry.provenance.model_dump(mode="json") if entry.provenance else None,
        }
        for entry in entries
    ]
    if as_json:
        show.data(rows)
    else:
        short = [
            {
                **row,
                "release": str(row["release"])[:12],
                "started": entry.started.strftime("%Y-%m-%d %H:%M:%S UTC"),
                "bundle": _provenance(entry.provenance),
                "reason": textwrap.shorten(entry.reason, 100, placeholder=" …"),
            }
            for row, entry in zip(rows, entries, strict=True)
        ]
        show.table(short, _HISTORY)
    if found.unreadable_lines:
        show.note(
            "lines of the record that cannot be read and are not shown: "
            f"{found.unreadable_lines}; keep a copy of record.jsonl as evidence"
        )


COMMANDS = {
    "preflight": preflight,
    "plan": plan,
    "status": status,
    "health": health,
    "history": history,
    "doctor": doctor,
}
