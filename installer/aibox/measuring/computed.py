"""What `aibox fit` says of an engine of a box: the weights there, and the engines on the same GPUs.

The shapes come from the files of the models, so a model that the catalogue does not have is
computed as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aibox.errors import AiboxError
from aibox.fit import answer as answers
from aibox.fit import cards, catalogue, question
from aibox.fit.answer import Answer, Ask, Neighbour, Subject
from aibox.fit.catalogue import Catalogue
from aibox.fit.engine import GIB, STAGES
from aibox.fit.models import Sources
from aibox.measuring import basis
from aibox.release import Release
from aibox.serving import FROZEN, Serving

_RELEASE = re.compile(r"[0-9]+(\.[0-9]+){1,2}")
_Asked = tuple[Subject, Ask]


@dataclass(frozen=True, slots=True)
class Computed:
    """What was computed; without an `answer`, why nothing was (`unknown`).

    `needed` are bytes of each of the engine's GPUs that must stay free, or an engine beside it
    does not start again: it wants its whole share of the card free, and holds less. None unknown.
    """

    answer: Answer | None
    unknown: str
    needed: tuple[int | None, ...]


def of_release(
    folder: Path,
    models: Path,
    release: Release,
    service: str,
    version: str,
    memory_mib: Sequence[int | None],
) -> Computed:
    """Compute one service of a release; never raises for what cannot be computed.

    `folder` is the catalogue, `models` where the weights of each model are; `version` is what the
    engine calls itself; `memory_mib` is what the driver reports of each of its GPUs that is there.
    """
    others = basis.beside(release, service)
    try:
        known = catalogue.load(folder)
        serving = {name: release.serving[name] for name in (service, *others)}
        asks = {
            name: _asked(known, models, release, one, version if name == service else "")
            for name, one in serving.items()
        }
        beside = question.beside(serving, asks, service)
        subject, ask = asks[service]
        found = answers.answer(subject, replace(ask, neighbours=question.fullest(beside)))
    except AiboxError as error:
        nothing = (None if others else 0,) * len(memory_mib)
        return Computed(None, error.message, nothing)
    needed = zip(beside, memory_mib, strict=False)
    return Computed(found, "", tuple(_needed(asks, here, mib) for here, mib in needed))


def _asked(known: Catalogue, models: Path, release: Release, item: Serving, version: str) -> _Asked:
    """A service as a question: cut over its GPUs as the box does it."""
    arguments = {STAGES: 1, **item.arguments}
    if item.kv_cache_gib:
        arguments[FROZEN] = item.kv_cache_gib * GIB
    plain = _RELEASE.match(version)
    on = (
        cards.of_profile(known, release.hardware, len(item.gpus))
        if release.hardware is not None and item.gpus
        else cards.Cards("the processor", 1, item.memory_mib, None)
    )
    sources = Sources(known, release=plain[0] if plain else "")
    adjust = question.Adjustment(arguments=tuple(arguments.items()))
    found = question.of_model(sources, str(models / item.model), on, adjust)
    return found.subject, found.ask


def _needed(asks: Mapping[str, _Asked], beside: Sequence[Neighbour], memory_mib: int | None) -> int:
    """The most that one of the engines on a GPU wants free at its start beyond what it holds."""
    return max((_share(asks[one.name][1], memory_mib) - one.low for one in beside), default=0)


def _share(ask: Ask, memory_mib: int | None) -> int:
    """Bytes that an engine wants free of a GPU; of the least one where the driver says nothing."""
    reported = ask.cards.memory_mib if memory_mib is None else memory_mib
    return answers.budget(replace(ask, cards=replace(ask.cards, memory_mib=reported)))
