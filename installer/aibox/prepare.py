"""Verify and plan: from what the user wished to a plan that can be shown, with nothing changed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aibox import digest, lock, profile, receiving, release, stage
from aibox import plan as plans
from aibox import site as sites
from aibox.box import gpus, host, program_link
from aibox.box.store import Store
from aibox.box.trust_store import TrustStore
from aibox.bundle import source
from aibox.bundle.layout import MANIFEST
from aibox.bundle.source import Opener
from aibox.content import Content
from aibox.errors import AiboxError, BadUsage, Failed, Fault, NeedsPerson
from aibox.fit import loadable
from aibox.lock import Role
from aibox.objects import Placed
from aibox.plan import Current, Plan, Target
from aibox.profile import Runtime
from aibox.profile_choice import Candidate, ProfileMissing, Proposal, propose
from aibox.progress import Progress, Report
from aibox.receiving import Received, Terms
from aibox.record import Provenance
from aibox.release import Artifact, Release
from aibox.render import render, render_unit
from aibox.site import Engine, Server, Site
from aibox.stage import Material

_MOST_OF_A_CERTIFICATE = 1 << 20
"""Bytes; more than any has with its chain."""


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
    """What the user asked for; None stands for "as the box has it now, or the default".

    `bundle` names the media of a bundle: without any, the release comes from the checkout. `site`
    is what one of several hosts was told by whoever coordinates them, in place of an inventory.
    """

    profile: str | None = None
    lockfile: Path | None = None
    inventory: Path | None = None
    port: int | None = None
    engine_url: str | None = None
    engine_model: str | None = None
    engine_key_file: Path | None = None
    bundle: tuple[Path, ...] = ()
    terms: Terms = field(default_factory=Terms)
    site: Site | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A verified release with its plan and everything needed to stage it.

    `received` is the open bundle that it comes from, None for a checkout.
    """

    material: Material
    unit: bytes
    received: Received | None = None

    @property
    def for_server(self) -> bool:
        """Whether the box is one of containers, which belongs to its host."""
        return self.material.release.runtime is Runtime.CONTAINER

    @property
    def released(self) -> str:
        """The day of the bundle's lock (YYYY-MM-DD), before which no clock is right, or ""."""
        return self.received.description.created.isoformat() if self.received else ""

    @property
    def plan(self) -> Plan:
        """The plan that is shown and run."""
        return self.material.plan


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a release and its bytes come from."""

    release: Release
    openers: Mapping[str, Opener]
    derived: tuple[Placed, ...] = ()
    provenance: Provenance | None = None
    received: Received | None = None


@contextmanager
def prepare(place: Workplace, wish: Wish) -> Iterator[Prepared]:
    """Verify the release's files and make the plan; changes nothing.

    A bundle's media stay open for the block.
    """
    store = Store(place.root)
    now = current(store)
    site = site_of(wish, now)
    with _origin(place, wish, now) as origin:
        loadable.refuse_release(place.content.catalogue, origin.release)
        with receiving.explaining(origin.received) if origin.received else nullcontext():
            prepared = _prepared(place, store, origin, site, now)
        if _is_whole(origin.received, wish.terms):
            lacking = stage.missing(store, prepared.material)
            stage.refuse_missing(prepared.material, lacking)
        yield prepared


def _is_whole(received: Received | None, terms: Terms) -> bool:
    """Whether what is not on the media will not come either."""
    return received is not None and not received.media.missing_volumes and not terms.partial


@contextmanager
def _origin(place: Workplace, wish: Wish, now: Current | None) -> Iterator[_Origin]:
    name = wish.profile or (now.release.profile if now else None)
    if wish.bundle and wish.lockfile:
        raise BadUsage(
            "bundle-and-lockfile",
            "a release comes from a bundle or from a lock file, not from both",
            hint="name one of them: ./aibox install --bundle BUNDLE",
            fault=Fault.YOU,
        )
    if not wish.bundle:
        yield _checkout(place, wish, name)
        return
    trust = TrustStore(place.root)
    with receiving.receive(trust, wish.bundle, wish.terms, place.report) as received:
        machine = host.architecture()
        made = receiving.release_of(received, name, machine)
        place.say("verify", f"release {made.id[:12]} of {', '.join(map(str, wish.bundle))}")
        yield _Origin(
            made,
            received.carried,
            receiving.derived(received, machine),
            received.provenance,
            received,
        )


def _checkout(place: Workplace, wish: Wish, name: str | None) -> _Origin:
    lockfile = (wish.lockfile or place.content.lockfile).absolute()
    if name is None:
        _refuse_lost(Store(place.root))
        raise ProfileMissing(_proposal(place.content))
    made = release.make(lock.load(lockfile), profile.load(place.content.profiles, name))
    release.refuse_unresolved(made)
    place.say("verify", f"{len(made.artifacts)} files against {lockfile.name}")
    return _Origin(made, source.Checkout((lockfile.parent, place.content.root)).openers(made))


def _proposal(content: Content) -> Proposal:
    """What fits this host, of the checkout's profiles."""
    known = (profile.load(content.profiles, name) for name in profile.names(content.profiles))
    return propose(map(Candidate.of, known), gpus.detect())


