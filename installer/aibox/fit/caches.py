"""From the shape of a model and the engine's flags to what each layer keeps on each GPU."""

from __future__ import annotations

from aibox.errors import BadUsage, Fault
from aibox.fit.blocks import Kind, LayerCache, Load, Pool, ceil_of, pool
from aibox.fit.engine import Engine
from aibox.fit.shapes import Layer, Shape

CACHE_BYTES = {
    "auto": 0,
    "bfloat16": 2,
    "float16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
}
"""Bytes of a number of a context by the engine's `kv-cache-dtype`; 0 is what it computes in."""

LATENT_BYTES = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
"""Bytes of a token of a layer with latent attention, packed with its scales."""

LATENT_STEP = 128
"""Blocks of latent attention beside states are multiples of this."""


def pool_of(shape: Shape, engine: Engine, draft: Shape | None = None) -> Pool:
    """The pool of a model, and of a draft model that runs beside it on the last stage."""
    caches = layer_caches(shape, engine)
    stages = list(stages_of(len(shape.layers), engine.stages))
    if draft is not None:
        caches += layer_caches(draft, engine)
    # Drafts' layers are the last ones.
    stages[-1] = range(stages[-1].start, len(caches))
    stored = [cache for cache in caches if cache is not None]
    places = [index for index, cache in enumerate(caches) if cache is not None]
    return pool(stored, [_of_stored(places, stage) for stage in stages])


def layer_caches(shape: Shape, engine: Engine) -> list[LayerCache | None]:
    """What each layer keeps on one GPU; None where it keeps nothing."""
    number_bytes = cache_bytes(shape, engine)
    block = block_size(shape, engine)
    layers = [*shape.layers, *_draft_layers(shape, engine)]
    # Most layers are one and the same value.
    made = {
        id(layer): _cache(shape, layer, engine, number_bytes, block)
        for layer in {id(layer): layer for layer in layers}.values()
    }
    return [made[id(layer)] for layer in layers]


def load_of(shape: Shape, engine: Engine) -> Load:
    """How much one request can hold beyond its own tokens."""
    spare = engine.drafted
    states = [layer.state for layer in shape.layers if layer.state is not None]
    if states and engine.prefix_caching:
        # The state at the last block's end, and for Mamba-2 one that a long prompt leaves behind.
        spare += 2 if states[0].extends else 1
    return Load(engine.in_flight, spare)


def cache_bytes(shape: Shape, engine: Engine) -> int:
    """Bytes of one number of a context."""
    wanted = engine.cache_dtype
    if wanted == "auto":
        wanted = shape.cache_dtype or "auto"
    latent = any(layer.kind is Kind.LATENT for layer in shape.layers)
    if latent and wanted in LATENT_BYTES:
        return 1
    if wanted not in CACHE_BYTES:
        known = (*CACHE_BYTES, *(LATENT_BYTES if latent else ()))
        raise BadUsage(
            "fit-cache-dtype-unknown",
            f"kv-cache-dtype {wanted!r} is not modelled for this model; known: {', '.join(known)}",
            hint="for example: ./aibox fit --model NAME --gpu GPU --set kv-cache-dtype=fp8",
            fault=Fault.YOU,
        )
    return CACHE_BYTES[wanted] or shape.number_bytes


def bytes_per_token(shape: Shape, engine: Engine) -> int:
    """What one more token of a long context takes on all GPUs together."""
    caches = layer_caches(shape, engine)
    growing = (cache for cache in caches if cache and cache.kind in (Kind.FULL, Kind.LATENT))
    return sum(cache.content // cache.block for cache in growing) * engine.tensor_parallel


def block_size(shape: Shape, engine: Engine) -> int:
    """Tokens of a block: larger beside states, which the engine never cuts."""
    if not shape.recurrent or not shape.attends:
        return engine.block
    number_bytes = cache_bytes(shape, engine)
    token = max(_token_bytes(layer, engine, number_bytes) for layer in shape.attends)
    latent = any(layer.kind is Kind.LATENT for layer in shape.attends)
    step = max(engine.block, LATENT_STEP) if latent else engine.block
    return max(engine.block, step * ceil_of(_state_bytes(shape, engine), step * token))


def stages_of(layers: int, count: int) -> tuple[range, ...]:
    """Which layers each pipeline stage has; what does not divide goes to the later but one ones."""
    sizes = [layers // count] * count
    for place in range(2, layers % count + 2):
        sizes[-place] += 1
    ends = [sum(sizes[: index + 1]) for index in range(count)]
    return tuple(range(end - size, end) for end, size in zip(ends, sizes, strict=True))


def _of_stored(places: list[int], stage: range) -> range:
    """The stage, counted in the layers that keep something."""
    return range(
        sum(place < stage.start for place in places), sum(place < stage.stop for place in places)
    )


def _cache(
    shape: Shape, layer: Layer, engine: Engine, number_bytes: int, block: int
) -> LayerCache | None:
    if layer.kind is None:
        return None
    if layer.kind is Kind.STATE:
        token = [_token_bytes(one, engine, number_bytes) for one in shape.attends]
        padded = block * max(token) if token else 0
        return LayerCache(Kind.STATE, _state_bytes(shape, engine), block, padded=padded)
    content = block * _token_bytes(layer, engine, number_bytes)
    return LayerCache(layer.kind, content, block, layer.window)


def _token_bytes(layer: Layer, engine: Engine, number_bytes: int) -> int:
    """Of one token in one layer on one GPU. Heads that are too few are repeated on every GPU."""
    if layer.kind is Kind.LATENT:
        packed = LATENT_BYTES.get(engine.cache_dtype)
        return packed or layer.width * number_bytes
    return max(1, layer.heads // engine.tensor_parallel) * layer.width * number_bytes


def _state_bytes(shape: Shape, engine: Engine) -> int:
    states = (layer.state for layer in shape.layers if layer.state is not None)
    return max(
        state.bytes_on(engine.tensor_parallel, engine.drafted, shape.number_bytes)
        for state in states
    )


def _draft_layers(shape: Shape, engine: Engine) -> tuple[Layer, ...]:
    """Layers of the model itself that guess further tokens: with attention like its own."""
    if engine.draft_method != "mtp":
        return ()
    if not shape.drafts:
        raise BadUsage(
            "fit-no-draft-layers",
            f"the weights of {shape.architecture} bring no layers that guess (MTP)",
            hint="leave speculative-config out, or see: ./aibox fit --help",
            fault=Fault.YOU,
        )
    return (shape.attends[-1],) * shape.drafts
