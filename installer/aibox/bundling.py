"""`aibox bundle build` put together: lock -> fetch -> check -> derive -> prove -> write and sign.

What a bundle lacks is found here, never on site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aibox import gathering, locking, objects, profile, release
from aibox import lock as locks
from aibox.box import host
from aibox.bundle import partial, volumes
from aibox.bundle.build import (
    admission,
    assembly,
    hub_api,
    mirrors_file,
    pylock,
    service_proof,
)
from aibox.bundle.build.assembly import Gathered, Made
from aibox.bundle.layout import INDEX_LIMIT
from aibox.bundle.manifest import Proof
from aibox.bundle.trust import signing
from aibox.bundle.trust.have import Holdings, verify_have
from aibox.content import Content
from aibox.errors import BadUsage, Failed, Fault, VerificationRefused
from aibox.gathering import Scope
from aibox.lock import ModelsLock
from aibox.locking import Sources
from aibox.objects import Placed
from aibox.profile import Profile
from aibox.progress import Meter, Progress, Report
from aibox.release import Release

STEP = "bundle"
PYTHONS = pylock.PYTHONS
"""The interpreters that a bundle has packages for, unless the packager chooses."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a packager asks for.

    Attributes:
        architectures, pythons: what hosts the bundle is for; empty: those of the box that says
            what it holds, else this machine's architecture and every interpreter.
        have: the signed list of what a box holds; the bundle leaves that out.
        sign: folder of the signing keys; without it nobody signs.
        without: models that the operator brings.
        for_operator: the bundle goes to nobody else than the operator it is made for.
        prove: whether the services are started once before anything is signed.
    """

    profiles: tuple[str, ...]
    output: Path
    have: Path | None = None
    sign: Path | None = None
    volume_bytes: int | None = None
    architectures: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    for_operator: bool = False
    prove: bool = True
    sources: Sources = field(default_factory=Sources)


def build(content: Content, order: Order, report: Report) -> Made:
    """Make the bundle; what it is made of comes from elsewhere or from the download cache."""
    have = _read_have(order)
    architectures = order.architectures or (have.architecture,)
    pythons = order.pythons or ((have.python,) if order.have else PYTHONS)
    admission.require_known(architectures, pythons)
    if order.have is not None:
        admission.require_for_box(have, architectures, pythons)
    chosen = [profile.load(content.profiles, name) for name in order.profiles]
    scope = Scope(
        architectures=architectures,
        pythons=pythons,
        without=order.without,
        sign=order.sign,
        mirrors=order.sources.mirrors,
        hub_token=order.sources.hub_token,
    )
    lock = locks.load(content.lockfile)
    _admit(lock, chosen, order, scope)
    lock = _completed(lock, chosen, content, order, scope, report)
    releases = tuple(release.make(lock, item) for item in chosen)
    gathered = gathering.gather(content, lock, releases, scope, report)
    gathered = replace(gathered, proofs=(*gathered.proofs, *_prove(gathered, order, report)))
    titles = {item.name: item.title for item in chosen}
    gathered = replace(gathered, titles=titles, held=_held(gathered, have.blobs))
    carried = sum(
        blob.size
        for sha256, blob in gathered.needed().items()
        if sha256 not in gathered.held | gathered.brought
    )
    # Said before the first second of it is over: what is heard in silence is the last thing said.
    report(Progress(STEP, f"writing {order.output}"))
    meter = Meter(STEP, f"writing {order.output}", carried, report)
    return assembly.write(
        gathered,
        order.output,
        sign=order.sign,
        volume_bytes=order.volume_bytes,
        on_bytes=meter.add,
    )


def _admit(lock: ModelsLock, chosen: Sequence[Profile], order: Order, scope: Scope) -> None:
    """Refuse at once what would be refused after hours of fetching."""
    releases = [release.make(lock, item) for item in chosen]
    interpreters = admission.interpreters(lock, scope.architectures, scope.pythons).values()
    admission.require_models(releases, order.without)
    admission.require_licences(
        releases,
        (*lock.program, *interpreters),
        order.without,
        for_operator=order.for_operator,
    )
    admission.require_wheels((*lock.wheel, *lock.program), scope.architectures, scope.pythons)
    admission.require_sources(releases, scope.architectures)
    if order.volume_bytes is not None:
        whole = [made for made in releases if not release.unresolved(made)]
        sizes = [item.size for made in whole for item in _objects(made, scope)]
        volumes.require_volume(sizes, order.volume_bytes)
    mirrors_file.read(scope.mirrors)
    if scope.hub_token is not None:
        hub_api.read_token(scope.hub_token)
    if order.sign is None:
        admission.require_key(releases, scope.architectures)
    else:
        signing.require_keys(order.sign)
        admission.require_young(lock, locking.current_date())
    partial.require_free(order.output)


def _objects(made: Release, scope: Scope) -> Iterator[Placed]:
    for machine in scope.architectures:
        yield from objects.of_release(made, machine)


def _completed(
    lock: ModelsLock,
    chosen: Sequence[Profile],
    content: Content,
    order: Order,
    scope: Scope,
    report: Report,
) -> ModelsLock:
    """The lock with nothing unresolved in what is bundled; what was is written down for review."""
    left = [name for item in chosen for name in release.unresolved(release.make(lock, item))]
    if not left:
        return lock
    report(Progress(STEP, f"models.lock is completed first, review it: {', '.join(left)}"))
    locking.run(content, order.profiles, (), report, write=True, sources=order.sources, strict=True)
    lock = locks.load(content.lockfile)
    _admit(lock, chosen, order, scope)  # Licences may be known only now.
    return lock


def _read_have(order: Order) -> Holdings:
    """What the box holds already, by its signed list; nothing without one."""
    if order.have is None:
        return Holdings(architecture=host.architecture(), python="3.0", blobs={}, releases=())
    try:
        with order.have.open("rb") as file:
            data = file.read(INDEX_LIMIT + 2)
    except OSError as error:
        raise BadUsage(
            "have-unreadable",
            f"{order.have} cannot be read: {error.strerror}",
            hint="write it on the box: ./aibox have > have.json",
            fault=Fault.YOU,
        ) from error
    try:
        # A terminal's or an editor's newline at the end is not the box's.
        return verify_have(data.rstrip(b"\r\n"))
    except VerificationRefused as refusal:
        refusal.context = f"{order.have}: {refusal.context}".removesuffix(": ")
        raise


def _held(gathered: Gathered, have: Mapping[str, int]) -> frozenset[str]:
    needed = gathered.needed()
    return frozenset(
        sha256 for sha256, size in have.items() if sha256 in needed and needed[sha256].size == size
    )


def _prove(gathered: Gathered, order: Order, report: Report) -> tuple[Proof, ...]:
    """Start each release once, from a small bundle of it alone."""
    if not order.prove:
        return tuple(
            Proof(
                what=f"{made.profile}: its services start and answer from the bundle",
                proven=False,
                reason="the packager left the proof out",
            )
            for made in gathered.releases
        )
    proofs = []
    for made in gathered.releases:
        alone = replace(gathered, releases=(made,), proofs=())
        with service_proof.room() as folder:
            if not service_proof.why_not(alone):
                report(Progress(STEP, f"writing {made.profile} alone, to prove that it starts"))
                _write_for_proof(alone, folder / "bundle")
            proofs.append(service_proof.prove(alone, folder / "bundle", report))
    return tuple(proofs)


def _write_for_proof(alone: Gathered, bundle: Path) -> None:
    try:
        assembly.write(alone, bundle, sign=None)
    except Failed as failure:
        if failure.reference != "bundle-not-written":
            raise
        raise Failed(
            "proof-not-written",
            f"there is no room for the proof that the services start ({failure.message})",
            context=failure.context,
            hint="free some room, or let TMPDIR name another folder, or leave the proof out, which "
            "is recorded: ./aibox bundle build --skip-proof",
            fault=Fault.HOST,
        ) from failure
