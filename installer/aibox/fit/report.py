"""An answer for scripts, for people who decide, and as a drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aibox import chart
from aibox.chart import Axis, Chart, Line, Mark
from aibox.fit import overhead
from aibox.fit.advice import Change
from aibox.fit.answer import Answer, Capacity, admitted, budget
from aibox.fit.engine import ARITHMETIC, GIB

_POINTS = 60


def as_json(found: Answer, advice: Sequence[Change]) -> dict[str, object]:
    """The contract of DESIGN §5.1, and what else was found. Single values are the cautious ones."""
    engine = found.ask.engine
    return {
        "fits": found.fits,
        "verdict": verdict(found),
        "model": found.subject.name,
        "gpu": found.ask.cards.name,
        "gpus": found.ask.cards.count,
        "memory_mib_per_gpu": found.ask.cards.memory_mib,
        "context": found.context,
        "concurrency_asked": found.ask.concurrency,
        "weights_bytes_per_gpu": found.weights_per_gpu,
        "weights_source": found.subject.weights.source,
        "adapters_bytes_per_gpu": found.adapters_per_gpu,
        "kv_bytes_per_token": found.bytes_per_token,
        "kv_tokens": found.low.tokens,
        "kv_blocks": found.low.blocks,
        "max_concurrency": _round(admitted(found.low, engine)),
        "margin_bytes_per_gpu": found.margin,
        "range": _range(found),
        "at_lengths": [
            {"tokens": tokens, "low": _round(low), "high": _round(high)}
            for tokens, low, high in found.at_lengths
        ],
        "beside": [
            {"name": one.name, "low_bytes": one.low, "high_bytes": one.high}
            for one in found.ask.neighbours
        ],
        "engine": {
            "pinned": found.ask.release or None,
            "arithmetic": ARITHMETIC,
            "tensor_parallel": engine.tensor_parallel,
            "pipeline_parallel": engine.stages,
            "gpu_memory_utilization": engine.utilization,
            "kv_cache_dtype": engine.cache_dtype,
            "max_num_seqs": engine.sequences,
            "max_num_batched_tokens": engine.batched_tokens,
        },
        "obstacles": list(found.obstacles),
        "notes": list(found.notes),
        "advice": [{"kind": one.kind, "told": one.told, "option": one.option} for one in advice],
    }


def _range(found: Answer) -> dict[str, object]:
    engine = found.ask.engine
    pairs = (("low", found.low), ("high", found.high))
    return {
        "kv_bytes_per_gpu": {end: max(0, one.memory) for end, one in pairs},
        "kv_tokens": {end: one.tokens for end, one in pairs},
        "max_concurrency": {end: _round(admitted(one, engine)) for end, one in pairs},
        "engine_bytes_per_gpu": [
            {"what": one.name, "low": one.low, "high": one.high, "source": one.source}
            for one in found.parts
        ],
    }


def _own(found: Answer) -> tuple[int, int]:
    """What the engine takes for itself, low and high, of what it may take of a card."""
    engine = found.ask.engine
    if engine.cache_memory is None:
        return overhead.of_share(found.parts, engine.utilization)
    return sum(one.low for one in found.parts), sum(one.high for one in found.parts)


def verdict(found: Answer) -> str:
    """`fits`, `may-fit` (it depends on what the engine measures on site), or `does-not-fit`."""
    if found.fits:
        return "fits"
    return "may-fit" if found.may_fit else "does-not-fit"


def lacking(found: Answer) -> str:
    """What memory lacks for what was asked, at worst; "" where memory is not what lacks."""
    if found.fits or found.obstacles or found.margin >= 0:
        return ""
    return f"{_gib(-found.margin)}{_of_each(found)} lack for what was asked"


def _of_each(found: Answer) -> str:
    return "" if found.ask.cards.compute is None else " of each GPU"


def lines(found: Answer, advice: Sequence[Change], *, service: str = "") -> Iterator[str]:
    """For people: the verdict first, then where the memory goes, then what to do."""
    where = found.ask.cards.told
    name = f"{service}: {found.subject.name}" if service else found.subject.name
    yield f"{name} on {where}: {_VERDICTS[verdict(found)]}"
    yield from (f"  stops the engine: {one}" for one in found.obstacles)
    if found.fits and found.pool.groups:
        yield f"  in short, at worst: {_in_short(found)}"
    elif lacks := lacking(found):
        yield f"  in short, at worst: {lacks}"
    if not found.obstacles:
        yield from _memory(found)
        yield from _requests(found)
    yield from (f"  note: {one}" for one in found.notes)
    if advice:
        yield "  what would make it fit, each by itself:"
        yield from (f"    {one.told}{f'   ({one.option})' * bool(one.option)}" for one in advice)
    elif not found.fits:
        yield "  nothing that is known here makes it fit on these"


def _in_short(found: Answer) -> str:
    """A sentence for whoever decides: in the worst case, and what happens beyond it."""
    told = f"{_requests_of(found.context, admitted(found.low, found.ask.engine))} at once"
    middle = [one for one in found.at_lengths[:-1] if one[0] <= _USUAL]
    if middle:
        tokens, low, _high = middle[-1]
        told += f", or {_requests_of(tokens, low)}"
    return f"{told} (question, passages and answer together); who asks beyond that waits for a turn"


def _requests_of(tokens: int, many: float) -> str:
    return f"{int(many):,} request{'' if int(many) == 1 else 's'} of {tokens:,} tokens"


_USUAL = 4096
"""Tokens of a question with the passages found for it and its answer."""

_VERDICTS = {
    "fits": "fits",
    "may-fit": "may fit: it depends on what the engine takes for itself on site",
    "does-not-fit": "does not fit",
}


def _memory(found: Answer) -> Iterator[str]:
    cards = found.ask.cards
    engine, total = found.ask.engine, cards.memory_mib / 1024
    share = "" if engine.cache_memory else _of_share(found)
    whose = "that it may use" if cards.compute is None else "of each GPU, as reported"
    yield f"  memory {whose}: {total:,.1f} GiB{share}"
    yield f"    weights {_gib(found.weights_per_gpu)} ({found.subject.weights.source})"
    if found.adapters_per_gpu:
        yield f"    LoRA slots {_gib(found.adapters_per_gpu)}"
    for one in found.ask.neighbours:
        yield f"    {one.name} on the same cards {_between(one.low, one.high)}"
    low, high = _own(found)
    yield f"    the engine itself {_between(low, high)} (estimated; its first start measures it)"
    if found.high.memory > 0:
        left = "frozen" if engine.cache_memory == found.low.memory else "left"
        what = f"{left} for contexts" if found.pool.groups else "left of its share"
        yield f"    {what} {_between(max(0, found.low.memory), found.high.memory)}"
    else:
        yield f"    nothing is left for contexts: {_gib(-found.high.memory)} too little at best"


def _of_share(found: Answer) -> str:
    """What of a card the engine may take; the rest is never its own."""
    share = found.ask.engine.utilization
    return f", of which the engine takes at most {_gib(budget(found.ask))} (a share of {share:g})"


def _requests(found: Answer) -> Iterator[str]:
    if not found.pool.groups:
        yield "  it keeps no contexts: more or longer requests take no more memory, only time"
        return
    if found.bytes_per_token:
        where = " on all GPUs together" if found.ask.cards.count > 1 else ""
        yield f"  a token of context takes {found.bytes_per_token:,} bytes{where}"
    asked = f"; asked for are {found.ask.concurrency}" if found.ask.concurrency else ""
    full = _span(admitted(found.low, found.ask.engine), admitted(found.high, found.ask.engine))
    if not found.high.blocks:
        return
    yield f"  requests of the full {found.context:,} tokens at once: {full}{asked}"
    for tokens, low, high in found.at_lengths[:-1]:
        yield f"    of {tokens:,} tokens: {_span(low, high)}"
    if found.fits and found.ask.concurrency:
        yield f"  in reserve beyond those, at worst: {_gib(max(0, found.margin))}{_of_each(found)}"


def drawing(found: Answer) -> str | None:
    """An SVG of requests at once against their length; None where there is nothing to draw."""
    lengths = _lengths(found.context)
    if found.obstacles or not found.pool.groups or not found.high.blocks or len(lengths) < 2:
        return None
    known = [("at worst", found.low), ("at best", found.high)]
    if found.low == found.high:
        known = [("requests at once", found.low)]
    drawn = [
        Line(name, [(length, _at(found, capacity, length)) for length in lengths])
        for name, capacity in known
        if capacity.blocks
    ]
    many = found.ask.concurrency
    marks = (Mark(many, f"asked for: {many:,}", first=True),) if many else ()
    title = f"{found.subject.name} on {found.ask.cards.told}"
    return chart.draw(
        Chart(
            title,
            Axis("tokens of a request (question, documents and answer)", logarithmic=True),
            Axis("requests at once", marks=marks),
            drawn,
        )
    )


def _at(found: Answer, capacity: Capacity, tokens: int) -> float:
    many = found.pool.concurrency(capacity.blocks, tokens, found.load)
    return min(many, found.ask.engine.sequences)


def _lengths(context: int) -> list[int]:
    first = min(256, max(1, context // 8))
    ratio = (context / first) ** (1 / (_POINTS - 1))
    return sorted({round(first * ratio**step) for step in range(_POINTS)})


def _round(value: float) -> float:
    return round(value, 2)


def _gib(amount: int) -> str:
    return f"{amount / GIB:,.1f} GiB"


def _between(low: int, high: int) -> str:
    return _gib(low) if low == high else f"{low / GIB:,.1f} to {high / GIB:,.1f} GiB"


def _span(low: float, high: float) -> str:
    small, large = f"{low:.1f}", f"{high:.1f}"
    return small if small == large else f"{small} to {large}"
