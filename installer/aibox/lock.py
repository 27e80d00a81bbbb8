"""`models.lock`: the exact resolution of profiles. Every byte by digest, every part with an owner.

Written by `aibox lock`, reviewed by people. `version` breaks readers, `revision` counts
compatible additions: a reader refuses a greater version and ignores the revision.
`sequence` counts the states of the lock and `date` says when it came to this one: a bundle takes
both from here, so that the same lock gives the same bundle.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, model_validator

from aibox.errors import BadUsage, Fault
from aibox.pins import FilePin, ImagePin, ModelPin, PackageSet, Pin, Redistribution
from aibox.profile import Embedding, Rerank, Tuning
from aibox.schema import Model, Name, RelativePath, Sha256, parse_toml, read_toml
from aibox.serving import Serving

VERSION = 1
REVISION = 1
COMMAND = "./aibox lock"
PIN_KINDS = ("model", "image", "packages", "file")
"""The fields, of a lock and of a profile, that name what is fetched from elsewhere."""

_HEAD = (
    "# Written by `./aibox lock` and reviewed by people; do not edit by hand, except to try a\n"
    "# tuning value or a prompt with `./aibox upgrade --lockfile FILE`.\n"
)
_LINE = 100


class Role(StrEnum):
    """What a tree is for; decides where its files land in a generation."""

    APP = "app"
    DOCUMENTS = "documents"
    PROMPTS = "prompts"
    TEMPLATES = "templates"


class LockedFile(Model):
    """One file of a tree: path below the tree's root, size in bytes, digest."""

    path: RelativePath
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Tree(Model):
    """A folder of the project, file by file."""

    name: Name
    role: Role
    root: RelativePath
    licence: str
    owner: str
    files: tuple[LockedFile, ...]


class WheelFile(Model):
    """One build of a Python package, for one set of interpreters and platforms."""

    filename: RelativePath
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256


class Wheel(Model):
    """A Python package, all builds this release supports."""

    name: Name
    version: str
    licence: str
    redistribution: Redistribution = Redistribution.ALLOW
    owner: str
    files: Annotated[tuple[WheelFile, ...], Field(min_length=1)]


class Golden(Model):
    """A question the gate asks: the document it must cite, or that there is no evidence."""

    id: Name
    language: Literal["en", "ko"]
    question: Annotated[str, Field(min_length=1)]
    document: str = ""
    expect: Literal["document", "no-evidence"] = "document"
    required: bool = True
    owner: str

    @model_validator(mode="after")
    def _names_a_document_when_it_expects_one(self) -> Golden:
        if (self.expect == "document") != bool(self.document):
            raise ValueError('give either document, or expect = "no-evidence"')
        return self


