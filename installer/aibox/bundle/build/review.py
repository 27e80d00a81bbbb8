"""What a person reviews: how two states of the lock differ, and how wishes stand with it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum

from aibox.bundle.build import wishes
from aibox.bundle.build.wishes import Key, Standing, Want
from aibox.bundle.sizes import show_size
from aibox.difference import Difference, compare
from aibox.lock import ModelsLock, Wheel
from aibox.pins import FilePin, ImagePin, ModelPin, PackageSet, Pin
from aibox.serving import spelt_out


class Matter(StrEnum):
    """What is the matter with an entry; only `unresolved` is legal in a lock that is up to date."""

    CHANGED = "changed"
    MISSING = "missing"
    STALE = "stale"
    UNRESOLVED = "unresolved"


class Change(Difference):
    """A difference between two states of the lock, or between a wish and the lock."""

    state: Matter = Matter.CHANGED

    @property
    def out_of_date(self) -> bool:
        """Whether the lock has to be written anew because of it."""
        return self.state is not Matter.UNRESOLVED


def changes(before: ModelsLock | None, after: ModelsLock) -> tuple[Change, ...]:
    """What differs, by name (`model.qwen3-8b revision`); entries that are new are one row each."""
    if before is None:
        flat = {"models.lock": f"{len(wishes.pins_of(after))} pins, {len(after.wheel)} packages"}
        return _rows({}, flat)
    old, new = _entries(before), _entries(after)
    found: list[Change] = []
    for name in sorted({*old, *new}):
        if name in old and name in new:
            pairs = (_named(name, old[name]), _named(name, new[name]))
            found += _rows(*pairs)
        else:
            found += _rows(*({name: _summary(s[name])} if name in s else {} for s in (old, new)))
    return tuple(found)


def findings(lock: ModelsLock, wants: Mapping[Key, Want]) -> tuple[Change, ...]:
    """The wishes that models.lock does not fulfil, or not yet; looks nothing up."""
    pins = wishes.pins_of(lock)
    compared = {key: wishes.compare(want, pins.get(key)) for key, want in wants.items()}
    return tuple(
        Change(
            name=".".join(key),
            current=finding.detail,
            desired="as wished by " + ", ".join(wants[key].profiles),
            state=Matter(finding.standing.value),
        )
        for key, finding in compared.items()
        if finding.standing is not Standing.FITS
    )


def _rows(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(Change(**item.model_dump()) for item in compare(before, after))


def _named(name: str, facts: Mapping[str, str]) -> dict[str, str]:
    return {f"{name} {fact}".rstrip(): value for fact, value in facts.items()}


def _summary(facts: Mapping[str, str]) -> str:
    """An entry in one line; its single files and packages are in the lock itself."""
    return ", ".join(value for fact, value in facts.items() if value and not fact.startswith(": "))


def _entries(lock: ModelsLock) -> dict[str, dict[str, str]]:
    """Every entry of the lock by name, as facts by name; a fact without name is the entry."""
    found = {"models.lock": {"revision": str(lock.revision)}}
    found |= {
        f"tuning.{profile}.{name}": {"": json.dumps(value, ensure_ascii=False)}
        for profile, tuning in lock.tuning.items()
        for name, value in tuning.model_dump(mode="json").items()
    }
    for profile, embedding in lock.embedding.items():
        found[f"embedding.{profile}"] = {
            "": f"{embedding.model}, {embedding.dimension} values",
            "similarity": f"{embedding.similarity_floor} to {embedding.similarity_ceiling}",
        }
    for profile, rerank in lock.rerank.items():
        found[f"rerank.{profile}"] = {"": f"{rerank.model}, {rerank.candidates} passages"}
    for profile, serving in lock.serving.items():
        found |= {
            f"serving.{profile}.{key}": {"": text} for key, text in spelt_out(serving).items()
        }
    for question in lock.golden:
        found[f"golden.{question.id}"] = {
            "": question.question,
            "expects": question.document or question.expect,
            "required": json.dumps(question.required),
        }
    for tree in lock.tree:
        for file in tree.files:
            found[f"{tree.role.value}/{file.path}"] = {"": file.sha256[:12]}
    for kind, wheels in (("wheel", lock.wheel), ("program", lock.program)):
        found |= {f"{kind}.{wheel.name}": _wheel(wheel) for wheel in wheels}
    return found | {".".join(key): dict(_facts(pin)) for key, pin in wishes.pins_of(lock).items()}


def _wheel(wheel: Wheel) -> dict[str, str]:
    return {
        "": wheel.version,
        "licence": wheel.licence,
        "redistribution": wheel.redistribution.value,
        **{f": {file.filename}": file.sha256[:12] for file in wheel.files},
    }


def _facts(pin: Pin) -> Iterator[tuple[str, str]]:
    yield from _identity(pin)
    size, parts = _size(pin)
    yield "size", show_size(size) + f" in {parts} files" * (parts != 1)
    yield "licence", pin.licence
    yield "redistribution", pin.redistribution.value
    yield "state", pin.state.value
    yield from _parts(pin)


def _identity(pin: Pin) -> Iterator[tuple[str, str]]:
    match pin:
        case ModelPin():
            yield "repository", pin.repository
            yield "revision", pin.revision[:12]
        case ImagePin():
            yield "reference", pin.reference
            yield "digest", (pin.digest or "unknown")[:12]
        case PackageSet():
            yield "target", f"{pin.target} {pin.architecture}"
            yield "wanted", " ".join(pin.wanted)
            yield "kernels", " ".join(pin.kernels)
        case FilePin():
            yield "filename", pin.filename
            yield "address", pin.address or ""
            yield "digest", (pin.sha256 or "unknown")[:12]


def _parts(pin: Pin) -> Iterator[tuple[str, str]]:
    match pin:
        case ModelPin():
            for file in pin.files:
                yield f": {file.path}", (file.sha256 or "unknown")[:12]
        case ImagePin():
            for found in pin.platforms:
                yield f": {found.platform}", found.manifest.sha256[:12]
        case PackageSet():
            for item in pin.packages:
                yield f": {item.name}:{item.architecture}", f"{item.version} {item.sha256[:12]}"


def _size(pin: Pin) -> tuple[int, int]:
    """Bytes as far as they are known, and how many files they are in."""
    sizes: list[int] = []
    match pin:
        case ModelPin():
            sizes = [file.size or 0 for file in pin.files]
        case ImagePin():
            blobs = {b.sha256: b.size for p in pin.platforms for b in (p.config, *p.layers)}
            sizes = list(blobs.values())
        case PackageSet():
            sizes = [item.size for item in pin.packages]
        case FilePin():
            sizes = [pin.size or 0]
    return sum(sizes), len(sizes)
