"""The nearest change that would make it fit: what costs least in quality and money comes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aibox.errors import BadUsage
from aibox.fit import formats, models, parallel, parameters, weights
from aibox.fit.answer import Answer, admitted, answer
from aibox.fit.catalogue import ModelEntry
from aibox.fit.models import Sources

LEAST_CONTEXT = 1024
"""A context shorter than this, in tokens, is no use to anybody."""
MOST_GPUS = 16
_OF_A_PROFILE = ("together", "quantised-weights", "more-gpus", "smaller-model")
_FORMS = {"fp8": "FP8", "awq": "4 bits (AWQ)"}


@dataclass(frozen=True, slots=True)
class Change:
    """One change that makes it fit: what it is, in words, and how it is asked for."""

    kind: str
    told: str
    option: str


def changes(sources: Sources, found: Answer, *, fixed: bool = False) -> tuple[Change, ...]:
    """What would make it fit, each by itself; none when it fits or nothing helps.

    `fixed`: model and GPUs are a profile's, so changing them is no option of the same command.
    """
    if found.fits:
        return ()
    told = _ordered(sources, found)
    if not fixed:
        return told
    return tuple(replace(one, option="") if one.kind in _OF_A_PROFILE else one for one in told)


def _ordered(sources: Sources, found: Answer) -> tuple[Change, ...]:
    alone = tuple(_changes(sources, found))
    cheap = [one for one in alone if one.kind not in ("more-gpus", "smaller-model")]
    return alone if cheap else (*_together(sources, found), *alone)


def _changes(sources: Sources, found: Answer) -> Iterator[Change]:
    yield from _more_at_once(found)
    yield from _fewer_at_once(found)
    yield from _narrower_cache(found)
    yield from _plain_cache(found)
    yield from _shorter(found)
    yield from _other_weights(sources, found)
    yield from _more_gpus(found)
    yield from _smaller_model(sources, found)


def _more_at_once(found: Answer) -> Iterator[Change]:
    """Memory is there, and the engine is told to work on fewer than are asked for."""
    wanted = found.ask.concurrency or 0
    if wanted <= found.ask.engine.sequences:
        return
    tokens = max(wanted, found.ask.engine.batched_tokens)
    if _with(found, sequences=wanted, batched_tokens=tokens).fits:
        more = f" --set max-num-batched-tokens={tokens}"
        told = f"let the engine work on {wanted} requests at once, not on "
        yield Change(
            "more-sequences",
            f"{told}{found.ask.engine.sequences}",
            f"--set max-num-seqs={wanted}" + more * (tokens > found.ask.engine.batched_tokens),
        )


def _fewer_at_once(found: Answer) -> Iterator[Change]:
    """Room that the engine keeps for sorting the words of requests nobody sends."""
    wanted = max(found.ask.concurrency or 1, 8)
    for sequences in (256, 128, 64, 32, 16, 8):
        if sequences < wanted or sequences >= found.ask.engine.sequences:
            continue
        if _with(found, sequences=sequences).fits:
            told = f"let the engine work on {sequences} requests at once, not on "
            told += f"{found.ask.engine.sequences}: it keeps memory for each"
            yield Change("fewer-sequences", told, f"--set max-num-seqs={sequences}")
            return


def _narrower_cache(found: Answer) -> Iterator[Change]:
    compute = found.ask.cards.compute
    if found.ask.engine.cache_dtype != "auto" or found.subject.shape.cache_dtype:
        return
    if compute is None or not formats.stores_fp8(compute) or not found.pool.groups:
        return
    if _with(found, cache_dtype="fp8").fits:
        told = "keep contexts in FP8: half the memory, and answers to check in Korean"
        yield Change("fp8-cache", told, "--set kv-cache-dtype=fp8")


def _plain_cache(found: Answer) -> Iterator[Change]:
    """Contexts in 16 bits, where no kernel of the engine reads them in fewer."""
    compute = found.ask.cards.compute
    if not found.obstacles or compute is None or found.ask.engine.cache_dtype == "auto":
        return
    plain = formats.plain_cache(compute)
    if _with(found, cache_dtype=plain).fits:
        yield Change("plain-cache", "keep contexts in 16 bits", f"--set kv-cache-dtype={plain}")


def _shorter(found: Answer) -> Iterator[Change]:
    longest = longest_context(found)
    if LEAST_CONTEXT <= longest < found.context:
        many = found.ask.concurrency
        told = f"shorten requests to {longest:,} tokens" + (f", {many} at once" if many else "")
        yield Change("shorter-context", told, f"--context {longest}")


def longest_context(found: Answer) -> int:
    """The longest context, in tokens, with which it would surely fit as asked; 0 if with none."""
    if found.obstacles or not found.pool.groups:
        return 0
    low, high = 0, found.context
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _holds(found, middle) else (low, middle - 1)
    return low


def _holds(found: Answer, tokens: int) -> bool:
    starts = found.pool.starts(found.low.blocks, tokens, found.load)
    many = found.pool.concurrency(found.low.blocks, tokens, found.load)
    held = replace(found.low, concurrency=many)
    return starts and admitted(held, found.ask.engine) >= (found.ask.concurrency or 0)


def _other_weights(sources: Sources, found: Answer) -> Iterator[Change]:
    """The same model in fewer bits: such weights that the catalogue has, else computed."""
    entry = sources.catalogue.model(found.subject.name)
    kin = list(_forms_of(sources, entry)) if entry else []
    for other in kin:
        if (tried := _try_model(sources, found, other)) and _smaller(tried, found) and tried.fits:
            told = f"take the same model in fewer bits: {other.repository or other.name}"
            yield Change("quantised-weights", told, _asking_for(tried, found))
    if kin or found.subject.shape.quantised is not None:
        return
    for form, name in _FORMS.items():
        made = weights.counted(found.subject.shape, form)
        if made and answer(replace(found.subject, weights=made), found.ask).fits:
            told = (
                f"weights in {name} would fit ({made.total / 1e9:.0f} GB), if somebody makes them"
            )
            yield Change("quantised-weights", told, "--model FOLDER")
            return


def _together(sources: Sources, found: Answer) -> Iterator[Change]:
    """Where no change alone is enough: fewer bits of weights, and a context that fits them."""
    entry = sources.catalogue.model(found.subject.name)
    for other in _forms_of(sources, entry) if entry else ():
        tried = _try_model(sources, found, other)
        longest = longest_context(tried) if tried and _smaller(tried, found) else 0
        if longest >= LEAST_CONTEXT:
            told = f"the same model in fewer bits ({other.name}) and requests of {longest:,} tokens"
            yield Change("together", told, f"--model {other.name} --context {longest}")


def _forms_of(sources: Sources, entry: ModelEntry) -> Iterator[ModelEntry]:
    base = entry.like or entry.name
    for other in sources.catalogue.series(entry):
        if base in (other.name, other.like) and sources.catalogue.config(other):
            yield other


def _more_gpus(found: Answer) -> Iterator[Change]:
    cards = found.ask.cards
    if cards.compute is None:
        return
    for count in range(cards.count + 1, MOST_GPUS + 1):
        engine = parallel.largest_cut(found.subject.shape, count)
        if engine.gpus != count:
            continue
        cut = replace(
            found.ask.engine, tensor_parallel=engine.tensor_parallel, stages=engine.stages
        )
        ask = replace(found.ask, cards=replace(cards, count=count), engine=cut)
        if answer(found.subject, ask).fits:
            more = count - cards.count
            told = f"{more} more GPU{'' if more == 1 else 's'} of the same kind: {count} in all"
            told += f", in {engine.stages} stages" * (engine.stages > 1)
            yield Change("more-gpus", told, f"--count {count}")
            return


def _smaller_model(sources: Sources, found: Answer) -> Iterator[Change]:
    entry = sources.catalogue.model(found.subject.name)
    if entry is None:
        return
    tried = (_try_model(sources, found, other) for other in sources.catalogue.series(entry))
    fitting = [one for one in tried if one and _numbers(one) < _numbers(found) and one.fits]
    if fitting:
        best = max(fitting, key=_numbers)
        told = f"a smaller model of the same line: {best.subject.name}"
        if best.context < found.context:
            told += f", which takes requests of at most {best.context:,} tokens"
        yield Change("smaller-model", told, _asking_for(best, found))


def _asking_for(other: Answer, found: Answer) -> str:
    """How another model is asked for, with the context computed where it is not asked already."""
    option, asked = f"--model {other.subject.name}", found.ask.engine.context
    same = other.context == (other.subject.shape.untold if asked is None else asked)
    return option if same else f"{option} --context {other.context}"


def _try_model(sources: Sources, found: Answer, other: ModelEntry) -> Answer | None:
    """The same question for another model; None where it cannot be answered."""
    try:
        subject = models.known(sources, other.name).subject
        context = min(found.context, subject.shape.longest)
        count = found.ask.cards.count
        cut = parallel.largest_cut(subject.shape, count)
        if cut.gpus != count:
            return None
        engine = replace(
            found.ask.engine,
            context=context,
            tensor_parallel=cut.tensor_parallel,
            stages=cut.stages,
        )
        return answer(subject, replace(found.ask, engine=engine))
    except BadUsage:
        return None


def _smaller(one: Answer, other: Answer) -> bool:
    return one.subject.weights.total < other.subject.weights.total


def _numbers(one: Answer) -> int:
    return parameters.count(one.subject.shape).total


def _with(found: Answer, **changed: object) -> Answer:
    engine = replace(found.ask.engine, **changed)  # type: ignore[arg-type]
    return answer(found.subject, replace(found.ask, engine=engine))
