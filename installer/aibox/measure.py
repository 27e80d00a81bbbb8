"""Measure a running engine: its start against what was computed, and how fast it answers.

Results are files of the box below `data/measured/`: `calibration.json`, and one
`bench-RELEASE.json` for each release that a generation here still has. They are of the engine
`chat`; those of others have its name in theirs (`calibration-small.json`,
`bench-small-RELEASE.json`).
"""

from __future__ import annotations

import datetime
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aibox import prerequisites
from aibox.box import gpus, guard
from aibox.box.docker_engine import DockerEngine
from aibox.box.engine_container import EngineContainer
from aibox.box.store import Store
from aibox.errors import AiboxError, Failed, Fault
from aibox.fit.engine import GIB, MIB
from aibox.hardware import Gpu
from aibox.measuring import basis, calibration, computed, load, metrics, results, start_log
from aibox.measuring.basis import CHAT
from aibox.measuring.calibration import Calibration, Room
from aibox.measuring.load import Load, Measured
from aibox.measuring.results import Results
from aibox.plan import Current
from aibox.preflight import Finding, Status
from aibox.prepare import Workplace, require_current
from aibox.progress import ticking
from aibox.release import Release
from aibox.serving import ENGINES, FROZEN, QUEUE, Serving

FOLDER = Path("data/measured")
DEADLINE_S = 1800
"""The longest that one load may take."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A new calibration, where it lies, and why the one before it counted no more."""

    calibration: Calibration
    path: Path
    was_stale: tuple[str, ...]


def calibrate(place: Workplace, service: str = CHAT) -> Calibrated:
    """Compare an engine's start with what was computed, and keep what it would freeze.

    Raises `BadUsage` (`no-engine`, `engine-not-measured`), `Failed` (`engine-not-running`,
    `engine-no-metrics`, `engine-start-unknown`, `engine-start-not-understood`, and what Docker
    raises).
    """
    with _holding(place, service) as (store, now):
        engine = container(service)
        place.say("calibrate", f"reading what the engine {service} said when it started")
        text = engine.log()
        started = start_log.parse(text)
        if started.tokens is None and not start_log.is_whole(text):
            raise _start_unknown()
        told = metrics.parse(engine.metrics())
        if started.tokens is None and told.tokens is None:
            raise _start_not_understood(started.engine)
        made = _calibration(place, store, now, service, started, told)
        before = read_calibration(store, service)
        path = _publish(store, calibration_of(service), calibration.dump(made))
        return Calibrated(made, path, calibration.stale(before, made.basis) if before else ())


def _calibration(
    place: Workplace,
    store: Store,
    now: Current,
    service: str,
    started: start_log.Started,
    told: metrics.Metrics,
) -> Calibration:
    place.say("calibrate", "computing what aibox fit says of it")
    serving = basis.serving_of(now.release, service)
    cards = _cards(serving)
    models = store.layout.tree(now.generation) / "models"
    found = computed.of_release(
        place.content.catalogue,
        models,
        now.release,
        service,
        started.engine,
        [card.memory_mib for card in cards],
    )
    rooms = _rooms(cards, found.needed)
    measured = results_that_hold(store, now.release, service)
    freeze, why_not = calibration.to_freeze(
        started,
        gpus=bool(serving.gpus),
        frozen=serving.arguments.get(FROZEN),
        rooms=rooms,
        first=_first(store, now.release, service),
        held=told.cache_bytes,
    )
    given = serving.kv_cache_gib * GIB if serving.kv_cache_gib else serving.arguments.get(FROZEN)
    free = [one.free for one in rooms]
    return Calibration(
        version=calibration.VERSION,
        made=_now(),
        release=now.release.id,
        generation=now.generation,
        profile=now.release.profile,
        service=service,
        basis=_basis(now.release, service),
        started=started,
        metrics=told,
        rows=calibration.compare(found.answer, started, told, given, free),
        predicted=found.unknown,
        freeze=freeze,
        why_not=why_not,
        throughput=measured.measured if measured is not None else (),
    )


def _cards(serving: Serving) -> tuple[Gpu, ...]:
    """The GPUs that the engine has; none on a processor."""
    here = gpus.detect().gpus if serving.gpus else ()
    return tuple(here[index] for index in serving.gpus if index < len(here))


def _rooms(cards: Sequence[Gpu], needed: Sequence[int | None]) -> tuple[Room, ...]:
    free = gpus.free_mib(cards)
    return tuple(
        Room(None if mib is None else mib * MIB, most)
        for mib, most in zip(free, needed, strict=True)
    )


