"""From names to what can be computed: models and GPUs of the lock, the catalogue and profiles."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aibox.engine_kinds import KindName
from aibox.errors import BadUsage, Fault
from aibox.fit import answer as answers
from aibox.fit import cards as gpus
from aibox.fit import fields, files, loadable, overhead, parallel, reading, weights
from aibox.fit.answer import Answer, Ask, Neighbour, Subject
from aibox.fit.cards import Cards
from aibox.fit.catalogue import ArchitectureEntry, Catalogue, ModelEntry, Use
from aibox.fit.engine import CUT, GIB, MIB, STAGES, Engine, cut_in, from_arguments
from aibox.fit.shapes import Shape
from aibox.fit.weights import Weights
from aibox.lock import ModelsLock
from aibox.pins import ModelPin
from aibox.profile import Profile
from aibox.serving import Serving

CONFIG = "config.json"
_POOLED_TOKENS = 8192
"""The longest text for which an embedder beside a language model is given room."""
_LONGEST = 200
"""Letters of a name that are looked at."""
_ALIKE = 1.5
"""How much more or less than counted real weights have at most: some keep their words twice."""
_ROOM = GIB // 2
"""Left free on a card that engines share: each brings its own driver context."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where models and GPUs are looked up; `release` is that of the engine ("" any)."""

    catalogue: Catalogue
    lock: ModelsLock | None = None
    release: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A model that was found: what is computed with, and what the catalogue says of it."""

    subject: Subject
    entry: ModelEntry | None
    architecture: ArchitectureEntry


def release_of(profile: Profile, image: str) -> str:
    """The engine's release by the tag of a profile's image; "" where the tag does not say."""
    references = (wish.reference for wish in profile.image if wish.name == image)
    return next(map(loadable.release_in, references), "")


def known(sources: Sources, name: str, draft: str = "") -> Known:
    """The model of this name, repository or folder; raises `BadUsage` (`fit-model-…`)."""
    found = _of_folder(sources, Path(name)) if _is_folder(name) else _of_name(sources, name)
    if not draft:
        return found
    beside = known(sources, draft).subject
    subject = replace(found.subject, draft=beside.shape, draft_weights=beside.weights)
    return replace(found, subject=subject)


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
    found = known(sources, name, engine.draft_model)
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
    subject = known(of_release, name, engine.draft_model).subject
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
    asked = known(sources, name)
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


def _is_folder(name: str) -> bool:
    return _is_there(name) and (Path(name) / CONFIG).is_file()


def _is_there(name: str) -> bool:
    """Whether a folder has this name, and may be looked into."""
    try:
        return bool(name) and Path(name).is_dir() and os.access(name, os.R_OK | os.X_OK)
    except (OSError, ValueError):  # a name that no folder can have
        return False


def _of_folder(sources: Sources, folder: Path) -> Known:
    read = fields.read(folder / CONFIG)
    architecture = sources.catalogue.architecture(reading.architecture_of(read))
    _refuse_what_cannot_load(sources, folder.name, architecture)
    shape = reading.shape_of(read, architecture.family)
    found = files.of_folder(folder, shape)
    odd = _odd(folder, shape, found) if found is not None else ()
    found = found or weights.counted(shape)
    if found is None:
        raise _weights_unknown(str(folder), "the folder has no safetensors files")
    return Known(Subject(folder.name, shape, found, notes=odd), None, architecture)


def _odd(folder: Path, shape: Shape, found: Weights) -> tuple[str, ...]:
    """What is odd of weights beside a config.json; raises `BadUsage` where too few are there."""
    share = weights.share_of_counted(shape, found)
    if 1 / _ALIKE < share < _ALIKE:
        return ()
    there = f"{found.total / 1e9:,.1f} GB of weights ({found.source})"
    told = f"{there} are {share:.2g} times what its config.json describes"
    if share > 1:
        return (f"{told}: see whether they belong together; the weights are believed",)
    raise BadUsage(
        "model-weights-contradictory",
        f"weights and config.json in {folder} do not belong together: {told}",
        hint="download both from one revision of the model, then: "
        "./aibox fit --model FOLDER --gpu GPU",
        fault=Fault.YOU,
    )


def _of_name(sources: Sources, name: str) -> Known:
    entry = sources.catalogue.model(name)
    if entry is None:
        raise _unknown(sources, name)
    architecture = sources.catalogue.architecture(entry.architecture)
    _refuse_what_cannot_load(sources, entry.name, architecture, entry)
    shape = shape_of(sources.catalogue, entry)
    found = _pinned(sources.lock, entry) or _catalogued(entry) or weights.counted(shape)
    if found is None:
        raise _weights_unknown(entry.name, "neither the lock nor the catalogue has their size")
    return Known(Subject(entry.name, shape, found), entry, architecture)


def shape_of(catalogue: Catalogue, entry: ModelEntry) -> Shape:
    """The shape of a model of the catalogue; raises `BadUsage` (`fit-config-unknown`)."""
    config = catalogue.config(entry)
    if not config:
        raise BadUsage(
            "fit-config-unknown",
            f"nobody has read the config.json of {entry.repository or entry.name}, so what it "
            "needs is unknown",
            hint="download that file into a folder, then: ./aibox fit --model FOLDER --gpu GPU",
            fault=Fault.US,
        )
    config = {"architectures": [entry.architecture], **config}
    read = fields.parse(json.dumps(config).encode(), f"the catalogue's {entry.name}")
    return reading.shape_of(read, catalogue.architecture(entry.architecture).family)


def _pinned(lock: ModelsLock | None, entry: ModelEntry) -> Weights | None:
    """By the sizes in the lock, where it has that of every file of weights."""
    for pin in lock.model if lock else ():
        if pin.repository == entry.repository and (total := _size(pin)):
            return Weights(total, "models.lock")
    return None


def _size(pin: ModelPin) -> int:
    files = [file for file in pin.files if file.path.endswith(".safetensors")]
    return 0 if any(file.size is None for file in files) else sum(file.size or 0 for file in files)


def _catalogued(entry: ModelEntry) -> Weights | None:
    fact = entry.weights_bytes
    return Weights(fact.value, f"the catalogue: {fact.source}") if fact else None


def _refuse_what_cannot_load(
    sources: Sources, name: str, one: ArchitectureEntry, entry: ModelEntry | None = None
) -> None:
    own = entry.instead if entry is not None else ""
    for told in loadable.reasons(sources.release, one, entry):
        raise _refused(name, told, own or one.instead)


def _refused(name: str, told: str, instead: str) -> BadUsage:
    return BadUsage(
        "fit-not-loadable",
        f"{name} cannot be served: {told}",
        hint=f"{instead or 'take another model'}; see what can be served: ./aibox fit --list",
        fault=Fault.UPSTREAM,
    )


def _unknown(sources: Sources, name: str) -> BadUsage:
    names, short = [entry.name for entry in sources.catalogue.models], name[:_LONGEST]
    close = difflib.get_close_matches(short.lower(), names, n=3, cutoff=0.5)
    told = f"; did you mean {' or '.join(close)}?" if close else ""
    if short.lower().endswith(".gguf") or (_is_there(name) and any(Path(name).glob("*.gguf"))):
        told = "; files of GGUF are not for this engine, but for llama.cpp and Ollama"
    return BadUsage(
        "fit-model-unknown",
        f"{short!r} is neither a model of the catalogue nor a folder with a config.json that can "
        f"be read{told}",
        hint="see those that are known: ./aibox fit --list",
        fault=Fault.YOU,
    )


def _weights_unknown(name: str, told: str) -> BadUsage:
    return BadUsage(
        "fit-weights-unknown",
        f"how large the weights of {name} are is unknown: {told}, and models of its kind are "
        "not counted here",
        hint="put config.json and model.safetensors.index.json in a folder, then: "
        "./aibox fit --model FOLDER --gpu GPU",
        fault=Fault.US,
    )
