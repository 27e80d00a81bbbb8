"""The rendered Compose file of a generation, as far as supervision needs it. Reading is pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aibox.errors import Fault, NeedsPerson
from aibox.serving import ENGINES

PROJECT = "aibox"
FILE = "config/compose.yaml"
INPUTS_LABEL = "io.aibox.inputs"
ORDER = ("qdrant", *ENGINES, "web", "ingest", "gateway")
"""Who is asked by others comes first; services unknown here start before the gateway."""


@dataclass(frozen=True, slots=True)
class ComposeService:
    """One service: the name of its image, and the digest of everything it reads."""

    name: str
    image: str
    inputs: str


def read(file: Path) -> tuple[ComposeService, ...]:
    """The services of a file in the order in which they start; raises `NeedsPerson`."""
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NeedsPerson(
            "generation-has-no-services",
            "the current generation does not say what to run",
            context=f"{file}: {' '.join(str(error).split())[:300]}",
            hint="repair the box with: ./aibox recover",
            fault=Fault.HOST,
        ) from error


def parse(text: str) -> tuple[ComposeService, ...]:
    """The services of a Compose file's text; `ValueError` when one lacks what is needed."""
    import yaml

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML: {error}") from error
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict) or not services:
        raise ValueError("it names no services")
    return tuple(_service(str(name), services[name]) for name in ordered(map(str, services)))


def ordered(names: Iterable[str]) -> list[str]:
    """Service names in the order in which they start."""
    place = {name: number for number, name in enumerate(ORDER)}
    unknown = place[ORDER[-1]] - 0.5
    return sorted(names, key=lambda name: (place.get(name, unknown), name))


def images(generation: Path) -> frozenset[str]:
    """The names of the images that a generation runs; empty for one without containers."""
    file = generation / FILE
    return frozenset(one.image for one in read(file)) if file.exists() else frozenset()


def _service(name: str, body: object) -> ComposeService:
    if not isinstance(body, dict) or not isinstance(body.get("image"), str):
        raise ValueError(f"the service {name} names no image")
    inputs = _labels(body.get("labels")).get(INPUTS_LABEL)
    if not inputs:
        raise ValueError(f"the service {name} has no label {INPUTS_LABEL}")
    return ComposeService(name, body["image"], inputs)


def _labels(said: object) -> dict[str, str]:
    """Compose takes labels as a mapping or as a list of `key=value`."""
    if isinstance(said, dict):
        return {str(key): str(value) for key, value in said.items() if value is not None}
    pairs = (str(item).partition("=") for item in said) if isinstance(said, list) else ()
    return {key: value for key, _, value in pairs}
