"""What is asked: the engines of a profile, or a model on GPUs, as values to compute with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aibox.engine_kinds import KindName
from aibox.errors import BadUsage, Fault
from aibox.fit import answer as answers
from aibox.fit import cards as gpus
from aibox.fit import loadable, models, overhead, parallel, weights
from aibox.fit.answer import Answer, Ask, Neighbour, Subject
from aibox.fit.cards import Cards
from aibox.fit.catalogue import Use
from aibox.fit.engine import CUT, GIB, MIB, STAGES, Engine, cut_in, from_arguments
from aibox.fit.models import Sources
from aibox.fit.shapes import Shape
from aibox.profile import Profile
from aibox.serving import Serving

_POOLED_TOKENS = 8192
"""The longest text for which an embedder beside a language model is given room."""
_ROOM = GIB // 2
"""Left free on a card that engines share: each brings its own driver context."""


def release_of(profile: Profile, image: str) -> str:
    """The engine's release by the tag of a profile's image; "" where the tag does not say."""
    references = (wish.reference for wish in profile.image if wish.name == image)
    return next(map(loadable.release_in, references), "")


def of_profile(sources: Sources, profile: Profile, adjust: Adjustment) -> dict[str, Answer]:
    """An answer for each engine of a profile, by service; raises `BadUsage`.

    Who writes is asked for what the profile promises to hold, where `adjust` says nothing else.
    """
    if not profile.serving:
        raise BadUsage(
            "fit-no-engine",
            f"the profile {profile.name!r} serves no model of its own, so nothing has to fit",
            hint="see which do: ./aibox profiles",
            fault=Fault.YOU,
        )
    promised = _promised(profile, adjust)
    asks = {
        service: _ask_of(sources, profile, item, promised if service == "chat" else Adjustment())
        for service, item in sorted(profile.serving.items())
    }
    return {
        service: answers.answer(
            subject, replace(ask, neighbours=fullest(beside(profile.serving, asks, service)))
        )
        for service, (subject, ask) in asks.items()
    }


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What a question changes of a profile or of the engine's defaults."""

    context: int | None = None
    concurrency: int | None = None
    arguments: tuple[tuple[str, object], ...] = ()
    beside: tuple[str, ...] = ()


def _promised(profile: Profile, adjust: Adjustment) -> Adjustment:
    if profile.capacity is None or adjust.concurrency or adjust.context:
        return adjust
    return replace(adjust, concurrency=profile.capacity.concurrency)


def of_model(sources: Sources, name: str, cards: Cards, adjust: Adjustment) -> Answer:
    """An answer for a model on GPUs, cut as widely as goes; raises `BadUsage`."""
    arguments = dict(adjust.arguments)
    engine = _engine(arguments, cards, 1)
    found = models.known(sources, name, engine.draft_model)
    engine = _cut(found.subject.shape, engine, arguments, cards.count)
    engine = replace(engine, context=adjust.context or engine.context)
    neighbours = tuple(_beside(sources, other, cards) for other in adjust.beside)
    engine = replace(engine, utilization=_room(engine, cards, neighbours))
    return answers.answer(
        found.subject,
        Ask(cards, engine, adjust.concurrency, neighbours, sources.release),
    )


