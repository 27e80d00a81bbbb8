"""One verdict on an installed box, with a fix for every finding. Never changes anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from aibox import checks
from aibox.box import gpu_evidence, gpus, guard, host, stalls
from aibox.box.http import check_authority, check_certificate
from aibox.box.journal import Intent, Unreadable
from aibox.box.runtime import ServiceStatus
from aibox.box.store import Store
from aibox.box.system_units import unit_of
from aibox.checks.evidence import Evidence, Image
from aibox.errors import AiboxError
from aibox.preflight import Finding, Status
from aibox.profile import PackageRole
from aibox.release import Release
from aibox.site import Site, check_secret_file, is_of_this_host


def examine(
    store: Store, services: tuple[ServiceStatus, ...], ready: tuple[bool, str]
) -> tuple[Finding, ...]:
    """Every finding about the store and the services; blobs are hashed unless this boot did.

    `ready` is what the box says of itself: whether it can answer, and why not.
    """
    return (
        _interrupted(store),
        _current(store),
        *_generations(store),
        _record(store),
        *_services(services),
        *_stalls(store),
        *_quotes(store),
        _answers(ready),
    )


def of_begun(store: Store) -> tuple[Finding, ...]:
    """What there is of a box that serves nothing: half of one, one that lost its way or is damaged.

    Nothing where none was begun.
    """
    if store.journal.read() is None and store.current() is None and not store.is_lost():
        return ()
    with guard.hold(store.layout.root, shared=True):
        return examine(store, (), (False, "no generation serves that can be read"))


def refused(error: AiboxError) -> Finding:
    """A host that could not be judged at all."""
    return _finding("preflight", False, error.message, "a release to judge it for", error.hint)


def graphics(release: Release | None) -> tuple[Finding, ...]:
    """Every finding about the host's GPUs, whether or not a box needs them already.

    `release` is what is installed, None without a box.
    """
    machine = gpus.detect()
    if release is None:
        return checks.examine(gpu_evidence.gather(machine))
    return checks.examine(gpu_evidence.gather(machine, release.hardware, _images(release)))


def hardware(release: Release) -> tuple[Finding, ...]:
    """Whether the host has the GPUs of a release: what preflight asks before it is installed."""
    if release.hardware is None:
        return ()
    brings = PackageRole.NVIDIA_DRIVER in release.package_roles.values()
    images = tuple(_images(release))
    return checks.of_hardware(
        Evidence(gpus.detect(), release.hardware, images, brings_driver=brings)
    )


def of_site(site: Site) -> tuple[Finding, ...]:
    """What the site names, before anything is installed with it."""
    return (*endpoint(site), *certificate(site))


def endpoint(site: Site) -> tuple[Finding, ...]:
    """What can be said of a language model elsewhere before anybody asks it."""
    is_asked_here = not site.member or "app" in site.hosts[site.member].groups
    if site.engine.kind != "openai" or not is_asked_here:
        return ()
    engine = site.engine
    return (
        _address(engine.url),
        *_cloud(engine.model),
        *([_key(engine.api_key_file)] if engine.api_key_file else []),
        *([_authority(engine.ca_file)] if engine.ca_file else []),
    )


def certificate(site: Site) -> tuple[Finding, ...]:
    """Whether the gateway can serve with the site's own certificate, where it has one."""
    given, key = site.container.certificate_file, site.container.key_file
    if not given:
        return ()
    problem = check_secret_file(Path(key)) or check_certificate(Path(given), Path(key))
    return (
        _finding(
            "site certificate",
            not problem,
            problem or given,
            "a certificate that is valid today, and its key in a file of mode 0600 (PEM)",
            f"look at what it says: openssl x509 -noout -text -in {shlex.quote(given)}",
        ),
    )


def _address(url: str) -> Finding:
    is_open = urlsplit(url).scheme == "http" and not is_of_this_host(url)
    return Finding(
        check="engine address",
        status=Status.WARN if is_open else Status.OK,
        found=f"{url}, not encrypted" if is_open else url,
        expected="https, or this host: questions, passages and the key go there",
        fix="give it a certificate; where your own authority made it, name that as ca_file in the "
        "site file, then: ./aibox install --inventory FILE",
    )


def _cloud(model: str) -> Iterator[Finding]:
    """Ollama answers for models of its makers' cloud at the same address as for its own."""
    if model.endswith((":cloud", "-cloud")):
        yield Finding(
            check="engine model",
            status=Status.WARN,
            found=f"{model}: Ollama sends what it is asked to its makers",
            expected="a model that runs where it is asked",
            fix="name one of those that are there: ollama list",
        )


