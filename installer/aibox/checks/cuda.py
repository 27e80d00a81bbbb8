"""Which CUDA a driver runs and which an image wants. Pure.

An image says what it needs in NVIDIA_REQUIRE_CUDA. With CDI nobody evaluates that any more, and a
driver that is too old lets the container start and fails in its first call; so it is judged here.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

from aibox.hardware import version

# NVIDIA's page on CUDA compatibility: a driver runs every minor version of its major one. The first
# toolkit of 13 came with that very driver.
_FIRST_DRIVER = (((13, 0), (580, 65, 6)), ((12, 0), (525,)), ((11, 0), (450,)))
_CONDITION = re.compile(r"^(\w+)(>=|<=|!=|=|<|>)(.+)$")
_COMPARE: Mapping[str, Callable[[object, object], bool]] = {
    ">=": operator.ge,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    "<": operator.lt,  # type: ignore[dict-item]
    "=": operator.eq,
    "!=": operator.ne,
}


def first_driver(cuda: tuple[int, ...]) -> tuple[int, ...]:
    """The oldest driver that runs programs of this CUDA (by minor-version compatibility)."""
    return next((driver for first, driver in _FIRST_DRIVER if cuda >= first), ())


def satisfied(requirement: str, facts: Mapping[str, str]) -> bool:
    """Whether `NVIDIA_REQUIRE_CUDA` holds: spaces are "or", commas "and"; empty asks nothing.

    `facts` are `cuda`, `driver` and `brand`, as NVIDIA's runtime knows them. A condition on
    anything else (`arch`) is taken for fulfilled, because nothing is known against it.
    """
    alternatives = requirement.split()
    return not alternatives or any(
        all(_holds(one, facts) for one in alternative.split(",")) for alternative in alternatives
    )


def _holds(condition: str, facts: Mapping[str, str]) -> bool:
    found = _CONDITION.match(condition)
    if found is None or not facts.get(found[1]):
        return True
    known, compare = facts[found[1]], _COMPARE[found[2]]
    if found[1] == "brand":
        return compare(known.lower(), found[3].lower())
    return compare(_padded(version(known)), _padded(version(found[3])))


def _padded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (*numbers, 0, 0, 0)[:3]


def wanted(requirement: str) -> tuple[int, ...]:
    """The CUDA an image is of: the highest `cuda>=` of its requirement; empty when it says none."""
    named = re.findall(r"\bcuda>=([\d.]+)", requirement)
    return max((version(one) for one in named), default=())


def brand(product_brand: str) -> str:
    """The brand of a card as requirements write it (`NVIDIA RTX` is `nvidiartx`)."""
    return product_brand.replace(" ", "").lower()