def _first(store: Store, release: Release, service: str) -> str:
    """What to do before free memory tells anything: each engine on the GPUs has to be loaded.

    Only what was asked since its start has shown how much an engine takes. Those that cannot be
    measured have no load to be put on, so they only have to run.
    """
    commands = []
    for name in sorted({service, *basis.beside(release, service)}):
        try:
            since = container(name).container.started
        except Failed:
            commands.append("./aibox start")
            continue
        if name in basis.measurable(release):
            measured = results_that_hold(store, release, name)
            if measured is None or measured.made.timestamp() < since:
                commands.append(basis.typed("bench", name))
    wanted = dict.fromkeys(commands)
    return f"{', '.join(wanted)}, then again: {basis.typed('calibrate', service)}" if wanted else ""


def results_that_hold(store: Store, release: Release, service: str = CHAT) -> Results | None:
    """What was measured of an engine of a release, where it holds for what runs now."""
    found = read_results(store, release.id, service)
    if found is None or basis.differences(found.basis, _basis(release, service)):
        return None
    return found


def bench(
    place: Workplace,
    concurrencies: Sequence[int] | None = None,
    *,
    quick: bool = False,
    service: str = CHAT,
) -> Results:
    """Measure a running engine at these concurrencies, and keep the result with its release.

    Without any they are the usual ones that it takes. The box goes on answering meanwhile, slower.
    Cut short, it keeps what was measured until then, where nothing else that holds is known.
    Raises `BadUsage` (`no-engine`, `engine-not-measured`), `Failed` (`engine-not-running`,
    `bench-…`, and what Docker raises).
    """
    with _holding(place, service) as (store, now):
        shapes = load.shapes(now.release.tuning, context_of(now.release, service), quick=quick)
        most = most_at_once(now.release, service)
        at_once = concurrencies or load.concurrencies(most, quick=quick)
        asked = load.loads(shapes, at_once, quick=quick)
        found: list[Measured] = []
        try:
            found.extend(_each(place, now.release, asked, "bench", service))
        except BaseException:
            if found and results_that_hold(store, now.release, service) is None:
                keep(store, now, tuple(found), service)
                place.say("bench", f"kept: {len(found)} of {len(asked)} loads")
            raise
        return keep(store, now, tuple(found), service)


def context_of(release: Release, service: str = CHAT) -> int | None:
    """The longest request in tokens, None where the release leaves it to the model."""
    return _number(release, service, "max-model-len")


def most_at_once(release: Release, service: str = CHAT) -> int | None:
    """How many requests the engine surely takes at once; None where it has no limit."""
    return _number(release, service, QUEUE)


def _number(release: Release, service: str, argument: str) -> int | None:
    found = basis.serving_of(release, service).arguments.get(argument)
    return found if isinstance(found, int) and found > 0 else None


def measure(
    place: Workplace, release: Release, asked: Sequence[Load], step: str, service: str = CHAT
) -> tuple[Measured, ...]:
    """Put these loads on an engine, one after the other; raises as `bench`."""
    return tuple(_each(place, release, asked, step, service))


def _each(
    place: Workplace, release: Release, asked: Sequence[Load], step: str, service: str
) -> Iterator[Measured]:
    engine, model = container(service), basis.serving_of(release, service).model
    for number, one in enumerate(asked, start=1):
        yield _measured(place, engine, model, one, f"{step} {number}/{len(asked)}")


def _measured(
    place: Workplace, engine: EngineContainer, model: str, one: Load, step: str
) -> Measured:
    told = f"{one}: {one.requests} requests"
    place.say(step, told)
    words = load.command(one, model, secrets.randbelow(1 << 31), *engine.result())
    with ticking(told, partial(place.say, step)):
        found = load.parse(one, engine.measure(words, DEADLINE_S))
    place.say(step, f"{one}: {found.written_per_s:.1f} tokens/s written")
    return found


def keep(
    store: Store, now: Current, measured: tuple[Measured, ...], service: str = CHAT
) -> Results:
    """Store what was measured of an engine of a generation with its release."""
    made = Results(
        version=results.VERSION,
        made=_now(),
        release=now.release.id,
        generation=now.generation,
        profile=now.release.profile,
        service=service,
        basis=_basis(now.release, service),
        measured=measured,
    )
    _publish(store, results_of(now.release.id, service), results.dump(made))
    return made


def container(service: str = CHAT) -> EngineContainer:
    """An engine's container on this host; raises `Failed` (`engine-not-running`)."""
    return EngineContainer.find(DockerEngine(), service, prerequisites.key_of(service))


