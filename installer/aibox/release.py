"""A release: what a box runs, as a pure function of models.lock and a profile.

It holds no site data and no secret. Its id is the digest of its manifest, so two packagers
with the same lock and profile get the same release.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Protocol, TypeVar

from pydantic import Field, ValidationError

from aibox import digest
from aibox.errors import BadUsage, Fault, NeedsPerson, VerificationRefused
from aibox.hardware import Hardware
from aibox.lock import Golden, ModelsLock, Role, Wheel, serving_of, tuning_of
from aibox.pins import FilePin, ImagePin, ModelPin, PackageSet, Pin, State
from aibox.profile import (
    Embedding,
    GatePolicy,
    PackageRole,
    Profile,
    Requires,
    Rerank,
    Runtime,
    Tuning,
)
from aibox.schema import Model, Name, RelativePath, Sha256
from aibox.serving import Serving

FORMAT = 1

P = TypeVar("P", bound=Pin)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class Artifact(Model):
    """One file of the release. `source` is its path in the project, `target` in a generation."""

    role: Role
    source: RelativePath
    target: RelativePath
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256
    licence: str
    owner: str


class Release(Model):
    """The manifest of a release. Ordered, so that its canonical JSON is unique."""

    format: int
    profile: Name
    runtime: Runtime
    services: tuple[Name, ...]
    requires: Requires
    gate: GatePolicy
    tuning: Tuning
    embedding: Embedding | None
    golden: tuple[Golden, ...]
    artifacts: tuple[Artifact, ...]
    wheels: tuple[Wheel, ...]
    models: tuple[ModelPin, ...] = ()
    images: tuple[ImagePin, ...] = ()
    packages: tuple[PackageSet, ...] = ()
    package_roles: dict[Name, PackageRole] = Field(default_factory=dict)
    files: tuple[FilePin, ...] = ()
    hardware: Hardware | None = None
    serving: dict[Name, Serving] = Field(default_factory=dict)
    service_images: dict[Name, Name] = Field(default_factory=dict)
    rerank: Rerank | None = None

    @property
    def id(self) -> str:
        """The digest of the manifest, 64 hex digits."""
        return digest.of_bytes(self.manifest())

    def manifest(self) -> bytes:
        """The canonical JSON that is stored, signed and hashed."""
        return digest.canonical_json(self.model_dump(mode="json"))

    def of_role(self, role: Role) -> tuple[Artifact, ...]:
        """The files that serve one purpose."""
        return tuple(item for item in self.artifacts if item.role is role)

    @property
    def documents(self) -> frozenset[str]:
        """The names, as answers cite them, of the documents that the release carries."""
        folder = f"{Role.DOCUMENTS}/"
        return frozenset(item.target.removeprefix(folder) for item in self.of_role(Role.DOCUMENTS))


def make(lock: ModelsLock, profile: Profile) -> Release:
    """Resolve a profile against the lock. Pure; raises `BadUsage` when the lock lacks it."""
    artifacts = [
        Artifact(
            role=tree.role,
            source=f"{tree.root}/{file.path}",
            target=f"{tree.role.value}/{file.path}",
            size=file.size,
            sha256=file.sha256,
            licence=tree.licence,
            owner=tree.owner,
        )
        for tree in lock.tree
        for file in tree.files
    ]
    return Release(
        format=FORMAT,
        profile=profile.name,
        runtime=profile.runtime,
        services=profile.services,
        requires=profile.requires,
        gate=profile.gate,
        tuning=tuning_of(lock, profile.name),
        embedding=lock.embedding.get(profile.name),
        rerank=lock.rerank.get(profile.name),
        golden=lock.golden,
        artifacts=tuple(sorted(artifacts, key=lambda item: item.target)),
        wheels=_wheels(lock, profile.runtime),
        models=_wished("model", profile.model, lock.model),
        images=_wished("image", profile.image, lock.image),
        packages=_wished("packages", profile.packages, lock.packages),
        package_roles={wish.name: wish.role for wish in profile.packages if wish.role},
        files=_wished("file", profile.file, lock.file),
        hardware=profile.hardware,
        serving=serving_of(lock, profile.name) if profile.serving else {},
        service_images=dict(sorted(profile.service_images.items())),
    )


def _wheels(lock: ModelsLock, runtime: Runtime) -> tuple[Wheel, ...]:
    """The application's packages; in a container they come with its image."""
    wheels = lock.wheel if runtime is Runtime.PROCESS else ()
    return tuple(sorted(wheels, key=lambda item: item.name))


def _wished(kind: str, wishes: Iterable[_Named], pins: Iterable[P]) -> tuple[P, ...]:
    """The pins of the wished names, sorted; `BadUsage` when the lock lacks one."""
    known = {pin.name: pin for pin in pins}
    names = sorted(wish.name for wish in wishes)
    for name in names:
        if name not in known:
            raise BadUsage(
                "lock-lacks-pin",
                f"models.lock has no {kind} named {name!r}, which the profile wishes for",
                hint="resolve it with: ./aibox lock",
                fault=Fault.YOU,
            )
    return tuple(known[name] for name in names)


def unresolved(release: Release) -> tuple[str, ...]:
    """What of a release has no digest yet, by name: a build completes it, a box refuses it."""
    pins: tuple[Pin, ...] = (*release.models, *release.images, *release.packages, *release.files)
    return tuple(pin.name for pin in pins if pin.state is State.UNRESOLVED)


def refuse_unresolved(release: Release) -> None:
    """Raise `VerificationRefused` (`release-unresolved`) while some of it has no digest."""
    if names := unresolved(release):
        raise VerificationRefused(
            "release-unresolved",
            f"no digest is known of: {', '.join(names)}",
            hint="its maker completes it with: ./aibox lock",
            fault=Fault.UPSTREAM,
        )


def parse(manifest: bytes) -> Release:
    """Read a stored manifest back; raises `NeedsPerson` when it is not one of ours."""
    try:
        return Release.model_validate(json.loads(manifest))
    except (ValueError, ValidationError, RecursionError) as error:
        raise NeedsPerson(
            "manifest-damaged",
            "a generation's manifest is not readable",
            context=str(error).splitlines()[0],
            hint="see which generation is damaged with: ./aibox doctor",
            fault=Fault.HOST,
        ) from error
