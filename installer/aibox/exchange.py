"""What passes between a box and whoever supplies it: roots of trust, revocations, lists of what a
box holds, and the report on a bundle that a security officer files."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from aibox import receiving, trusting
from aibox.box import guard, host
from aibox.box.store import Store
from aibox.box.trust_store import TrustStore
from aibox.bundle import program as programs
from aibox.bundle import resplit as dividing
from aibox.bundle import sizes, weights
from aibox.bundle.checking import ContentReport
from aibox.bundle.layout import MANIFEST_LIMIT
from aibox.bundle.media import Media
from aibox.bundle.trust.have import Holdings
from aibox.errors import BadUsage, Fault, VerificationRefused
from aibox.plan import Current
from aibox.prepare import Workplace, require_current
from aibox.progress import Meter
from aibox.receiving import Received, Terms
from aibox.trusting import Applied, Chain

T = TypeVar("T")

# -- roots of trust -------------------------------------------------------------------------------


def trust_add(place: Workplace, path: Path) -> Chain:
    """Take bundles of whoever holds this first root from now on."""
    data = _read(path, "./aibox trust add ROOT")
    return _changing(place, lambda trust: trusting.add(trust, data))


def trust_by_note(place: Workplace, media: Sequence[Path], typed: str, digits: int) -> bool:
    """Trust the first root in a bundle if a person typed the beginning of its fingerprint."""
    with Media.open(media) as opened:
        first = receiving.head_of(opened).roots.get(1)
    if first is None:
        return False
    told, found = ("".join(text.split()).lower() for text in (typed, trusting.fingerprint(first)))
    if len(told) < digits or not found.startswith(told):
        return False
    _changing(place, lambda trust: trusting.add(trust, first))
    return True


def trust_apply(place: Workplace, path: Path) -> Applied:
    """Take in a newer root, or a list of revocations."""
    data = _read(path, "./aibox trust apply FILE")
    return _changing(place, lambda trust: trusting.apply(trust, data))


def trust_list(place: Workplace) -> tuple[Chain, ...]:
    """Whose bundles this box takes."""
    return trusting.chains(TrustStore(place.root))


def _changing(place: Workplace, change: Callable[[TrustStore], T]) -> T:
    with guard.hold(place.root):
        store = Store(place.root)
        store.initialise()
        return change(TrustStore(place.root, store.filesystem))


def _read(path: Path, command: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MANIFEST_LIMIT + 1)
    except OSError as error:
        raise BadUsage(
            "file-unreadable",
            f"{path} cannot be read: {error.strerror}",
            hint=f"name the file as its maker sent it: {command}",
            fault=Fault.YOU,
        ) from error


# -- what a box holds -----------------------------------------------------------------------------


def have(place: Workplace) -> bytes:
    """What this box holds, signed by it: a delta bundle is made against this.

    Blobs whose bytes are not theirs any more are left out: the next bundle brings them again.
    """
    with guard.hold(place.root, existing=True):
        store = Store(place.root)
        now = require_current(store)
        place.say("have", "hashing what was not hashed since this machine was started")
        blobs = {
            sha256: size
            for number in store.generations()
            for sha256, size in store.contents(number).blobs().items()
        }
        sound = {sha256: size for sha256, size in blobs.items() if store.verify(sha256) is None}
        store.verified.save()
        releases = {now.release.id, *(store.release(number) for number in store.generations())}
        holdings = Holdings(
            architecture=host.architecture(),
            python=_python_of(now),
            blobs=sound,
            releases=tuple(sorted(releases)),
        )
        trust = TrustStore(place.root, store.filesystem)
        return trusting.sign_have(trust, holdings, datetime.datetime.now(datetime.UTC))


def _python_of(now: Current) -> str:
    """The interpreter of the services: `3.11` of `cp311-linux_x86_64`."""
    digits = str(now.plan["python"]).partition("-")[0].removeprefix("cp")
    return f"{digits[:1]}.{digits[1:]}"


# -- bundles on media -----------------------------------------------------------------------------


def verify(place: Workplace, paths: Sequence[Path], terms: Terms) -> dict[str, Any]:
    """The report on a bundle: what was checked, by which key, when, and with what result.

    Whatever is wrong is in the report (`refused`), and raises nothing; wrong usage and media that
    fail do.
    """
    report: dict[str, Any] = {
        "ok": False,
        "bundle": [str(path) for path in paths],
        "checked_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "checked_on": host.name(),
        "key": None,
        "checked": [],
        "refused": [],
    }
    try:
        with receiving.receive(TrustStore(place.root), paths, terms, place.report) as received:
            report |= _judged_head(received)
            content = receiving.check_content(received, place.report)
            report["checked"] += _checked_content(content)
            report["content"] = content.as_json()
            content.require()
            report["checked"] += _checked_releases(received)
    except VerificationRefused as refusal:
        report["refused"].append(refusal.as_json())
    report["ok"] = not report["refused"]
    return report


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The report as people file it."""
    yield f"Bundle:      {', '.join(report['bundle'])}"
    yield f"Checked:     {report['checked_at']} on {report['checked_on']}"
    for name in ("manifest", "sequence", "root", "expires"):
        if name in report:
            yield f"{name.capitalize() + ':':13}{report[name]}"
    for key in report["key"] or ():
        yield f"Key:         {key['name']} {key['id']}"
    for fact in report["checked"]:
        yield f"  ok         {fact}"
    for notice in report.get("notices", ()):
        yield f"  note       {notice}"
    for refusal in report["refused"]:
        yield f"  refused    {refusal['reference']}: {refusal['message']} {refusal['context']}"
    yield f"Result:      {'accepted' if report['ok'] else 'REFUSED'}"


