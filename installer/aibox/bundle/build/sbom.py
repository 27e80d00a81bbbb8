"""The bill of materials of a bundle, CycloneDX 1.6 in JSON: the same parts give the same bytes."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from aibox import digest
from aibox.bundle.inventory import UNKNOWN, PackageName, Part, content_digest
from aibox.bundle.manifest import Kind
from aibox.lock import ModelsLock
from aibox.release import Release

SCHEMA = SchemaVersion.V1_6
LISTED_FILES = 32
"""A part of more files than that is given by one digest over all of them."""

_TYPES = {
    Kind.MODEL: ComponentType.MACHINE_LEARNING_MODEL,
    Kind.IMAGE: ComponentType.CONTAINER,
    Kind.PACKAGE: ComponentType.LIBRARY,
    Kind.WHEEL: ComponentType.LIBRARY,
    Kind.FILE: ComponentType.FILE,
    Kind.PROJECT: ComponentType.APPLICATION,
    Kind.INTERPRETER: ComponentType.APPLICATION,
}
_OWN_SERIALS = uuid.uuid5(uuid.NAMESPACE_OID, "aibox bundle")


def make(parts: Sequence[Part], releases: Sequence[Release], lock: ModelsLock) -> bytes:
    """The SBOM of a bundle with these parts and releases; its date is the lock's."""
    bundle = _bundle(releases, lock)
    components = [_component(part) for part in parts]
    bom = Bom(
        serial_number=uuid.uuid5(_OWN_SERIALS, _identity(parts, releases, lock)),
        metadata=BomMetaData(
            component=bundle,
            timestamp=datetime.datetime.combine(lock.date, datetime.time(), datetime.UTC),
        ),
        components=components,
    )
    bom.register_dependency(bundle, components)
    text = make_outputter(bom, OutputFormat.JSON, SCHEMA).output_as_string()
    return digest.canonical_json(json.loads(text))


def _identity(parts: Sequence[Part], releases: Sequence[Release], lock: ModelsLock) -> str:
    contents = [[part.kind, part.name, content_digest(part.files)] for part in parts]
    return digest.of_json([lock.sequence, [release.id for release in releases], contents])


def _bundle(releases: Sequence[Release], lock: ModelsLock) -> Component:
    stated = {f"release.{release.profile}": release.id for release in releases}
    return Component(
        type=ComponentType.PLATFORM,
        name="aibox-bundle",
        version=str(lock.sequence),
        bom_ref="bundle",
        properties=_properties(stated),
    )


def _component(part: Part) -> Component:
    return Component(
        type=_TYPES[part.kind],
        name=part.name,
        version=part.version,
        bom_ref=f"{part.kind.value}/{part.name}@{part.version}",
        supplier=OrganizationalEntity(name=part.owner) if part.owner != UNKNOWN else None,
        licenses=[LicenseFactory().make_from_string(part.licence)]
        if part.licence != UNKNOWN
        else None,
        purl=_purl(part.url) if part.url else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=value) for value in _hashes(part)],
        properties=_properties(_facts(part)),
    )


def _hashes(part: Part) -> list[str]:
    """The digest of the thing itself: of its only file, of an image's manifest."""
    if part.kind is Kind.IMAGE:
        return [part.version.removeprefix("sha256:")]
    return [blob.sha256 for blob in part.files.values()] if len(part.files) == 1 else []


def _facts(part: Part) -> dict[str, str]:
    facts = {
        "redistribution": part.redistribution.value,
        "size": str(part.size),
        "files": str(len(part.files)),
    }
    if 1 < len(part.files) <= LISTED_FILES:
        facts |= {f"file:{name}": blob.sha256 for name, blob in part.files.items()}
    elif part.files:
        facts["content"] = content_digest(part.files)
    return facts


def _properties(facts: Mapping[str, str]) -> Iterable[Property]:
    return [Property(name=f"aibox:{name}", value=value) for name, value in facts.items()]


def _purl(name: PackageName) -> PackageURL:
    return PackageURL(
        type=name.type,
        namespace=name.namespace or None,
        name=name.name,
        version=None if name.version == UNKNOWN else name.version,
        qualifiers=dict(name.qualifiers) or None,
    )