def _basis(release: Release, service: str) -> basis.Basis:
    found = hardware(basis.serving_of(release, service))
    return basis.of_release(release, service, found)


def hardware(serving: Serving) -> tuple[str, ...]:
    """What an engine runs on here."""
    return basis.hardware(gpus.detect(), serving.gpus, os.cpu_count() or 1)


def read_results(store: Store, release: str, service: str = CHAT) -> Results | None:
    """What was measured of an engine of a release on this box; None where nothing readable is."""
    data = _read(store.layout.root / results_of(release, service))
    return None if data is None else results.parse(data)


def read_calibration(store: Store, service: str = CHAT) -> Calibration | None:
    """The calibration of an engine of this box; None where there is none that can be read."""
    path = store.layout.root / calibration_of(service)
    data = _read(path)
    try:
        return None if data is None else calibration.parse(data, str(path))
    except AiboxError:
        return None


def standings(store: Store, now: Current) -> dict[str, str]:
    """`standing` of each engine that can be measured, by its service; the hardware unseen."""
    return {name: standing(store, now, name) for name in basis.measurable(now.release)}


def standing(
    store: Store, now: Current, service: str = CHAT, found: tuple[str, ...] | None = None
) -> str:
    """Whether a calibration counts: `none`, `valid, …`, `stale: …`; "" without such an engine.

    `found` is the hardware, None where it is not looked at.
    """
    if service not in basis.measurable(now.release):
        return ""
    held = read_calibration(store, service)
    if held is None:
        is_there = (store.layout.root / calibration_of(service)).exists()
        return "stale: its file cannot be read" if is_there else "none"
    mine = basis.of_release(now.release, service, held.basis.hardware if found is None else found)
    other = calibration.stale(held, mine)
    return f"stale: {'; '.join(other)}" if other else f"valid, of {held.made:%Y-%m-%d}"


def examine(store: Store, now: Current) -> tuple[Finding, ...]:
    """The findings of `aibox doctor` about calibrations: one for each engine that can have one."""
    return tuple(_finding(store, now, name) for name in basis.measurable(now.release))


def _finding(store: Store, now: Current, service: str) -> Finding:
    told = standing(store, now, service, hardware(now.release.serving[service]))
    return Finding(
        check="calibration" if service == CHAT else f"calibration {service}",
        status=Status.WARN if told.startswith("stale") else Status.OK,
        found=told,
        expected="of the engine, the model and the hardware that run now, or none",
        fix=f"measure it anew: {basis.typed('calibrate', service)}",
    )


def sweep(store: Store) -> None:
    """Remove the results of releases that no generation has any more."""
    releases = {store.release(number) for number in store.generations()}
    kept = {results_of(one, name).name for one in releases for name in ENGINES}
    for path in sorted((store.layout.root / FOLDER).glob("bench-*.json")):
        if path.name not in kept:
            store.filesystem.unlink(path)


def calibration_of(service: str) -> Path:
    """The file with the calibration of an engine, below the box root."""
    return FOLDER / f"calibration{_suffix(service)}.json"


def results_of(release: str, service: str) -> Path:
    """The file with what was measured of an engine of a release, below the box root."""
    return FOLDER / f"bench{_suffix(service)}-{release}.json"


def _suffix(service: str) -> str:
    return "" if service == CHAT else f"-{service}"


@contextmanager
def _holding(place: Workplace, service: str) -> Iterator[tuple[Store, Current]]:
    """The box with nobody else at work on it, and what it serves; this engine is measurable."""
    store = Store(place.root)
    require_current(store)
    with guard.hold(place.root):
        now = require_current(store)
        basis.serving_of(now.release, service)
        yield store, now


def _publish(store: Store, name: Path, data: bytes) -> Path:
    path = store.layout.root / name
    for folder in (path.parent.parent, path.parent):
        store.filesystem.make_directory(folder)
    store.filesystem.publish(path, data)
    return path


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _start_unknown() -> Failed:
    return Failed(
        "engine-start-unknown",
        "the log of the engine does not hold its start: it is still starting, or its first lines "
        "have been rotated away",
        hint="start it anew, which interrupts answers: ./aibox stop, then: ./aibox start",
        fault=Fault.HOST,
    )


def _start_not_understood(engine: str) -> Failed:
    return Failed(
        "engine-start-not-understood",
        f"neither the log nor the metrics of vLLM {engine} say how many tokens of context it has, "
        "in words that are known here",
        hint="use an aibox that knows this engine; see yours with: ./aibox --version",
        fault=Fault.US,
    )
