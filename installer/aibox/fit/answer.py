"""Whether one engine with one model fits on some cards, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from aibox.errors import BadUsage, Fault
from aibox.fit import caches, formats, overhead, parallel, weights
from aibox.fit.blocks import Load, Pool
from aibox.fit.cards import Cards
from aibox.fit.engine import ARITHMETIC, FOLLOWED, MIB, Engine
from aibox.fit.overhead import Part
from aibox.fit.shapes import Shape
from aibox.fit.weights import Weights

TYPICAL = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
"""Lengths of requests, in tokens, for which concurrency is told."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model: what it is called, its shape and its weights; a draft model that runs beside it.

    `notes` say what is odd of it.
    """

    name: str
    shape: Shape
    weights: Weights
    draft: Shape | None = None
    draft_weights: Weights | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another engine on the same cards and the bytes it takes of each."""

    name: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked: cards, engine, and how many requests of the full length at once.

    `release` is that of the engine, "" any.
    """

    cards: Cards
    engine: Engine
    concurrency: int | None = None
    neighbours: tuple[Neighbour, ...] = ()
    release: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a certain amount of memory for contexts holds."""

    memory: int
    blocks: int
    tokens: int
    concurrency: float
    starts: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found. `low` is with the most that an engine takes for itself, `high` the least.

    `fits` is decided by `low`; `obstacles` stop the engine whatever the memory is.
    """

    subject: Subject
    ask: Ask
    context: int
    weights_per_gpu: int
    adapters_per_gpu: int
    bytes_per_token: int
    parts: tuple[Part, ...]
    low: Capacity
    high: Capacity
    at_lengths: tuple[tuple[int, float, float], ...]
    obstacles: tuple[str, ...]
    notes: tuple[str, ...]
    pool: Pool
    load: Load

    @property
    def fits(self) -> bool:
        """Whether it surely starts and serves what was asked."""
        return not self.obstacles and self.holds(self.low)

    @property
    def may_fit(self) -> bool:
        """Whether it would if the engine takes the least it was seen to."""
        return not self.obstacles and self.holds(self.high)

    @property
    def margin(self) -> int:
        """Bytes per GPU beyond what was asked, in the worst case; negative is what lacks."""
        if not self.pool.groups:
            return self.low.memory
        wanted = (self.ask.concurrency or 1) * self.pool.per_request(self.context, self.load)
        spare = (self.low.blocks - 1 - wanted) * self.pool.bytes_per_block(self.pool.stages[0])
        return spare if self.low.blocks else self.low.memory - wanted * _block(self.pool)

    def holds(self, capacity: Capacity) -> bool:
        """Whether a capacity is enough for what was asked."""
        wanted = self.ask.concurrency or 0
        return capacity.starts and admitted(capacity, self.ask.engine) >= wanted


def admitted(capacity: Capacity, engine: Engine) -> float:
    """Requests of the full length that run at once: the engine also limits their number."""
    return min(capacity.concurrency, engine.sequences)


def answer(subject: Subject, ask: Ask) -> Answer:
    """Compute. Raises `BadUsage` (`fit-context-too-long` and what the parts raise)."""
    subject = _computed_in(subject, ask)
    engine = _guessing(ask.engine, subject.shape)
    ask, shape = replace(ask, engine=engine), subject.shape
    context = context_of(shape, engine)
    blocked, told = _on_cards(shape, ask)
    parts = overhead.parts(shape, engine)
    held = weights.per_gpu(shape, subject.weights, engine)
    if subject.draft is not None and subject.draft_weights is not None:
        held += weights.per_gpu(subject.draft, subject.draft_weights, replace(engine, stages=1))
    slots = weights.adapters(shape, engine)
    pool, load = caches.pool_of(shape, engine, subject.draft), caches.load_of(shape, engine)
    free = _available(ask, held + slots, parts)
    low, high = (capacity(pool, load, context, memory, engine) for memory in free)
    return Answer(
        subject=subject,
        ask=ask,
        context=context,
        weights_per_gpu=held,
        adapters_per_gpu=slots,
        bytes_per_token=caches.bytes_per_token(shape, engine),
        parts=parts,
        low=low,
        high=high,
        at_lengths=tuple(_at_lengths(pool, load, context, low, high, engine)),
        obstacles=blocked,
        notes=(*subject.notes, *ask.cards.notes, *told, *_of_release(ask.release)),
        pool=pool,
        load=load,
    )


def _guessing(engine: Engine, shape: Shape) -> Engine:
    """Told no number of tokens to guess, the engine guesses one for each layer that does."""
    if engine.draft_method != "mtp" or engine.drafted:
        return engine
    return replace(engine, drafted=shape.drafts)


def _computed_in(subject: Subject, ask: Ask) -> Subject:
    """The model with numbers of 32 bits where the engine computes in them.

    Told nothing it takes 16 where it can, whatever the files have.
    """
    if formats.computed_in(subject.shape, ask.cards.compute, ask.engine.dtype) != "float32":
        return subject
    shape, found = subject.shape, subject.weights
    times = 1 if weights.is_wide(shape, found) or shape.quantised is not None else 2
    return replace(
        subject,
        shape=replace(shape, number_bytes=4),
        weights=replace(found, total=times * found.total, drafts=times * found.drafts, wide=False),
    )


def _on_cards(shape: Shape, ask: Ask) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stops the engine on these cards, and what to know of them."""
    cut, compute = parallel.obstacles(shape, ask.engine), ask.cards.compute
    if (step := ask.engine.batched_tokens) < (many := ask.engine.sequences):
        told = f"max-num-batched-tokens of {step} is less than max-num-seqs of {many}"
        cut = (*cut, f"{told}, which the engine refuses")
    if compute is None:
        return cut, ()
    if refused := tuple(formats.obstacles(shape, ask.engine, compute)):
        return (*cut, *refused), ()
    return cut, tuple(formats.notes(shape, ask.engine, compute))


