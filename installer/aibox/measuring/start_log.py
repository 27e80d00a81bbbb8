"""vLLM's own account of its start, read from its log.

Every worker says the same of its own GPU, and the least of them decides, as in the engine. The
wording changed over the versions; each that was seen in public logs is read (0.10 to 0.32). What
the log does not say is None, never guessed.
"""

from __future__ import annotations

import re

from aibox.schema import Model

READY = "Application startup complete"
"""After this line come requests, and with them words that are not the engine's own."""

_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"
_COUNT = r"([0-9][0-9,]{0,18})"
_BEGUN = re.compile(r"Initializing a V[0-9]+ LLM engine \(v([^)\s]{1,80})\)")
_WEIGHTS = re.compile(rf"Model loading took {_NUMBER} GiB(?: memory)? and {_NUMBER} sec")
_CACHE = re.compile(rf"Available KV cache memory: {_NUMBER} GiB")
_TOKENS = re.compile(rf"\b(?:GPU|CPU) KV cache size: {_COUNT} tokens")
_CONCURRENCY = re.compile(rf"Maximum concurrency for {_COUNT} tokens per request: {_NUMBER}x")
_FREE = re.compile(rf"Free memory on device \({_NUMBER}/{_NUMBER} GiB\) on startup")
_ACTIVATION = re.compile(rf"{_NUMBER} GiB for peak activation")
_GRAPHS = re.compile(rf"{_NUMBER} GiB for CUDAGraph memory")
_SUGGESTED = re.compile(r"`--kv-cache-memory=([0-9]{1,15})`[^`]{0,40}to fit into requested memory")
_CEILING = re.compile(r"`--kv-cache-memory=([0-9]{1,15})`[^`]{0,40}to fully utilize gpu memory")
_FROZEN = re.compile(
    rf"reserved {_NUMBER} GiB memory for KV Cache|Explicitly set \({_NUMBER}/[0-9.]+\) GiB for KV"
)
_SECONDS = re.compile(rf"init engine \([^)]{{1,80}}\) took {_NUMBER} s")


class Started(Model):
    """A start as its log tells it. GiB are per GPU and have two decimals, as the engine writes.

    `suggested` is what the engine would freeze for contexts within its share of memory, `ceiling`
    on the whole GPU (bytes); `frozen` says that contexts had a fixed amount already.
    """

    engine: str = ""
    weights_gib: float | None = None
    load_s: float | None = None
    start_s: float | None = None
    cache_gib: float | None = None
    free_gib: float | None = None
    activation_gib: float | None = None
    graphs_gib: float | None = None
    suggested: int | None = None
    ceiling: int | None = None
    frozen: bool = False
    tokens: int | None = None
    context: int | None = None
    concurrency: float | None = None


def is_whole(text: str) -> bool:
    """Whether a log holds a start from its first line until requests were taken."""
    begun = list(_BEGUN.finditer(text))
    return bool(begun) and READY in text[begun[-1].start() :]


def parse(text: str) -> Started:
    """The last start in a log; any text is read, and one without a start says nothing."""
    begun = list(_BEGUN.finditer(text))
    text = text[begun[-1].start() :] if begun else text
    text = text.partition(READY)[0]
    frozen = [one for pair in _FROZEN.findall(text) for one in pair if one]
    return Started(
        engine=begun[-1][1] if begun else "",
        weights_gib=_most(_WEIGHTS, text),
        load_s=_most(_WEIGHTS, text, 2),
        start_s=_most(_SECONDS, text),
        cache_gib=min(map(float, frozen), default=_least(_CACHE, text)),
        free_gib=_least(_FREE, text),
        activation_gib=_most(_ACTIVATION, text),
        graphs_gib=_most(_GRAPHS, text),
        suggested=_whole(_least(_SUGGESTED, text)),
        ceiling=_whole(_least(_CEILING, text)),
        frozen=bool(frozen),
        tokens=_whole(_least(_TOKENS, text)),
        context=_whole(_least(_CONCURRENCY, text)),
        concurrency=_least(_CONCURRENCY, text, 2),
    )


def _found(pattern: re.Pattern[str], text: str, group: int) -> list[float]:
    return [float(one[group].replace(",", "")) for one in pattern.finditer(text)]


def _least(pattern: re.Pattern[str], text: str, group: int = 1) -> float | None:
    return min(_found(pattern, text, group), default=None)


def _most(pattern: re.Pattern[str], text: str, group: int = 1) -> float | None:
    return max(_found(pattern, text, group), default=None)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
