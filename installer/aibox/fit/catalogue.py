"""The catalogue: GPUs, classes of models and models, each value with where it was read.

Written by people in `stacks/catalogue/`. What nobody could verify is marked `unverified`, what
nobody knows is absent. Sources are named by keys; docs/catalogue-sources.md has their addresses.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from aibox.errors import BadUsage, Fault
from aibox.fit.reading import Family
from aibox.hardware import PciId
from aibox.pins import Redistribution, Repository
from aibox.schema import Model, Name, read_toml

VERSION = 1
UNVERIFIED = "unverified"
_COMMAND = "./aibox fit --help"

Release = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$")]
Capability = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]$")]


class Fact(Model):
    """A number and where it was read."""

    value: Annotated[int, Field(gt=0)]
    source: str


class GpuEntry(Model):
    """A GPU. `memory_mib` is what drivers report, `nominal_gb` what the data sheet says.

    `slices` is into how many it can be cut (MIG), 0 if it cannot.
    """

    name: Name
    title: str
    pci: tuple[PciId, ...]
    aliases: tuple[str, ...] = ()
    nominal_gb: int
    memory_mib: Fact | None = None
    capability: Capability
    bandwidth_gbs: Fact | None = None
    power_w: Fact | None = None
    joined: str
    slices: int = 0
    source: str

    @property
    def compute(self) -> tuple[int, int]:
        """The compute capability as numbers."""
        major, minor = self.capability.split(".")
        return int(major), int(minor)


class ArchitectureEntry(Model):
    """A class of models: how it remembers, and which releases of the engine have it.

    `since` is the first release, `until` the last, each "" when unknown or none; `absent` says
    why no release has it, `instead` what to do.
    """

    name: str
    family: Family
    since: Release | None = None
    until: Release | None = None
    absent: str = ""
    instead: str = ""
    source: str


class Use(StrEnum):
    """What a model is for."""

    CHAT = "chat"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    SAFETY = "safety"


class ModelEntry(Model):
    """A model. `config` are the fields of its config.json that decide about memory.

    `like` takes another entry's config (quantised forms of one model). `series` joins sizes and
    forms of one line of models. `team` is one of the national teams, if it is of one.
    """

    name: Name
    repository: Repository | None = None
    series: str
    use: Use
    team: str = ""
    architecture: str
    like: Name | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    config_source: str = ""
    weights_bytes: Fact | None = None
    engine_since: Release | None = None
    flags: tuple[str, ...] = ()
    tool_parser: str = ""
    reasoning_parser: str = ""
    licence: str
    redistribution: Redistribution
    refused: str = ""
    instead: str = ""
    note: str = ""


class _Gpus(Model):
    version: int
    gpu: tuple[GpuEntry, ...]


class _Architectures(Model):
    version: int
    architecture: tuple[ArchitectureEntry, ...]


class _Models(Model):
    version: int
    model: tuple[ModelEntry, ...]


class Catalogue(Model):
    """All of it."""

    gpus: tuple[GpuEntry, ...]
    architectures: tuple[ArchitectureEntry, ...]
    models: tuple[ModelEntry, ...]

    def architecture(self, name: str) -> ArchitectureEntry:
        """The class of this name; raises `BadUsage` (`fit-architecture-unknown`)."""
        found = next((one for one in self.architectures if one.name == name), None)
        if found is None:
            raise BadUsage(
                "fit-architecture-unknown",
                f"models of the class {name!r} are not modelled, so what they need is unknown",
                hint="see which are, and what else can be served: ./aibox fit --list",
                fault=Fault.US,
            )
        return found

    def model(self, name: str) -> ModelEntry | None:
        """The model of this name or repository, in any case; None when there is none."""
        wanted = name.lower()
        named = ((one, one.name, (one.repository or one.name).lower()) for one in self.models)
        return next((one for one, *names in named if wanted in names), None)

    def config(self, entry: ModelEntry) -> dict[str, Any]:
        """The fields of its config.json that are known; empty when none are."""
        base = self.model(entry.like) if entry.like else None
        return {**(self.config(base) if base else {}), **entry.config}

    def config_source(self, entry: ModelEntry) -> str:
        """Where these fields were read."""
        base = self.model(entry.like) if entry.like else None
        return entry.config_source or (self.config_source(base) if base else "")

    def series(self, entry: ModelEntry) -> tuple[ModelEntry, ...]:
        """The other models of its line."""
        return tuple(
            one for one in self.models if one.series == entry.series and one.name != entry.name
        )


def load(folder: Path) -> Catalogue:
    """Read the catalogue; raises `BadUsage` (`catalogue-…`)."""

    def read(name: str, kind: type[Any]) -> Any:
        return read_toml(folder / name, kind, what="catalogue", version=VERSION, command=_COMMAND)

    models = sorted(path.name for path in (folder / "models").glob("*.toml"))
    return Catalogue(
        gpus=read("gpus.toml", _Gpus).gpu,
        architectures=read("architectures.toml", _Architectures).architecture,
        models=tuple(one for name in models for one in read(f"models/{name}", _Models).model),
    )