def _judged_head(received: Received) -> dict[str, Any]:
    verified, said = received.verified, received.provenance
    facts: dict[str, Any] = {
        "manifest": said.bundle,
        "sequence": said.sequence,
        "releases": [entry.id for entry in received.description.releases],
        "notices": list(said.notices),
        "checked": [],
    }
    if verified is None:
        return facts
    facts["key"] = [{"id": signer.key_id, "name": signer.name} for signer in verified.signers]
    facts["root"] = trusting.fingerprint(verified.roots[1])
    facts["expires"] = verified.expires.isoformat()
    revoked = verified.revocations
    facts["checked"] = [
        f"roots 1 to {verified.root_version}: each signed by the thresholds of the one before and "
        "of its own",
        f"revocations: version {revoked.version}" if revoked else "revocations: there are none",
        f"bundle.json: signed by {', '.join(signer.name for signer in verified.signers)}",
        f"bundle.json.sig: signed by {verified.ssh_signer.name} (namespace bundle@aibox)",
        f"sequence {verified.sequence}: not older than what this box has seen",
        "index: sound, and complete for every release",
    ]
    return facts


def _checked_content(content: ContentReport) -> list[str]:
    return [f"{content.files} files, {content.size} bytes: every byte hashed; no file too many"]


def _checked_releases(received: Received) -> list[str]:
    """Every release fits what is carried, and its models are data only."""
    told = []
    for entry in received.description.releases:
        for architecture in received.description.architectures:
            made = receiving.whole_release(received, entry, architecture)
            for model in made.models:
                for file in model.files:
                    opener = received.carried.get(file.sha256 or "")
                    if opener is not None and file.size is not None:
                        with opener() as stream:
                            found = weights.check_file(file.path, stream, file.size)
                        weights.refuse(found, model.name)
                told.append(f"model {model.name}: {len(model.files)} files, data only")
        told.append(f"release {entry.id[:12]} for {entry.profile}: complete")
    return told


def split(place: Workplace, paths: Sequence[Path], output: Path, volume: str | None) -> list[Path]:
    """Divide a finished bundle anew, or join its volumes (no size); needs no key."""
    volume_bytes = sizes.parse_size(volume) if volume else None
    terms = Terms(allow_unsigned=True, allow_downgrade=True, allow_expired=True)
    with receiving.receive(TrustStore(place.root), paths, terms, place.report) as received:
        meter = Meter("split", "blobs", received.description.carried, place.report)
        made = dividing.resplit(
            received.media,
            received.named,
            received.index,
            output,
            volume_bytes,
            first=programs.digests(received.program),
            modified=receiving.modified(received.description),
            on_bytes=meter.add,
        )
    return list(made)