def _prepared(
    place: Workplace, store: Store, origin: _Origin, site: Site, now: Current | None
) -> Prepared:
    made = origin.release
    _refuse_other_runtime(made, now)
    if made.runtime is Runtime.CONTAINER:
        site = sites.with_name(site, host.name())
    target = Target(
        python=host.python_tag(),
        tags=tuple(map(str, host.wheel_tags())),
        architecture=host.architecture(),
    )
    wheels = plans.select_wheels(made.wheels, target)
    environment = plans.environment_id([item.sha256 for item in wheels], target.python)
    templates = source.templates(made, _template_openers(place, store, origin))
    rendered = render(
        made,
        site,
        environment,
        templates,
        architecture=target.architecture,
        certificate=_digest_of(site.container.certificate_file),
    )
    return Prepared(
        Material(
            release=made,
            plan=plans.make(made, site, target, rendered, wheels, now, origin.derived),
            rendered={**rendered.files, **_manifest(origin.received)},
            openers=origin.openers,
            provenance=origin.provenance,
            volumes_with=_volumes_with(origin.received),
            partly=receiving.partly(origin.received) if origin.received else {},
        ),
        _unit(place, made, templates, launcher(place, origin.received)),
        origin.received,
    )


def _unit(
    place: Workplace, made: Release, templates: Mapping[str, bytes], started_by: Path
) -> bytes:
    """The unit of a box of processes; those of a server are rendered when they are needed."""
    if made.runtime is Runtime.CONTAINER:
        return b""
    return render_unit(templates, str(place.root), str(started_by))


def _digest_of(certificate: str) -> str:
    """Of the site's own certificate; "" without one. Raises `BadUsage`."""
    if not certificate:
        return ""
    try:
        with Path(certificate).open("rb") as file:
            return digest.of_bytes(file.read(_MOST_OF_A_CERTIFICATE))
    except OSError as error:
        raise BadUsage(
            "site-file-unreadable",
            f"the certificate of the site cannot be read: {error.strerror}",
            context=certificate,
            hint=f"check the name in the site file and its mode with: ls -l {certificate}",
            fault=Fault.YOU,
        ) from error


def _refuse_other_runtime(made: Release, now: Current | None) -> None:
    """A box of containers does not become one of processes: nothing of it could be rolled back."""
    if now is None or now.release.runtime is made.runtime:
        return
    raise BadUsage(
        "runtime-differs",
        f"this box runs the profile {now.release.profile} ({now.release.runtime.value}); "
        f"{made.profile} is for another kind of box ({made.runtime.value})",
        hint="give the new box a folder of its own (AIBOX_HOME), or remove this one: "
        "./aibox uninstall",
        fault=Fault.YOU,
    )


def _volumes_with(
    received: Received | None,
) -> Callable[[Mapping[str, int]], tuple[str, ...]] | None:
    if received is None or not received.media.missing_volumes:
        return None
    return partial(receiving.volumes_with, received)


def _template_openers(place: Workplace, store: Store, origin: _Origin) -> dict[str, Opener]:
    """How to read the templates: a delta leaves out those that the store has, and a volume may
    come without them: the program that it started has the same."""
    wanted = origin.release.of_role(Role.TEMPLATES)
    held = {
        item.sha256: source.opener(store.layout.blob(item.sha256))
        for item in wanted
        if store.verify(item.sha256) is None
    }
    openers = {**_templates_of(place.content, wanted), **held, **origin.openers}
    lacking = [item for item in wanted if item.sha256 not in openers]
    if lacking and (volumes_with := _volumes_with(origin.received)) is not None:
        size = sum(item.size for item in lacking)
        volumes = volumes_with({item.sha256: 0 for item in lacking})
        raise stage.volumes_missing(len(lacking), size, volumes, taken=False)
    if lacking:
        raise stage.incomplete(
            [f"tree/{item.target}" for item in lacking],
            sum(item.size for item in lacking),
            profile=origin.release.profile,
            bundled=origin.received is not None,
        )
    return openers


