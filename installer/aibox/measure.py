"""Measure the running engine: its start against what was computed, and how fast it answers.

Results are files of the box below `data/measured/`: `calibration.json`, and one
`bench-RELEASE.json` for each release that a generation here still has.
"""

from __future__ import annotations

import datetime
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aibox import footing
from aibox.box import gpus, guard
from aibox.box.docker_engine import DockerEngine
from aibox.box.engine_container import EngineContainer
from aibox.box.store import Store
from aibox.errors import AiboxError, Failed, Fault
from aibox.fit import cards, catalogue, question
from aibox.fit.answer import Answer
from aibox.fit.engine import GIB, MIB, STAGES
from aibox.measuring import basis, calibration, load, metrics, results, start_log
from aibox.measuring.basis import FROZEN, SERVICE
from aibox.measuring.calibration import Calibration
from aibox.measuring.load import Load, Measured
from aibox.measuring.results import Results
from aibox.plan import Current
from aibox.preflight import Finding, Status
from aibox.prepare import Workplace, require_current
from aibox.progress import ticking
from aibox.release import Release
from aibox.serving import Serving

FOLDER = Path("data/measured")
CALIBRATION = FOLDER / "calibration.json"
DEADLINE_S = 1800
"""The longest that one load may take."""

_RELEASE = re.compile(r"[0-9]+(\.[0-9]+){1,2}")


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A new calibration, where it lies, and why the one before it counted no more."""

    calibration: Calibration
    path: Path
    was_stale: tuple[str, ...]


def calibrate(place: Workplace) -> Calibrated:
    """Compare the engine's start with what was computed, and keep what it would freeze.

    Raises `BadUsage` (`no-engine`), `Failed` (`engine-not-running`, `engine-no-metrics`,
    `engine-start-unknown`, and what Docker raises).
    """
    with _holding(place) as (store, now):
        engine = container()
        place.say("calibrate", "reading what the engine said when it started")
        started = start_log.parse(engine.log())
        if started.tokens is None:
            raise _start_unknown()
        told = metrics.parse(engine.metrics())
        made = _calibration(place, store, now, engine.container.started, started, told)
        before = read_calibration(store)
        path = _publish(store, CALIBRATION, calibration.dump(made))
        return Calibrated(made, path, calibration.stale(before, made.basis) if before else ())


def _calibration(
    place: Workplace,
    store: Store,
    now: Current,
    since: float,
    started: start_log.Started,
    told: metrics.Metrics,
) -> Calibration:
    place.say("calibrate", "computing what aibox fit says of it")
    serving = basis.serving_of(now.release)
    found, unknown = _predict(place, store, now, started.engine)
    fixed = serving.arguments.get(FROZEN)
    given = serving.kv_cache_gib * GIB if serving.kv_cache_gib else fixed
    mine = basis.of_release(now.release, hardware(serving))
    measured = _of_basis(store, now.release.id, mine)
    free = tuple(one and one * MIB for one in _free_mib(serving))
    # Only what was asked since this start has shown how much it takes.
    loaded = measured is not None and measured.made.timestamp() >= since
    freeze, why_not = calibration.to_freeze(
        started, gpus=bool(serving.gpus), frozen=fixed, free=free if loaded else None
    )
    return Calibration(
        version=calibration.VERSION,
        made=_now(),
        release=now.release.id,
        generation=now.generation,
        profile=now.release.profile,
        basis=mine,
        started=started,
        metrics=told,
        rows=calibration.compare(found, started, told, given, free),
        predicted=unknown,
        freeze=freeze,
        why_not=why_not,
        throughput=measured.measured if measured is not None else (),
    )


def _of_basis(store: Store, release: str, mine: basis.Basis) -> Results | None:
    """What was measured of a release, where it holds for what runs now."""
    found = read_results(store, release)
    return None if found is None or basis.differences(found.basis, mine) else found


def _free_mib(serving: Serving) -> tuple[int | None, ...]:
    """Of each GPU that the engine has; nothing on a processor."""
    here = gpus.detect().gpus if serving.gpus else ()
    return gpus.free_mib([here[index] for index in serving.gpus if index < len(here)])


def _predict(
    place: Workplace, store: Store, now: Current, version: str
) -> tuple[Answer | None, str]:
    """What `aibox fit` says of the weights in the box on the profile's hardware; or why nothing."""
    serving, wanted = basis.serving_of(now.release), now.release.hardware
    folder = store.layout.tree(now.generation) / "models" / serving.model
    arguments = {STAGES: 1, **serving.arguments}
    if serving.kv_cache_gib:
        arguments[FROZEN] = serving.kv_cache_gib * GIB
    plain = _RELEASE.match(version)
    try:
        known = catalogue.load(place.content.catalogue)
        on = (
            cards.of_profile(known, wanted, len(serving.gpus))
            if wanted is not None and serving.gpus
            else cards.Cards("the processor", 1, serving.memory_mib, None)
        )
        sources = question.Sources(known, release=plain[0] if plain else "")
        adjust = question.Adjustment(arguments=tuple(arguments.items()))
        return question.of_model(sources, str(folder), on, adjust), ""
    except AiboxError as error:
        return None, error.message