def _key(path: str) -> Finding:
    problem = check_secret_file(Path(path))
    return _finding(
        "engine key",
        not problem,
        problem or path,
        "a file with the key, of mode 0600",
        f"write the key into it, then: chmod 600 {shlex.quote(path)}",
    )


def _authority(path: str) -> Finding:
    problem = check_authority(Path(path))
    return _finding(
        "engine authority",
        not problem,
        problem or path,
        "a file with certificates (PEM)",
        "look at what it holds: openssl storeutl -noout -text -certs " + shlex.quote(path),
    )


def _images(release: Release) -> Iterator[Image]:
    """The images of a release as they are for this host."""
    platforms = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
    mine = platforms.get(host.architecture(), "")
    for pin in release.images:
        needed = (one.requires_cuda for one in pin.platforms if one.platform.startswith(mine))
        yield Image(pin.name, pin.reference, next(needed, ""))


def _finding(check: str, good: bool, found: str, expected: str, fix: str) -> Finding:
    status = Status.OK if good else Status.VETO
    return Finding(check=check, status=status, found=found, expected=expected, fix=fix)


def _interrupted(store: Store) -> Finding:
    intent = store.journal.read()
    found = "nothing open"
    if isinstance(intent, Intent):
        found = f"an interrupted {intent.action.value}, phase {intent.phase.value}"
    elif isinstance(intent, Unreadable):
        found = "an intent that cannot be read"
    return _finding(
        "interrupted command",
        intent is None,
        found,
        "no interrupted command",
        "finish or undo it: ./aibox recover",
    )


def _current(store: Store) -> Finding:
    number = store.current()
    return _finding(
        "current generation",
        number is not None and number == store.slots.load().last_good,
        "none" if number is None else f"generation {number}",
        "the generation that passed its gate last",
        "let the box find its way back: ./aibox recover",
    )


def _generations(store: Store) -> Iterator[Finding]:
    for number in store.generations():
        damage = store.damage(number, deep=True)
        yield _finding(
            f"generation {number}",
            not damage,
            "; ".join(f"{one.path}: {one.reason}" for one in damage[:3]) or "every byte as sealed",
            "every byte as sealed",
            "mend the one in use by installing its release again: ./aibox install",
        )


def _record(store: Store) -> Finding:
    history = store.history.read()
    is_lost = not history.entries and bool(store.generations())
    return _finding(
        "record",
        history.unreadable_lines == 0 and not is_lost,
        f"{len(history.entries)} entries, {history.unreadable_lines} unreadable lines",
        "every line readable",
        "keep a copy of record.jsonl as evidence, then look at: ./aibox history",
    )


def _services(services: tuple[ServiceStatus, ...]) -> Iterator[Finding]:
    for service in services:
        yield _finding(
            f"service {service.name}",
            service.state == "running",
            f"{service.state}, {service.restarts} restarts",
            "running",
            f"read logs/{service.name}.log in the box, then: ./aibox start",
        )


def _stalls(store: Store) -> Iterator[Finding]:
    """Nobody noticed, for they were started anew; but an engine that is well does not hang."""
    for one in stalls.read(store.layout.root):
        yield Finding(
            check=f"engine {one.service}",
            status=Status.WARN,
            found=f"hung {one.times} times in 24 hours and was started anew, last at {one.last}",
            expected="an engine that never hangs",
            fix=f"see what it was doing: journalctl --all --unit {unit_of(one.service)}",
        )


def _quotes(store: Store) -> Iterator[Finding]:
    """A language model elsewhere that did not answer when the box was judged last."""
    gates = (entry.gate for entry in store.history.read().entries)
    passed = [gate.results for gate in gates if gate is not None and gate.passed]
    told = {one.reason for results in passed[-1:] for one in results if one.passed and one.reason}
    for reason in sorted(told)[:1]:
        yield Finding(
            check="language model",
            status=Status.WARN,
            found=f"at the last gate: {reason}",
            expected="answers that the language model writes",
            fix="ask it again: ./aibox health; where its address, its name or its key is wrong: "
            "./aibox install --engine-url URL --engine-model NAME",
        )


def _answers(ready: tuple[bool, str]) -> Finding:
    answers, reason = ready
    return _finding(
        "answers",
        answers,
        "ready" if answers else reason,
        "a question can be answered",
        "see which part is missing: ./aibox status",
    )