class ModelsLock(Model):
    """The whole file. `wheel` are the app's packages, `program` those of the command line itself.

    `requirements` and `program_requirements` are digests of what they were resolved from.
    """

    version: int
    revision: Annotated[int, Field(ge=0)]
    sequence: Annotated[int, Field(ge=1)] = 1
    date: datetime.date = datetime.date(1970, 1, 1)
    requirements: Sha256
    program_requirements: Sha256 | None = None
    tuning: dict[str, Tuning]
    embedding: dict[str, Embedding] = Field(default_factory=dict)
    rerank: dict[str, Rerank] = Field(default_factory=dict)
    serving: dict[str, dict[Name, Serving]] = Field(default_factory=dict)
    golden: tuple[Golden, ...]
    tree: tuple[Tree, ...]
    wheel: tuple[Wheel, ...]
    program: tuple[Wheel, ...] = ()
    model: tuple[ModelPin, ...] = ()
    image: tuple[ImagePin, ...] = ()
    packages: tuple[PackageSet, ...] = ()
    file: tuple[FilePin, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> ModelsLock:
        for kind, found in (
            ("tree", [item.name for item in self.tree]),
            ("wheel", [item.name for item in self.wheel]),
            ("program", [item.name for item in self.program]),
            ("golden", [item.id for item in self.golden]),
            ("model", [item.name for item in self.model]),
            ("image", [item.name for item in self.image]),
            ("packages", [item.name for item in self.packages]),
            ("file", [item.name for item in self.file]),
        ):
            twice = sorted({name for name in found if found.count(name) > 1})
            if twice:
                raise ValueError(f"{kind}: named twice: {', '.join(twice)}")
        return self


def load(path: Path) -> ModelsLock:
    """Read a lock file; raises `BadUsage` with the path of whatever is wrong in it."""
    return read_toml(path, ModelsLock, what="lock", version=VERSION, command=COMMAND)


def parse(text: str, source: str = "models.lock") -> ModelsLock:
    """Like `load`, for text in memory."""
    return parse_toml(
        text, ModelsLock, what="lock", version=VERSION, command=COMMAND, source=source
    )


def tuning_of(lock: ModelsLock, profile: str) -> Tuning:
    """The locked tuning of a profile; raises `BadUsage` when the lock does not resolve it."""
    if profile not in lock.tuning:
        raise _lacks(profile)
    return lock.tuning[profile]


def serving_of(lock: ModelsLock, profile: str) -> dict[Name, Serving]:
    """The locked engines of a profile that has some; raises `BadUsage` as `tuning_of`."""
    if profile not in lock.serving:
        raise _lacks(profile)
    return lock.serving[profile]


def _lacks(profile: str) -> BadUsage:
    return BadUsage(
        "lock-lacks-profile",
        f"models.lock does not resolve the profile {profile!r}",
        hint=f"resolve it with: {COMMAND} --profile {profile}",
        fault=Fault.YOU,
    )


# -- writing ------------------------------------------------------------------------------------


def dump(lock: ModelsLock) -> str:
    """The text of models.lock; the same lock gives the same text.

    Every file, package and layer is one line, so that a change of it is one line of a difference
    (the TOML library would write a table of five lines for each).
    """
    values = lock.model_dump(exclude_none=True)
    for kind in PIN_KINDS:
        values[kind] = [_pin(pin) for pin in getattr(lock, kind)]
    return _HEAD + "\n".join(_lines("", values)) + "\n"


def _pin(pin: Pin) -> dict[str, Any]:
    """What is said of a pin: hundreds lie in the lock, so what is not known takes no line."""
    return {"name": pin.name, "state": pin.state, **pin.model_dump(exclude_defaults=True)}


def _lines(path: str, table: Mapping[str, Any]) -> Iterator[str]:
    """A table's lines: its own values, then the tables below it, each with its heading."""
    below = {key: value for key, value in table.items() if _has_headings(value, top=not path)}
    for key, value in table.items():
        if key not in below:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in below.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(value, Mapping):
            items = [(f"[{name}.{_key(inner)}]", item) for inner, item in value.items()]
        else:
            items = [(f"[[{name}]]", item) for item in value]
        for heading, item in items:
            yield ""
            yield heading
            yield from _lines(name, item)


def _has_headings(value: object, *, top: bool) -> bool:
    """Whether a value is tables of their own: at the top, and lists of tables with tables in them.

    Anything else is written in place: a table on one line, a list of tables one line each.
    """
    if isinstance(value, Mapping):
        return top and bool(value)
    if not isinstance(value, tuple | list) or not value:
        return False
    tables = [item for item in value if isinstance(item, Mapping)]
    return bool(tables) and (top or any(not _is_flat(item) for item in tables))


def _is_flat(table: Mapping[str, Any]) -> bool:
    return not any(
        isinstance(part, Mapping)
        for value in table.values()
        for part in (value if isinstance(value, tuple | list) else (value,))
    )


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, tuple | list):
        parts = [_value(item) for item in value]
        short = "[" + ", ".join(parts) + "]"
        if not any(isinstance(item, Mapping) for item in value) and len(short) <= _LINE:
            return short
        return "[\n" + "".join(f"    {part},\n" for part in parts) + "]"
    return tomli_w.dumps({"v": value}).removeprefix("v = ").removesuffix("\n")


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