def bench(place: Workplace, concurrencies: Sequence[int], *, quick: bool) -> Results:
    """Measure the running engine at these concurrencies, and keep the result with its release.

    The box goes on answering meanwhile, slower. Raises `BadUsage` (`no-engine`), `Failed`
    (`engine-not-running`, `bench-…`, and what Docker raises).
    """
    with _holding(place) as (store, now):
        shapes = load.shapes(now.release.tuning, context_of(now.release), quick=quick)
        asked = load.loads(shapes, concurrencies, quick=quick)
        return keep(store, now, measure(place, now.release, asked, "bench"))


def context_of(release: Release) -> int | None:
    """The longest request in tokens, None where the release leaves it to the model."""
    found = basis.serving_of(release).arguments.get("max-model-len")
    return found if isinstance(found, int) and found > 0 else None


def measure(
    place: Workplace, release: Release, asked: Sequence[Load], step: str
) -> tuple[Measured, ...]:
    """Put these loads on the engine, one after the other; raises as `bench`."""
    engine, model = container(), basis.serving_of(release).model
    return tuple(
        _measured(place, engine, model, one, f"{step} {number}/{len(asked)}")
        for number, one in enumerate(asked, start=1)
    )


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


def keep(store: Store, now: Current, measured: tuple[Measured, ...]) -> Results:
    """Store what was measured of a generation with its release."""
    made = Results(
        version=results.VERSION,
        made=_now(),
        release=now.release.id,
        generation=now.generation,
        profile=now.release.profile,
        basis=basis.of_release(now.release, hardware(basis.serving_of(now.release))),
        measured=measured,
    )
    _publish(store, _file_of(now.release.id), results.dump(made))
    return made


def container() -> EngineContainer:
    """The engine's container on this host; raises `Failed` (`engine-not-running`)."""
    return EngineContainer.find(DockerEngine(), SERVICE, footing.key_of(SERVICE))


def hardware(serving: Serving) -> tuple[str, ...]:
    """What an engine runs on here."""
    return basis.hardware(gpus.detect(), serving.gpus, os.cpu_count() or 1)


def read_results(store: Store, release: str) -> Results | None:
    """What was measured of a release on this box; None where nothing is, or is readable."""
    data = _read(store.layout.root / _file_of(release))
    return None if data is None else results.parse(data)


def read_calibration(store: Store) -> Calibration | None:
    """The calibration of this box; None where there is none that can be read."""
    path = store.layout.root / CALIBRATION
    data = _read(path)
    try:
        return None if data is None else calibration.parse(data, str(path))
    except AiboxError:
        return None


def standing(store: Store, now: Current, found: tuple[str, ...] | None = None) -> str:
    """Whether the calibration counts: `none`, `valid`, `stale: …`; "" without an engine.

    `found` is the hardware, None where it is not looked at.
    """
    if SERVICE not in now.release.serving:
        return ""
    held = read_calibration(store)
    if held is None:
        return "none"
    mine = basis.of_release(now.release, held.basis.hardware if found is None else found)
    other = calibration.stale(held, mine)
    return f"stale: {'; '.join(other)}" if other else f"valid, of {held.made:%Y-%m-%d}"


def examine(store: Store, now: Current) -> tuple[Finding, ...]:
    """The finding of `aibox doctor` about the calibration; none without an engine."""
    if SERVICE not in now.release.serving:
        return ()
    told = standing(store, now, hardware(now.release.serving[SERVICE]))
    return (
        Finding(
            check="calibration",
            status=Status.WARN if told.startswith("stale") else Status.OK,
            found=told,
            expected="of the engine, the model and the hardware that run now, or none",
            fix="measure it anew: ./aibox calibrate",
        ),
    )


def sweep(store: Store) -> None:
    """Remove the results of releases that no generation has any more."""
    kept = {_file_of(store.release(number)).name for number in store.generations()}
    for path in sorted((store.layout.root / FOLDER).glob("bench-*.json")):
        if path.name not in kept:
            store.filesystem.unlink(path)


@contextmanager
def _holding(place: Workplace) -> Iterator[tuple[Store, Current]]:
    """The box with nobody else at work on it, and what it serves."""
    store = Store(place.root)
    require_current(store)
    with guard.hold(place.root):
        now = require_current(store)
        basis.serving_of(now.release)
        yield store, now


def _file_of(release: str) -> Path:
    return FOLDER / f"bench-{release}.json"


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
