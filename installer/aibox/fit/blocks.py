"""How vLLM cuts memory for contexts into blocks, and how many requests these hold.

The rules are those of vLLM 0.32 (`v1/kv_cache_interface.py`, `v1/core/kv_cache_utils.py`), for
its layouts with the layers outermost, which are the default on NVIDIA's cards. Layers of one kind
share a table of blocks (a group); all groups draw from one pool. tests/e2e/test_fit_vllm.py
compares every number with the engine's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

GROUPS_ALIKE_BELOW = 1.5
"""The engine pads the smaller kind of layers while the larger has less than this much more."""


class Kind(StrEnum):
    """What a layer keeps of a context."""

    FULL = "full attention"
    LATENT = "latent attention"
    SLIDING = "sliding window"
    CHUNKED = "chunked attention"
    STATE = "recurrent state"


@dataclass(frozen=True, slots=True)
class LayerCache:
    """What one layer keeps: `content` bytes in a block of `block` tokens.

    `page` is what a block takes (content and padding), `window` the tokens a sliding or chunked
    layer looks back on. A state has no tokens: its block is the whole of it.
    """

    kind: Kind
    content: int
    block: int
    window: int = 0
    padded: int = 0

    @property
    def page(self) -> int:
        """Bytes of one block of one layer."""
        return max(self.content, self.padded)


@dataclass(frozen=True, slots=True)
class Load:
    """What decides how many blocks one request can hold at most.

    `in_flight` are tokens scheduled and not yet settled; `spare_states` the copies of a state
    beside the one in use (drafts, prefix caching).
    """

    in_flight: int
    spare_states: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Layers, by their index in the model, that share one table of blocks.

    `kinds` are the caches among them, each once.
    """

    members: tuple[tuple[int, LayerCache], ...]
    kinds: tuple[LayerCache, ...]

    @classmethod
    def of(cls, members: Iterable[tuple[int, LayerCache]]) -> Group:
        """The group of these members."""
        listed = tuple(members)
        return cls(listed, tuple(dict.fromkeys(cache for _index, cache in listed)))

    def bytes_per_block(self, layers: range) -> int:
        """Of the members among `layers`."""
        return sum(cache.page for index, cache in self.members if index in layers)

    def blocks(self, tokens: int, load: Load) -> int:
        """Blocks that one request of so many tokens can hold at most."""
        return max(blocks_of(cache, tokens, load) for cache in self.kinds)


def blocks_of(cache: LayerCache, tokens: int, load: Load) -> int:
    """Blocks of one layer for one request."""
    if cache.kind is Kind.STATE:
        return 1 + load.spare_states
    if cache.kind is Kind.SLIDING:
        # One more: a window need not begin where a block begins.
        return ceil_of(min(cache.window - 1 + load.in_flight, tokens), cache.block) + 1
    if cache.kind is Kind.CHUNKED:
        return ceil_of(min(cache.window + load.in_flight, tokens), cache.block)
    return ceil_of(tokens, cache.block)


@dataclass(frozen=True, slots=True)
class Pool:
    """The groups of a model over its pipeline stages, each a range of its layers."""

    groups: tuple[Group, ...]
    stages: tuple[range, ...]

    def bytes_per_block(self, stage: range) -> int:
        """What a block of the widest group takes on one GPU of a stage."""
        return max(group.bytes_per_block(stage) for group in self.groups)

    def count(self, available: Sequence[int]) -> int:
        """Blocks, where `available` is the least free memory of a GPU of each stage, in bytes."""
        each = zip(self.stages, available, strict=True)
        return max(0, min(free // self.bytes_per_block(stage) for stage, free in each))

    def per_request(self, tokens: int, load: Load) -> int:
        """Blocks that one request can hold at most, of all groups together."""
        return sum(group.blocks(tokens, load) for group in self.groups)

    def concurrency(self, blocks: int, tokens: int, load: Load) -> float:
        """How many requests of this length `blocks` hold: the engine's "maximum concurrency"."""
        return blocks / self.per_request(tokens, load)

    def tokens(self, blocks: int, tokens: int, load: Load) -> int:
        """The engine's "KV cache size" in tokens; `tokens` is the full length of a request."""
        return int(self.concurrency(blocks, tokens, load) * tokens)

    def starts(self, blocks: int, tokens: int, load: Load) -> bool:
        """Whether the engine starts: one request fits beside the block it keeps for itself."""
        return blocks - 1 >= self.per_request(tokens, load)

    def longest(self, blocks: int, limit: int, load: Load) -> int:
        """The longest request, in tokens, with which the engine still starts; 0 if with none."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.starts(blocks, middle, load) else (low, middle - 1)
        return low


def pool(layers: Sequence[LayerCache], stages: Sequence[range]) -> Pool:
    """The pool of a model with these layers, in their order; some have no cache (encoders)."""
    return Pool(tuple(_groups(layers)), tuple(stages))


def _groups(layers: Sequence[LayerCache]) -> Iterator[Group]:
    if not layers:
        return
    if len({_base(cache) for cache in layers}) == 1:
        yield Group.of(enumerate(layers))
        return
    buckets: dict[LayerCache, list[int]] = {}
    for index, cache in enumerate(_of_one_page(layers)):
        buckets.setdefault(cache, []).append(index)
    size = _group_size([len(indices) for indices in buckets.values()])
    for cache, indices in buckets.items():
        count = ceil_of(len(indices), size)
        for number in range(count):
            yield Group.of((index, cache) for index in indices[number::count])


def _base(cache: LayerCache) -> tuple[object, ...]:
    """Layers alike in this always need the same number of blocks."""
    kind = Kind.FULL if cache.kind is Kind.LATENT else cache.kind
    return (kind, cache.block, cache.window, cache.page if kind is Kind.STATE else 0)


def _of_one_page(layers: Sequence[LayerCache]) -> list[LayerCache]:
    """Blocks of the same bytes: more tokens to a block, or padding where that does not come out."""
    page = max(cache.page for cache in layers)
    return [_stretched(cache, page) for cache in layers]


def _stretched(cache: LayerCache, page: int) -> LayerCache:
    if cache.page == page:
        return cache
    if cache.kind is Kind.STATE or page % cache.page:
        return replace(cache, padded=page)
    times = page // cache.page
    return replace(cache, block=cache.block * times, content=cache.content * times)


def _group_size(counts: Sequence[int]) -> int:
    least, most = min(counts), max(counts)
    return most if most < least * GROUPS_ALIKE_BELOW else least


def ceil_of(amount: int, step: int) -> int:
    """How many steps cover an amount."""
    return -(-amount // step)
