"""The shape of a model: what its config.json says that decides about memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from aibox.fit.blocks import Kind

BYTES_PER_STATE = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class State:
    """What a recurrent layer keeps of a request: a convolution's tail and a matrix per head.

    `heads` of `head_width` by `state_width`; the convolution runs over them and over twice
    `groups` keys of `key_width`. `extends` says whether too few groups are repeated on more GPUs
    (Mamba-2) or must divide (gated delta nets). Sizes are numbers, `matrix_bytes` of each.
    """

    heads: int
    head_width: int
    state_width: int
    groups: int
    key_width: int
    kernel: int
    matrix_bytes: int
    extends: bool

    def bytes_on(self, gpus: int, drafted: int, number_bytes: int) -> int:
        """Bytes on each of `gpus`, with room to take back `drafted` tokens."""
        groups = self.groups
        if self.extends and groups % gpus:
            # The engine adds as many as there are GPUs, less what is there.
            groups = gpus
        columns = (self.heads * self.head_width + 2 * groups * self.key_width) // gpus
        tail = columns * (self.kernel - 1 + drafted) * number_bytes
        matrix = prod((self.heads // gpus, self.head_width, self.state_width))
        return tail + matrix * self.matrix_bytes


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: what it keeps, with how many heads of which width (keys and values together).

    `numbers` are those of its matrices that mix tokens (attention or recurrence), `whole` how many
    of them every GPU holds however a model is cut.
    """

    kind: Kind | None
    heads: int = 0
    width: int = 0
    window: int = 0
    state: State | None = None
    numbers: int = 0
    whole: int = 0


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts: how many, how wide each, how many of `layers` have them."""

    count: int
    chosen: int
    intermediate: int
    shared_intermediate: int
    layers: int


@dataclass(frozen=True, slots=True)
class Quantised:
    """The format the weights have, by the engine's name; a block that GPUs may not cut.

    `form` is what `parameters` counts bytes by, "" where the config does not say enough.
    """

    method: str
    form: str = ""
    block: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """A model. Lengths are tokens, widths are numbers.

    `drafts` are layers that guess further tokens (MTP), `vision` the numbers of towers that see
    or hear. `cache_dtype` is what the weights themselves ask of the context ("" nothing),
    `matrices` how many a plain layer has between its inner and outer width (3, or 2 without gate),
    `untold` is the longest request where nobody says one, `positions` how many their tables have,
    `unfolded` how many numbers latent attention makes of a token that it reads again.
    """

    architecture: str
    layers: tuple[Layer, ...]
    hidden: int
    vocabulary: int
    heads: int
    intermediate: int
    longest: int
    untold: int
    positions: int
    number_bytes: int
    dtype: str
    tied: bool
    vision: int = 0
    head_width: int = 0
    key_heads: int = 0
    quantised: Quantised | None = None
    experts: Experts | None = None
    drafts: int = 0
    cache_dtype: str = ""
    matrices: int = 3
    unfolded: int = 0

    @property
    def attends(self) -> tuple[Layer, ...]:
        """The layers with attention over the context."""
        return tuple(layer for layer in self.layers if layer.kind not in (None, Kind.STATE))

    @property
    def recurrent(self) -> bool:
        """Whether some layers keep a state."""
        return any(layer.kind is Kind.STATE for layer in self.layers)
