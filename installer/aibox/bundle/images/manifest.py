"""Indexes, manifests and configurations of images, read strictly. Pure: bytes in, values out.

The digest of these bytes is trusted, not what they say: a document that two readers may understand
differently (a key given twice or in another case, both `layers` and `manifests`) is `Unfit`.
Formats: OCI image specification 1.1 and Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as validator

from aibox.bundle.images.problems import ProblemKind, Unfit
from aibox.pins import Blob

MANIFEST_BYTES = 4 << 20
"""What registries take at the most (OCI distribution specification 1.1)."""

CONFIG_BYTES = 8 << 20
LAYERS = 125
"""Layers that Docker's store can put on top of one another (maxLayerDepth)."""

LAYERS_BYTES = 256 << 30
"""All layers together, as they lie in the registry: ten times the largest images of this field."""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
_PLAIN, _GZIP, _ZSTD = "", "gzip", "zstd"
LAYER_COMPRESSIONS = {
    "application/vnd.oci.image.layer.v1.tar": _PLAIN,
    "application/vnd.oci.image.layer.v1.tar+gzip": _GZIP,
    "application/vnd.oci.image.layer.v1.tar+zstd": _ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar": _PLAIN,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": _GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": _ZSTD,
}
_FOREIGN = ("nondistributable", "foreign")
_PREFIX = "sha256:"

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
ByteCount = Annotated[int, Field(strict=True, ge=0)]


class _Document(BaseModel):
    """Frozen; unknown keys are ignored, known ones in another case refused (Go reads both)."""

    model_config = ConfigDict(frozen=True, populate_by_name=False)

    @validator(mode="before")
    @classmethod
    def _has_one_spelling(cls, raw: object) -> object:
        names = {field.alias or name for name, field in cls.model_fields.items()}
        folded = {name.casefold() for name in names}
        for key in raw if isinstance(raw, dict) else ():
            if key not in names and key.casefold() in folded:
                raise ValueError(f"the key {key[:40]!r} is another spelling of a known one")
        return raw


class Descriptor(_Document):
    """A blob that a document names."""

    media_type: str = Field(alias="mediaType")
    digest: Digest
    size: ByteCount
    urls: tuple[str, ...] = ()

    @property
    def blob(self) -> Blob:
        """Digest and size alone."""
        return Blob(sha256=self.digest.removeprefix(_PREFIX), size=self.size)


class Platform(_Document):
    """What an image runs on, in Go's words."""

    architecture: str
    os: str
    variant: str = ""


class IndexEntry(Descriptor):
    """A manifest of an index; without a platform it is not for running."""

    platform: Platform | None = None


class Index(_Document):
    """An OCI index or a Docker manifest list."""

    schema_version: Annotated[int, Field(alias="schemaVersion", strict=True, ge=2, le=2)]
    media_type: str | None = Field(default=None, alias="mediaType")
    manifests: tuple[IndexEntry, ...]


class Manifest(_Document):
    """An image for one platform; layers from the lowest up."""

    schema_version: Annotated[int, Field(alias="schemaVersion", strict=True, ge=2, le=2)]
    media_type: str | None = Field(default=None, alias="mediaType")
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], Field(min_length=1)]


class RunConfig(_Document):
    """How a container of the image starts."""

    user: str | None = Field(default=None, alias="User")
    environment: tuple[str, ...] | None = Field(default=None, alias="Env")
    exposed_ports: dict[str, object] | None = Field(default=None, alias="ExposedPorts")
    labels: dict[str, str] | None = Field(default=None, alias="Labels")

    def variable(self, name: str) -> str:
        """The value of an environment variable; "" when it is not set."""
        pairs = (entry.partition("=") for entry in self.environment or ())
        return next((value for found, _, value in pairs if found == name), "")

    def sets(self, name: str) -> bool:
        """Whether the variable is given at all, empty or not."""
        return any(entry.partition("=")[0] == name for entry in self.environment or ())

    def label(self, *names: str) -> str:
        """The first of these labels that says something; "" when none does."""
        found = ((self.labels or {}).get(name, "").strip() for name in names)
        return next(filter(None, found), "")


class RootFilesystem(_Document):
    """The digests of the uncompressed layers."""

    type: str
    diff_ids: tuple[Digest, ...]