def _cut(shape: Shape, engine: Engine, arguments: Mapping[str, object], count: int) -> Engine:
    """The engine over so many GPUs, as the arguments say, else cut as widely as goes.

    Where nothing goes, every layer is cut over all, which the answer then says.
    """
    if arguments.keys() & {STAGES, CUT}:
        wide = cut_in(arguments) or max(1, count // engine.stages)
        long = engine.stages if STAGES in arguments else max(1, count // wide)
        if wide * long != count:
            raise BadUsage(
                "fit-cut-contradictory",
                f"{wide} GPUs to a layer and {long} stages are {wide * long} GPUs, "
                f"and {count} are named",
                hint=f"for example: ./aibox fit --model M --gpu G --count {wide * long}",
                fault=Fault.YOU,
            )
        return replace(engine, tensor_parallel=wide, stages=long)
    found = parallel.largest_cut(shape, count)
    if found.gpus != count:
        return replace(engine, tensor_parallel=count)
    return replace(engine, tensor_parallel=found.tensor_parallel, stages=found.stages)


def _engine(arguments: dict[str, object], cards: Cards, tensor_parallel: int) -> Engine:
    return from_arguments(
        arguments,
        tensor_parallel=tensor_parallel,
        memory_mib=cards.memory_mib,
        name=cards.name,
        cpu=cards.compute is None,
    )


def _ask_of(
    sources: Sources, profile: Profile, item: Serving, adjust: Adjustment
) -> tuple[Subject, Ask]:
    if item.kind is KindName.LLAMA:
        raise BadUsage(
            "fit-engine-not-modelled",
            f"the profile {profile.name!r} serves {item.model} with llama.cpp, and only what vLLM "
            "takes is computed here",
            hint="see what the box took once it runs: ./aibox status",
            fault=Fault.US,
        )
    if told := sorted(dict(adjust.arguments).keys() & {STAGES, CUT}):
        raise BadUsage(
            "fit-cut-of-profile",
            f"how the profile {profile.name!r} cuts its models is its own; {told[0]} is not asked",
            hint="ask for the model on GPUs: ./aibox fit --model M --gpu G --count N "
            f"--set {told[0]}=2",
            fault=Fault.YOU,
        )
    cards = _cards_of(sources, profile, item)
    arguments = {**item.arguments, **dict(adjust.arguments)}
    engine = _engine(arguments, cards, item.tensor_parallel)
    if item.kv_cache_gib is not None:
        engine = replace(engine, cache_memory=item.kv_cache_gib * GIB)
    engine = replace(engine, context=adjust.context or engine.context)
    of_release = replace(sources, release=release_of(profile, item.image))
    wished = next(wish.repository for wish in profile.model if wish.name == item.model)
    name = item.model if sources.catalogue.model(item.model) else wished
    subject = models.known(of_release, name, engine.draft_model).subject
    release = of_release.release
    return subject, Ask(cards, engine, adjust.concurrency, release=release)


def _cards_of(sources: Sources, profile: Profile, item: Serving) -> Cards:
    if profile.hardware is None or not item.gpus:
        return Cards("the processor", 1, item.memory_mib, None)
    return gpus.of_profile(sources.catalogue, profile.hardware, len(item.gpus))


def beside(
    serving: Mapping[str, Serving], asks: Mapping[str, tuple[Subject, Ask]], service: str
) -> tuple[tuple[Neighbour, ...], ...]:
    """The other engines on each of this one's GPUs; `asks` has every service of `serving`."""
    taking = {name: _taking(name, *asks[name]) for name in serving if name != service}
    return tuple(
        tuple(one for name, one in taking.items() if index in serving[name].gpus)
        for index in serving[service].gpus
    )


def fullest(found: Sequence[tuple[Neighbour, ...]]) -> tuple[Neighbour, ...]:
    """The engines on that of some GPUs where they take most: that one decides."""
    return max(found, key=lambda beside: sum(one.high for one in beside), default=())


def _taking(name: str, subject: Subject, ask: Ask) -> Neighbour:
    """What an engine takes of each card: all it may, unless it keeps no contexts."""
    held = weights.per_gpu(subject.shape, subject.weights, ask.engine)
    low, high = (
        held + own for own in overhead.of_engine(overhead.parts(subject.shape, ask.engine))
    )
    if not subject.shape.attends:
        # It takes no more than it needs, but does not start where less than its share is free.
        return Neighbour(name, low, max(high, answers.budget(ask)))
    if ask.engine.cache_memory is not None:
        return Neighbour(name, low + ask.engine.cache_memory, high + ask.engine.cache_memory)
    taken = answers.budget(ask)
    return Neighbour(name, taken, taken)


def _beside(sources: Sources, name: str, cards: Cards) -> Neighbour:
    """An embedder or reranker on the same cards, with room for one long text."""
    asked = models.known(sources, name)
    if asked.entry is not None and asked.entry.use is Use.CHAT:
        raise BadUsage(
            "fit-beside-writes",
            f"{asked.entry.name} writes, and what runs beside a model here is an embedder or a "
            "reranker: two that write share a card by what a profile freezes",
            hint="for example: ./aibox fit --model qwen3-32b-awq --gpu l40s --beside bge-m3",
            fault=Fault.YOU,
        )
    subject = asked.subject
    engine = Engine(batched_tokens=_POOLED_TOKENS, sequences=32)
    found = answers.answer(subject, Ask(replace(cards, count=1), engine))
    tokens = min(_POOLED_TOKENS, subject.shape.longest)
    blocks = found.pool.per_request(tokens, found.load) + 1
    room = blocks * found.pool.bytes_per_block(found.pool.stages[0]) if found.pool.groups else 0
    held = found.weights_per_gpu + room
    low, high = (held + own for own in overhead.of_engine(found.parts))
    return Neighbour(subject.name, low, high)


def _room(engine: Engine, cards: Cards, neighbours: Sequence[Neighbour]) -> float:
    """The share of a card that leaves room for the others, rounded down to a hundredth."""
    if not neighbours:
        return engine.utilization
    total = cards.memory_mib * MIB
    left = total - sum(one.high for one in neighbours) - _ROOM * len(neighbours)
    return max(0.01, min(engine.utilization, int(100 * left / total) / 100))