def _of_release(release: str) -> tuple[str, ...]:
    if release in ("", ARITHMETIC, FOLLOWED):
        return ()
    return (
        f"computed by the rules of vLLM {ARITHMETIC}, which {FOLLOWED} was seen to follow on a "
        f"real card; the pinned engine is {release}, and nobody has compared its blocks",
    )


def context_of(shape: Shape, engine: Engine) -> int:
    """The longest request in tokens; raises `BadUsage` where it is more than the model's own."""
    if engine.context is not None and engine.context > shape.longest:
        raise BadUsage(
            "fit-context-too-long",
            f"{engine.context} tokens are more than the {shape.longest} that the model was made "
            "for; the engine refuses to start",
            hint=f"for example: ./aibox fit --model NAME --gpu GPU --context {shape.longest}",
            fault=Fault.YOU,
        )
    return engine.context or shape.untold


def capacity(pool: Pool, load: Load, context: int, memory: int, engine: Engine) -> Capacity:
    """What `memory` bytes per GPU hold of requests of `context` tokens."""
    if not pool.groups:
        # No layer keeps anything: as many as the engine lets in.
        return Capacity(max(0, memory), 0, 0, float(engine.sequences), memory >= 0)
    blocks = pool.count([max(0, memory)] * len(pool.stages))
    return Capacity(
        memory=memory,
        blocks=blocks,
        tokens=pool.tokens(blocks, context, load),
        concurrency=pool.concurrency(blocks, context, load),
        starts=pool.starts(blocks, context, load),
    )


def budget(ask: Ask) -> int:
    """Bytes per GPU that the engine may take in all."""
    return ceil(ask.cards.memory_mib * MIB * ask.engine.utilization)


def _available(ask: Ask, held: int, parts: Sequence[Part]) -> tuple[int, int]:
    """Bytes per GPU for contexts, at worst and at best; below zero is what lacks for the rest."""
    total = ask.cards.memory_mib * MIB
    taken = [sum(getattr(one, end) for one in ask.neighbours) for end in ("high", "low")]
    frozen = ask.engine.cache_memory
    if frozen is not None:
        most, least = (sum(getattr(one, end) for one in parts) for end in ("high", "low"))
        worst, best = held + most, held + least
        return tuple(  # type: ignore[return-value]
            frozen if frozen + own + other <= total else total - own - other
            for own, other in zip((worst, best), taken, strict=True)
        )
    low, high = overhead.of_share(parts, ask.engine.utilization)
    limit, worst, best = budget(ask), held + high, held + low
    # The engine refuses to start where less is free than it may take.
    spare = [min(0, total - limit - other) for other in taken]
    return limit - worst + spare[0], limit - best + spare[1]


def _at_lengths(
    pool: Pool, load: Load, context: int, low: Capacity, high: Capacity, engine: Engine
) -> list[tuple[int, float, float]]:
    lengths = [*(length for length in TYPICAL if length < context), context]
    if not pool.groups:
        return [(length, float(engine.sequences), float(engine.sequences)) for length in lengths]
    return [
        (
            length,
            min(pool.concurrency(low.blocks, length, load), engine.sequences),
            min(pool.concurrency(high.blocks, length, load), engine.sequences),
        )
        for length in lengths
    ]


def _block(pool: Pool) -> int:
    return pool.bytes_per_block(pool.stages[0]) if pool.groups else 0
