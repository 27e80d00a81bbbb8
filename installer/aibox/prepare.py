"""Verify and plan: from what the user wished to a plan that can be shown, with nothing changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aibox import lock, profile, release
from aibox import plan as plans
from aibox import site as sites
from aibox.box import host
from aibox.box.store import Store
from aibox.bundle import source
from aibox.content import Content
from aibox.errors import BadUsage, Fault
from aibox.plan import Current, Plan, Target
from aibox.progress import Progress, Report
from aibox.release import Release
from aibox.render import render, render_unit
from aibox.site import Engine, Server, Site
from aibox.stage import Material


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every command works with: the box root, the project's files, and who is told."""

    root: Path
    content: Content
    report: Report

    def say(self, step: str, message: str) -> None:
        """Report one line of progress."""
        self.report(Progress(step, message))


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for; None stands for "as the box has it now, or the default"."""

    profile: str | None = None
    lockfile: Path | None = None
    inventory: Path | None = None
    port: int | None = None
    engine_url: str | None = None
    engine_model: str | None = None
    engine_key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A verified release with its plan and everything needed to stage it."""

    material: Material
    unit: bytes

    @property
    def plan(self) -> Plan:
        """The plan that is shown and run."""
        return self.material.plan


def prepare(place: Workplace, wish: Wish) -> Prepared:
    """Verify the release's files and make the plan; changes nothing."""
    store = Store(place.root)
    now = current(store)
    lockfile = (wish.lockfile or place.content.lockfile).absolute()
    name = wish.profile or (now.release.profile if now else None)
    if name is None:
        raise BadUsage(
            "profile-missing",
            "there is no box yet, so say which profile it shall have",
            hint="for a laptop or VM: ./aibox install --profile local",
            fault=Fault.YOU,
        )
    made = release.make(lock.load(lockfile), profile.load(place.content.profiles, name))
    site = _site(wish, now)
    place.say("verify", f"{len(made.artifacts)} files against {lockfile.name}")
    files = source.Checkout((lockfile.parent, place.content.root)).check(made)
    return _prepared(place, made, site, files, now)


def _prepared(
    place: Workplace, made: Release, site: Site, files: Mapping[str, Path], now: Current | None
) -> Prepared:
    target = Target(python=host.python_tag(), tags=tuple(map(str, host.wheel_tags())))
    wheels = plans.select_wheels(made.wheels, target)
    environment = plans.environment_id([item.sha256 for item in wheels], target.python)
    templates = source.templates(made, files)
    rendered = render(made, site, environment, templates)
    launcher = str(place.content.root / "aibox")
    return Prepared(
        Material(
            release=made,
            plan=plans.make(made, site, target, rendered, wheels, now),
            rendered=rendered.files,
            files=files,
        ),
        render_unit(templates, str(place.root), launcher),
    )


def _site(wish: Wish, now: Current | None) -> Site:
    if wish.inventory is not None:
        base = sites.load(wish.inventory)
    else:
        base = Site.model_validate(now.plan["site"]) if now else Site()
    changes: dict[str, object] = {}
    if wish.port is not None:
        changes["server"] = Server(port=wish.port)
    if wish.engine_url is not None:
        changes["engine"] = _engine(wish)
    elif wish.engine_model is not None or wish.engine_key_file is not None:
        raise BadUsage(
            "engine-url-missing",
            "--engine-model and --engine-key-file need --engine-url",
            hint="for example: ./aibox install --engine-url http://127.0.0.1:11434/v1 "
            "--engine-model NAME",
            fault=Fault.YOU,
        )
    return base.model_copy(update=changes)


def _engine(wish: Wish) -> Engine:
    if wish.engine_url == "none":
        return Engine()
    key = str(wish.engine_key_file.absolute()) if wish.engine_key_file else ""
    problem = sites.check_secret_file(Path(key)) if key else ""
    if problem or not wish.engine_model:
        raise BadUsage(
            "engine-incomplete",
            problem or "an engine URL needs the model's name at that endpoint",
            hint="for example: ./aibox install --engine-url URL --engine-model NAME",
            fault=Fault.YOU,
        )
    return sites.make_engine(wish.engine_url or "", wish.engine_model, key)


def current(store: Store) -> Current | None:
    """What the box runs now, read back from its own generation; None without one."""
    number = store.current()
    if number is None:
        return None
    return Current(
        generation=number,
        release=release.parse(store.manifest(number)),
        plan=json.loads(store.file(number, "plan.json")),
    )


def require_current(store: Store) -> Current:
    """Like `current`, for commands that need a box."""
    found = current(store)
    if found is None:
        raise BadUsage(
            "no-box",
            "nothing is installed here",
            context=str(store.layout.root),
            hint="install a box with: ./aibox install --profile local",
            fault=Fault.YOU,
        )
    return found


def port_of(now: Current) -> int:
    """Where the box listens."""
    return Site.model_validate(now.plan["site"]).server.port
