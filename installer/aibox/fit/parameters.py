"""How many bytes the weights of a model have, counted from its shape.

For a format that no lock and no catalogue knows the size of. Counted are the matrices a model
of this kind has; norms and biases (less than a thousandth) are left out. Recorded sizes of real
weights (tests/unit/fit/test_parameters.py) are met within one percent.
"""

from __future__ import annotations

from dataclasses import dataclass

from aibox.fit.shapes import Experts, Shape

# Bits of a quantised weight with the scales beside it: 4 bits in groups of 128 with 16 bits of
# scale and 4 of zero; MXFP4 in groups of 32 with 8; NVFP4 in groups of 16 with 8.
BITS = {
    "none": 16.0,
    "fp8": 8.0,
    "awq": 4 + 20 / 128,
    "gptq": 4 + 20 / 128,
    "mxfp4": 4 + 8 / 32,
    "nvfp4": 4 + 8 / 16,
}


@dataclass(frozen=True, slots=True)
class Counted:
    """Numbers of a model: `linear` in its layers, `words` in tables of its vocabulary.

    `experts` are those of `linear` that belong to experts.
    """

    linear: int
    words: int
    experts: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.linear + self.words


def count(shape: Shape) -> Counted:
    """The numbers of a model; of a tower that sees in 16 bits, so among the words."""
    mixing = sum(layer.numbers for layer in shape.layers)
    layers, mixture = len(shape.layers) + shape.drafts, shape.experts
    if shape.drafts:
        mixing += shape.drafts * (shape.attends[-1].numbers + 2 * shape.hidden**2)
    dense = shape.matrices * shape.hidden * shape.intermediate
    words = _words(shape) + shape.vision
    if mixture is None:
        return Counted(mixing + layers * dense, words)
    each = _experts(shape, mixture)
    with_experts = mixture.layers + shape.drafts
    linear = mixing + (layers - with_experts) * dense + with_experts * each
    return Counted(linear, words, with_experts * each)


def bytes_of(shape: Shape, form: str) -> int | None:
    """Bytes of the weights in a format; None where they cannot be counted.

    MXFP4 is for experts alone, as in gpt-oss; other formats are for everything but the tables.
    """
    if form not in BITS:
        return None
    counted = count(shape)
    small = counted.experts if form == "mxfp4" else counted.linear
    return int(small * BITS[form] / 8) + 2 * (counted.total - small)


def words_bytes(shape: Shape) -> int:
    """Bytes of one table of the vocabulary in 16 bits."""
    return shape.vocabulary * shape.hidden * shape.number_bytes


def _words(shape: Shape) -> int:
    return shape.vocabulary * shape.hidden * (1 if shape.tied else 2)


def _experts(shape: Shape, mixture: Experts) -> int:
    each = 3 * shape.hidden * mixture.intermediate
    shared = 3 * shape.hidden * mixture.shared_intermediate
    return mixture.count * each + shared + mixture.count * shape.hidden
