"""A calibration: a start of the engine on a site's hardware, beside what `aibox fit` computed.

It holds for one basis (engine, model, hardware, arguments) and is a file of the box. What it
proposes to freeze is taken in by `aibox lock --calibration`, where people review it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError

from aibox.errors import BadUsage, Fault
from aibox.fit import answer as answers
from aibox.fit.answer import Answer
from aibox.fit.engine import GIB
from aibox.measuring.basis import CHAT, Basis, differences
from aibox.measuring.load import Measured
from aibox.measuring.metrics import Metrics
from aibox.measuring.start_log import Started
from aibox.schema import Model, Name
from aibox.serving import FROZEN

VERSION = 2
"""Of version 1 each file is of the engine `chat`, and names none."""
SPARE = GIB
"""Bytes of each GPU that stay free: drivers and neighbours on the card differ from day to day."""
_ROUNDING = 0.012
"""Memory is logged with two decimals of a GiB: so far, relatively, tokens may be off by it."""
_STEP = 64 << 20
_SAME = 0.02


class Row(Model):
    """One value: what `aibox fit` said, between two ends, and what the engine said.

    `within` is None where one of them is unknown. The unit is in `what`.
    """

    what: str
    low: float | None = None
    high: float | None = None
    measured: float | None = None
    within: bool | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of one GPU: what nobody holds of it, and how much of that engines beside need.

    They need it to start, for their share of the card is more than they hold. None is unknown.
    """

    free: int | None
    needed: int | None = 0


class Calibration(Model):
    """The file. `freeze` are the bytes per GPU for `kv-cache-memory-bytes`, None with `why_not`.

    `service` is the engine that it is of. `predicted` says why nothing was computed, "" when it
    was. `throughput` is what the last `aibox bench` of the same basis measured; nothing where there
    was none.
    """

    version: Annotated[int, Field(ge=1)]
    made: AwareDatetime
    release: str
    generation: int
    profile: Name
    service: Name = CHAT
    basis: Basis
    started: Started
    metrics: Metrics
    rows: tuple[Row, ...]
    predicted: str = ""
    freeze: Annotated[int, Field(gt=0)] | None = None
    why_not: str = ""
    throughput: tuple[Measured, ...] = ()


def compare(
    found: Answer | None,
    started: Started,
    metrics: Metrics,
    given: int | None,
    free: Sequence[int | None] = (),
) -> tuple[Row, ...]:
    """What was computed beside what was measured; `given` are bytes that the profile fixed.

    `free` are the bytes that nobody holds of each GPU.
    """
    known = [one for one in free if one is not None]
    memory = metrics.cache_bytes or _as_logged(started.cache_gib, given)
    held = None if memory is None else memory / GIB
    tokens = started.tokens or metrics.tokens
    predicted = _predicted(found, memory)
    return (
        _row("weights, GiB a GPU", predicted[0], started.weights_gib, slack=0.1),
        _row("memory for contexts, GiB a GPU", predicted[1], held),
        _row("tokens of context", predicted[2], tokens),
        _row("tokens of context, from the memory that was found", predicted[3], tokens),
        _row("requests of full length at once", predicted[4], started.concurrency),
        _row("memory left free, GiB a GPU", None, min(known) / GIB if known else None),
    )


_Ends = tuple[float, float] | None


def _predicted(found: Answer | None, memory: int | None) -> tuple[_Ends, ...]:
    """Both ends of each row; None where nothing was computed."""
    if found is None:
        return (None,) * 5
    low, high, weights = found.low, found.high, found.weights_per_gpu / GIB
    exact = None if memory is None else _tokens_of(found, memory)
    return (
        (weights, weights),
        (max(0, low.memory) / GIB, max(0, high.memory) / GIB),
        (low.tokens, high.tokens),
        None if exact is None else (exact, exact),
        (low.concurrency, high.concurrency),
    )


def _row(what: str, ends: _Ends, measured: float | None, slack: float = _ROUNDING) -> Row:
    seen = None if measured is None else round(measured, 2)
    if ends is None:
        return Row(what=what, measured=seen)
    low, high = ends
    within = None if measured is None else low * (1 - slack) <= measured <= high * (1 + slack)
    return Row(what=what, low=round(low, 2), high=round(high, 2), measured=seen, within=within)


