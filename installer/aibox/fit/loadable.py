"""Whether an engine can load a model at all, before anybody asks how much memory it needs. Pure.

The catalogue says which releases of the engine have a class of models, the tag of an image which
release is pinned. Of a model that the catalogue does not know, nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aibox.errors import BadUsage, Fault
from aibox.fit import catalogue as catalogues
from aibox.fit.catalogue import ArchitectureEntry, Catalogue, ModelEntry
from aibox.profile import Profile
from aibox.release import Release
from aibox.serving import Serving

_TAG = re.compile(r"vllm[^:]*:v?(?P<release>[0-9]+\.[0-9]+(\.[0-9]+)?)")


class _Model(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def repository(self) -> str: ...


class _Image(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def reference(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Unloadable:
    """A service whose engine cannot load its model: why, and what to take instead."""

    profile: str
    service: str
    model: str
    reason: str
    instead: str

    def __str__(self) -> str:
        return f"serving.{self.service}: {self.model} cannot be served: {self.reason}"


def release_in(reference: str) -> str:
    """The engine's release by the tag of an image; "" where the tag does not say."""
    found = _TAG.search(reference)
    return found["release"] if found else ""


def reasons(
    release: str, architecture: ArchitectureEntry, entry: ModelEntry | None = None
) -> Iterator[str]:
    """Why the engine of this release ("" any) cannot load a model of a class; none if it can."""
    if entry is not None and entry.refused:
        yield entry.refused
    if architecture.absent:
        yield architecture.absent
    own = entry.engine_since if entry is not None else None
    since = max([text for text in (architecture.since, own) if text], key=_number, default="")
    if release and since and _number(release) < _number(since):
        yield f"the engine has {architecture.name} from {since} on; the pinned one is {release}"
    until = architecture.until
    if release and until and _number(release) > _number(until):
        yield f"the engine had {architecture.name} up to {until}; the pinned one is {release}"


def of_profile(catalogue: Catalogue, profile: Profile) -> tuple[Unloadable, ...]:
    """The models of a profile that its own engines cannot load."""
    return tuple(_found(catalogue, profile.name, profile.serving, profile.model, profile.image))


def refuse_profiles(folder: Path, profiles: Iterable[Profile]) -> None:
    """Raise `BadUsage` (`model-not-loadable`) for the first model that cannot be served.

    `folder` is that of the catalogue, which is read only where models are served.
    """
    serving = [profile for profile in profiles if profile.serving]
    if serving:
        catalogue = catalogues.load(folder)
        _refuse(one for profile in serving for one in of_profile(catalogue, profile))


def refuse_release(folder: Path, release: Release) -> None:
    """As `refuse_profiles`, for what is about to be installed."""
    if release.serving:
        found = _found(
            catalogues.load(folder),
            release.profile,
            release.serving,
            release.models,
            release.images,
        )
        _refuse(found)


def _found(
    catalogue: Catalogue,
    profile: str,
    serving: Mapping[str, Serving],
    models: Iterable[_Model],
    images: Iterable[_Image],
) -> Iterator[Unloadable]:
    repositories = {one.name: one.repository for one in models}
    references = {one.name: one.reference for one in images}
    for service, item in sorted(serving.items()):
        entry = catalogue.model(repositories[item.model])
        if entry is None:
            continue
        architecture = catalogue.architecture(entry.architecture)
        release = release_in(references[item.image])
        instead = entry.instead or architecture.instead
        for reason in reasons(release, architecture, entry):
            yield Unloadable(profile, service, entry.name, reason, instead)


def _refuse(found: Iterable[Unloadable]) -> None:
    for one in found:
        raise BadUsage(
            "model-not-loadable",
            f"the profile {one.profile!r} cannot be served as it is: {one}",
            hint=f"{one.instead or 'take another model, or a newer image of the engine'}; "
            f"see what can be served: ./aibox fit --list",
            fault=Fault.UPSTREAM,
        )


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