def _templates_of(content: Content, wanted: Iterable[Artifact]) -> dict[str, Opener]:
    """Those templates of the running program that are the wanted ones, byte for byte."""
    paths = {item.sha256: content.root / item.source for item in wanted}
    return {
        sha256: source.opener(path)
        for sha256, path in paths.items()
        if path.is_file() and digest.of_bytes(path.read_bytes()) == sha256
    }


def _manifest(received: Received | None) -> dict[str, bytes]:
    """The signed manifest, kept with the generation for whoever asks where it came from."""
    return {} if received is None else {MANIFEST: received.media.head[MANIFEST]}


def launcher(place: Workplace, received: Received | None) -> Path:
    """What starts the box after a reboot: the program in the box where there is one."""
    if received is not None or place.content.program is not None:
        return program_link.link(place.root)
    return place.content.root / "aibox"


def site_of(wish: Wish, now: Current | None) -> Site:
    """The site values of a wish: those of its inventory or of what runs now, with its options."""
    if wish.site is not None:
        return wish.site
    if wish.inventory is not None:
        base = sites.load(wish.inventory)
    else:
        base = Site.model_validate(now.plan["site"]) if now else Site()
    changes: dict[str, object] = {}
    if wish.port is not None:
        changes["server"] = Server(port=wish.port)
        changes["container"] = base.container.model_copy(update={"port": wish.port})
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
    return sites.with_changes(base, changes)


def _engine(wish: Wish) -> Engine:
    if wish.engine_url == "none":
        return Engine()
    key = str(wish.engine_key_file.absolute()) if wish.engine_key_file else ""
    if key and (problem := sites.check_secret_file(Path(key))):
        raise BadUsage(
            "engine-key-unusable",
            problem,
            hint=f"write the key into it, then: chmod 600 {shlex.quote(key)}",
            fault=Fault.YOU,
        )
    if not wish.engine_model:
        raise BadUsage(
            "engine-incomplete",
            "an engine URL needs the model's name at that endpoint",
            hint="see which models it has: curl --silent URL/models",
            fault=Fault.YOU,
        )
    return sites.make_engine(wish.engine_url or "", wish.engine_model, key)


def current(store: Store) -> Current | None:
    """What the box runs now, read back from its own generation; None without one.

    Raises `NeedsPerson` (`generation-damaged`) when it says nothing usable.
    """
    number = store.current()
    return None if number is None else of_generation(store, number)


def of_generation(store: Store, number: int) -> Current:
    """What a generation is; raises as `current`."""
    try:
        return Current(
            generation=number,
            release=release.parse(store.manifest(number)),
            plan=dict(json.loads(store.file(number, "plan.json"))),
        )
    except (AiboxError, OSError, ValueError, TypeError) as error:
        raise NeedsPerson(
            "generation-damaged",
            f"generation {number} is damaged: what it is cannot be read",
            context=f"{store.layout.generation(number)}: {getattr(error, 'message', error)}",
            hint="see what else is damaged with ./aibox doctor, and go back to the generation "
            "before it: ./aibox rollback",
            fault=Fault.HOST,
        ) from error


def _refuse_lost(store: Store) -> None:
    """A box that lost its way is there all the same."""
    if store.is_lost():
        raise Failed(
            "current-lost",
            "the box is there, but `current` names none of its generations",
            context=str(store.layout.current),
            hint="let the box find its way back: ./aibox recover",
            fault=Fault.HOST,
        )


def readable(store: Store) -> Current | None:
    """Like `current`, and None also for one that is damaged: whoever looks for damage goes on."""
    try:
        return current(store)
    except NeedsPerson:
        return None


def require_generation(store: Store) -> None:
    """Refuse where nothing is installed; one that is damaged can be stopped and left behind."""
    if store.current() is None:
        require_current(store)


def require_current(store: Store) -> Current:
    """Like `current`, for commands that need a box."""
    found = current(store)
    if found is None:
        _refuse_lost(store)
        raise BadUsage(
            "no-box",
            "nothing is installed here",
            context=str(store.layout.root),
            hint="install a box with: ./aibox install --profile local",
            fault=Fault.YOU,
        )
    return found
