"""Over how many GPUs a model can be cut, by the engine's own checks."""

from __future__ import annotations

from collections.abc import Iterator

from aibox.fit.blocks import Kind
from aibox.fit.engine import Engine
from aibox.fit.shapes import Shape


def obstacles(shape: Shape, engine: Engine) -> tuple[str, ...]:
    """Why the engine would refuse to cut this model so, in words; none when it would not."""
    return tuple(_obstacles(shape, engine))


def largest_cut(shape: Shape, gpus: int) -> Engine:
    """The most GPUs a layer can be cut over, the rest as stages; 1 GPU if nothing else goes."""
    for cut in range(gpus, 0, -1):
        engine = Engine(tensor_parallel=cut, stages=gpus // cut)
        if gpus % cut == 0 and not obstacles(shape, engine):
            return engine
    return Engine()


def _obstacles(shape: Shape, engine: Engine) -> Iterator[str]:
    cut = engine.tensor_parallel
    if shape.heads % cut:
        yield f"{cut} GPUs do not divide the {shape.heads} heads of attention"
    yield from _heads_of_keys(shape, cut)
    yield from _states(shape, cut)
    yield from _widths(shape, cut)
    if engine.stages > len(shape.layers):
        yield f"{engine.stages} stages are more than the {len(shape.layers)} layers"


def _heads_of_keys(shape: Shape, cut: int) -> Iterator[str]:
    counts = {layer.heads for layer in shape.attends if layer.kind is not Kind.LATENT}
    for count in sorted(counts):
        if count % cut and cut % count:
            yield f"{cut} GPUs and the {count} heads of keys do not divide one another"


def _states(shape: Shape, cut: int) -> Iterator[str]:
    state = next((layer.state for layer in shape.layers if layer.state), None)
    if state is None:
        return
    if state.heads % cut:
        yield f"{cut} GPUs do not divide the {state.heads} heads of the recurrent layers"
    elif state.groups % cut and not (state.extends and state.groups == 1):
        yield f"{cut} GPUs do not divide the {state.groups} groups of the recurrent layers"


def _widths(shape: Shape, cut: int) -> Iterator[str]:
    """Inner widths; of weights quantised in blocks, a GPU takes whole ones."""
    block = shape.quantised.block if shape.quantised else None
    what, width = "intermediate width", shape.intermediate
    if shape.experts is not None:
        what, width = "width of experts", shape.experts.intermediate
    if width % cut:
        yield f"{cut} GPUs do not divide the {what} of {width}"
    elif block is not None and cut > 1 and width // cut % block[1]:
        yield (
            f"cut over {cut} GPUs the {what} of {width} is {width // cut}, "
            f"no multiple of the {block[1]} that are quantised together"
        )