def _tokens_of(found: Answer, memory: int) -> int:
    engine = found.ask.engine
    return answers.capacity(found.pool, found.load, found.context, memory, engine).tokens


def _as_logged(gib: float | None, given: int | None) -> int | None:
    """What the log says in bytes; where that is what was fixed, to the last of them."""
    if gib is None:
        return None
    if given is not None and round(given / GIB, 2) == gib:
        return given
    return int(gib * GIB)


def to_freeze(
    started: Started,
    *,
    gpus: bool,
    frozen: int | None,
    rooms: Sequence[Room],
    first: str = "",
    held: int | None = None,
) -> tuple[int | None, str]:
    """The bytes per GPU to freeze for contexts; without any, why not.

    `frozen` is what the release fixes already: the engine measures nothing then, and what stays
    free of each GPU under load decides. `first` are the commands that have to come before, because
    not every engine on the GPUs has been under load since its start; "" when each has. `held` are
    the bytes that the engine says were fixed for it; None where it does not say.
    """
    if not gpus:
        return None, "on a processor the profile's kv_cache_gib fixes the memory already"
    if frozen is not None and held is not None and held != frozen:
        return None, (
            f"the release fixes {FROZEN} = {frozen} and the engine runs with {held}: it is of "
            "another release; start it anew: ./aibox stop, then: ./aibox start"
        )
    if frozen is not None:
        return _from_what_is_free(frozen, rooms, first)
    if started.suggested is None or started.suggested <= 0:
        return None, "the engine's log does not say what it would freeze"
    return started.suggested, ""


def _from_what_is_free(frozen: int, rooms: Sequence[Room], first: str) -> tuple[int | None, str]:
    if first:
        return None, (
            f"the release fixes {FROZEN} = {frozen}, so the engine measured nothing itself; what "
            f"stays free under load tells more: {first}"
        )
    known = [(one.free, one.needed) for one in rooms if one.free is not None]
    if len(known) < len(rooms) or not known:
        return None, "the driver does not say what stays free of each GPU"
    spare = [free - max(SPARE, needed) for free, needed in known if needed is not None]
    if len(spare) < len(known):
        return None, "what the engines on the same GPUs need at their start could not be computed"
    found = (frozen + min(spare)) // _STEP * _STEP
    if found <= 0:
        least = min(free for free, _ in known)
        return None, f"nothing is left for contexts: of a GPU only {least} bytes stay free"
    if abs(found - frozen) <= _SAME * frozen:
        return None, f"{FROZEN} = {frozen} of the release is what fits"
    return found, ""


def stale(found: Calibration, now: Basis) -> tuple[str, ...]:
    """Why a calibration counts no more for what runs now; nothing while it does."""
    return differences(found.basis, now)


def dump(found: Calibration) -> bytes:
    """The file's bytes."""
    text = json.dumps(found.model_dump(mode="json"), ensure_ascii=False, indent=1, sort_keys=True)
    return (text + "\n").encode()


def parse(data: bytes, source: str) -> Calibration:
    """Read a file; raises `BadUsage` (`calibration-too-new`, `calibration-unreadable`)."""
    try:
        told = json.loads(data)
        if isinstance(told, dict) and isinstance(told.get("version"), int):
            _refuse_newer(told["version"], source)
        return Calibration.model_validate(told)
    except (ValueError, ValidationError, RecursionError) as error:
        raise BadUsage(
            "calibration-unreadable",
            f"{source} is not a calibration",
            context=str(error).splitlines()[0][:200],
            hint="make one on the box, with its engine running: ./aibox calibrate",
            fault=Fault.YOU,
        ) from error


def _refuse_newer(version: int, source: str) -> None:
    if version > VERSION:
        raise BadUsage(
            "calibration-too-new",
            f"{source} has version {version}; this aibox reads up to {VERSION}",
            hint="use the aibox that made it, or one as new: ./aibox --version",
            fault=Fault.YOU,
        )