class ImageConfig(Platform):
    """The configuration of an image; its digest is the image's id."""

    config: RunConfig | None = None
    rootfs: RootFilesystem

    @property
    def run(self) -> RunConfig:
        """How it starts; all empty when the image does not say."""
        return self.config or RunConfig()


D = TypeVar("D", bound=_Document)


def parse(data: bytes, where: str, media_type: str = "") -> Index | Manifest:
    """Read what a registry gave for a tag or a digest.

    `media_type` is the registry's word for it ("" if unknown); it may not contradict the bytes.
    Raises `Unfit`: too large, not JSON, malformed, schema 1, not an image.
    """
    raw = _json(data, where, ProblemKind.MANIFEST, MANIFEST_BYTES)
    if raw.get("schemaVersion") == 1 or "distribution.manifest.v1" in media_type:
        raise Unfit(ProblemKind.SCHEMA_1, where, "an old format without digests of its layers")
    if ("manifests" in raw) == ("layers" in raw or "config" in raw):
        raise Unfit(ProblemKind.MANIFEST, where, "neither an index nor a manifest, or both")
    if "manifests" in raw:
        index = _validated(raw, Index, where, ProblemKind.MANIFEST)
        _require_type({index.media_type or "", media_type}, INDEXES, where)
        return index
    manifest = _validated(raw, Manifest, where, ProblemKind.MANIFEST)
    _require_type({manifest.media_type or "", media_type}, MANIFESTS, where)
    _require_image(manifest, where)
    return manifest


def parse_config(data: bytes, where: str) -> ImageConfig:
    """Read the configuration of an image; raises `Unfit`."""
    raw = _json(data, where, ProblemKind.CONFIG, CONFIG_BYTES)
    config = _validated(raw, ImageConfig, where, ProblemKind.CONFIG)
    if config.rootfs.type != "layers":
        raise Unfit(ProblemKind.CONFIG, where, f"a root of type {config.rootfs.type[:40]!r}")
    return config


def _require_type(said: set[str], known: frozenset[str], where: str) -> None:
    for media_type in sorted(said - known - {""}):
        raise Unfit(ProblemKind.MEDIA_TYPE, where, f"{media_type[:100]!r} for other content")


def _require_image(manifest: Manifest, where: str) -> None:
    """What a manifest may name: a configuration and layers that we know how to check."""
    if manifest.config.media_type not in CONFIGS:
        said = manifest.config.media_type[:100]
        raise Unfit(ProblemKind.MEDIA_TYPE, where, f"{said!r}: not a container image")
    if manifest.config.size > CONFIG_BYTES:
        raise Unfit(ProblemKind.TOO_LARGE, where, f"configuration: {manifest.config.size} bytes")
    if len(manifest.layers) > LAYERS:
        count = len(manifest.layers)
        raise Unfit(ProblemKind.LAYER_COUNT, where, f"{count} layers; Docker takes {LAYERS}")
    if (total := sum(layer.size for layer in manifest.layers)) > LAYERS_BYTES:
        raise Unfit(ProblemKind.TOO_LARGE, where, f"{total} bytes of layers; {LAYERS_BYTES} may be")
    for number, layer in enumerate(manifest.layers, 1):
        place = f"{where}: layer {number}"
        if layer.urls or any(word in layer.media_type for word in _FOREIGN):
            raise Unfit(ProblemKind.FOREIGN_LAYER, place, "the registry does not hold its bytes")
        if layer.media_type not in LAYER_COMPRESSIONS:
            raise Unfit(ProblemKind.MEDIA_TYPE, place, repr(layer.media_type[:100]))


def _json(data: bytes, where: str, kind: ProblemKind, limit: int) -> dict[str, object]:
    if len(data) > limit:
        raise Unfit(ProblemKind.TOO_LARGE, where, f"{len(data)} bytes; {limit} may be")
    try:
        raw = json.loads(data.decode("utf-8"), object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        raise Unfit(kind, where, f"not JSON: {str(error)[:200]}") from error
    if not isinstance(raw, dict):
        raise Unfit(kind, where, "not a JSON object")
    return raw


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _validated(raw: dict[str, object], model: type[D], where: str, kind: ProblemKind) -> D:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        detail = f"{place}: {first['msg']}" if place else first["msg"]
        raise Unfit(kind, where, detail[:300]) from error
