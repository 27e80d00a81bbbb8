"""Container images at a registry: from a tag to a pin, and from a pin to bytes in the cache.

No daemon and no other program: skopeo starts a layer anew when it was stopped, and says nothing of
the bytes that come (ADR 14).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import httpx

from aibox import objects
from aibox.bundle.build import download, registry_credentials, registry_errors, web
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import Request
from aibox.bundle.build.registry_client import Document, Registry
from aibox.bundle.build.web import Trouble
from aibox.bundle.images.describe import describe, name_of, plain
from aibox.bundle.images.manifest import (
    CONFIG_BYTES,
    ImageConfig,
    Index,
    IndexEntry,
    Manifest,
    parse,
    parse_config,
)
from aibox.bundle.images.problems import ProblemKind, Unfit, refuse
from aibox.bundle.images.reference import ImageReference
from aibox.bundle.images.reference import parse as parse_reference
from aibox.bundle.manifest import Kind
from aibox.errors import Failed
from aibox.pins import ImagePin, ImagePlatform, Redistribution, State
from aibox.profile import ImageWish
from aibox.progress import Progress, Report

Classify = Callable[[str, Kind], Redistribution]
UNKNOWN = "unknown"
_LICENCE = "org.opencontainers.image.licenses"
_OWNERS = ("org.opencontainers.image.vendor", "org.opencontainers.image.authors", "maintainer")


def resolve(
    wish: ImageWish,
    previous: ImagePin | None,
    architectures: Sequence[str],
    report: Report,
    *,
    classify: Classify,
    client: httpx.Client | None = None,
) -> ImagePin:
    """Pin a wish for `architectures` (as `uname -m` names them).

    `previous` is the pin to keep to: with the same reference its digest is completed, whatever the
    tag names today, and what people wrote into it (licence, class, owner, source) stays. None asks
    the tag.

    Raises:
        BadUsage: the name is malformed, or the credentials cannot be used.
        Failed: `image-unknown`, `image-denied`, `image-lacks-platform`, `registry-…`.
        VerificationRefused: `image-differs`; `image-refused` for what is no image we can carry.
    """
    reference = parse_reference(wish.reference)
    keep = previous if previous and previous.reference == wish.reference else None
    wanted = tuple(objects.PLATFORMS.get(name, f"linux/{name}") for name in architectures)
    if not wanted:
        raise registry_errors.lacks_platform(reference, "no architecture at all", "")
    if keep is not None and _is_complete(keep, wanted):
        return keep
    with web.session(client) as session:
        registry = Registry(reference, session, registry_credentials.find(reference))
        document = registry.manifest(_name_of(keep, reference))
        found = f"sha256:{document.blob.sha256}"
        report(Progress("lock", f"image {wish.name}: {reference} is {found}"))
        try:
            built = [_platform(registry, one) for one in _chosen(registry, document, wanted)]
        except Unfit as unfit:
            refuse(wish.name, [unfit.problem])
            raise
    platforms = tuple(platform for platform, _ in built)
    _require_platforms(reference, platforms, wanted)
    if keep is not None:
        return _completed(keep, document, platforms, built[0][1])
    return _pinned(wish, reference, document, platforms, built[0][1], classify)


def fetch(
    pin: ImagePin,
    architectures: Sequence[str],
    cache: BlobCache,
    report: Report,
    *,
    connections: int = 4,
    client: httpx.Client | None = None,
) -> None:
    """Bring manifests, configurations and layers of a resolved pin into the cache.

    What the cache holds already, from this image or another, is not fetched again.
    Raises like `resolve` and like `download.fetch`.
    """
    platforms = [objects.platform(pin, architecture) for architecture in architectures]
    missing = [
        one for one in platforms if cache.find(one.manifest.sha256, one.manifest.size) is None
    ]
    reference = parse_reference(pin.reference)
    with web.session(client) as session:
        registry = Registry(reference, session, registry_credentials.find(reference))
        for one in missing:
            cache.put(registry.manifest(f"sha256:{one.manifest.sha256}").data)
        requests = [request for one in platforms for request in _requests(pin, one, registry)]

        def bring() -> None:
            download.fetch(
                requests, cache, report, step="fetch", connections=connections, client=session
            )

        _with_fresh_tokens(bring, registry, lambda: _held(cache, requests))


def _with_fresh_tokens(
    bring: Callable[[], None], registry: Registry, held: Callable[[], int]
) -> None:
    """Go on with a new token where the registry ended one early, as long as bytes still come."""
    before = -1
    while True:
        try:
            return bring()
        except Failed as error:
            denied = error.reference == "download-denied"
            if not denied or held() == before or not registry.forget_token():
                raise
            before = held()


def _held(cache: BlobCache, requests: Sequence[Request]) -> int:
    """Bytes of the requests that are here, in whole files and in parts."""
    total = 0
    for request in requests:
        part = cache.part(request.sha256)
        if cache.find(request.sha256, request.size) is not None:
            total += request.size
        elif part.exists():
            total += part.stat().st_size
    return total


def _authorize(registry: Registry) -> Mapping[str, str]:
    """The headers for one attempt; a token server in trouble is asked again with the next one."""
    try:
        return registry.headers()
    except Failed as error:
        if error.reference not in ("registry-unreachable", "registry-rate-limit"):
            raise
        raise Trouble(error.message, fault=error.fault) from error


def _requests(pin: ImagePin, platform: ImagePlatform, registry: Registry) -> Iterator[Request]:
    count = len(platform.layers)
    names = ["configuration", *(f"layer {number} of {count}" for number in range(1, count + 1))]
    authorize = partial(_authorize, registry)
    for blob, name in zip((platform.config, *platform.layers), names, strict=True):
        yield Request(
            address=registry.blob_address(blob.sha256),
            sha256=blob.sha256,
            size=blob.size,
            what=f"image {pin.name}: {name}",
            authorize=authorize,
        )


def _is_complete(pin: ImagePin, wanted: Sequence[str]) -> bool:
    return pin.state is State.RESOLVED and {*wanted} <= {one.platform for one in pin.platforms}


def _chosen(registry: Registry, document: Document, wanted: Sequence[str]) -> Iterator[Document]:
    """The manifests of the wanted platforms; attestations and other platforms are passed over."""
    parsed = parse(document.data, str(registry.reference), document.media_type)
    if isinstance(parsed, Manifest):
        yield document
        return
    for platform in wanted:
        entry = _entry(parsed, platform)
        if entry is None:
            raise registry_errors.lacks_platform(registry.reference, platform, _offered(parsed))
        found = registry.manifest(entry.digest)
        if found.blob != entry.blob:
            raise Unfit(ProblemKind.MANIFEST, platform, f"{entry.size} bytes in the index")
        yield found


def _entry(index: Index, platform: str) -> IndexEntry | None:
    """The first entry of a platform, as every other tool takes it."""
    fitting = (
        entry
        for entry in index.manifests
        if entry.platform is not None and name_of(entry.platform) == platform
    )
    return next(fitting, None)


def _offered(index: Index) -> str:
    names = {name_of(entry.platform) for entry in index.manifests if entry.platform is not None}
    return plain(", ".join(sorted(names - {"unknown/unknown"})))[:300]


def _platform(registry: Registry, document: Document) -> tuple[ImagePlatform, ImageConfig]:
    where = f"{registry.reference}, sha256:{document.blob.sha256[:12]}"
    manifest = parse(document.data, where, document.media_type)
    if isinstance(manifest, Index):
        raise Unfit(ProblemKind.MANIFEST, where, "an index within an index")
    config_blob = manifest.config.blob
    config = parse_config(registry.blob(config_blob, CONFIG_BYTES), where)
    layers = tuple(layer.blob for layer in manifest.layers)
    try:
        return describe(document.blob, config_blob, layers, config), config
    except ValueError as error:
        detail = f"{plain(name_of(config))[:80]}: not for Linux"
        raise Unfit(ProblemKind.PLATFORM, where, detail) from error


def _require_platforms(
    reference: ImageReference, platforms: Sequence[ImagePlatform], wanted: Sequence[str]
) -> None:
    """The configurations are of what was wanted, whatever the index calls them."""
    found = [one.platform for one in platforms]
    for name in wanted:
        if name not in found:
            raise registry_errors.lacks_platform(reference, name, ", ".join(found))


def _name_of(pin: ImagePin | None, reference: ImageReference) -> str:
    """What the registry is asked for: the pinned bytes, else what the tag names today."""
    return f"sha256:{pin.digest}" if pin and pin.digest else reference.tag


def _completed(
    pin: ImagePin,
    document: Document,
    platforms: tuple[ImagePlatform, ...],
    config: ImageConfig,
) -> ImagePin:
    """The pin of people with all its digests; what they left open is filled in."""
    stated = _licence(config) if pin.licence == UNKNOWN else pin.licence
    found = {"digest": document.blob.sha256, "platforms": platforms, "licence": stated}
    return pin.model_copy(update={"state": State.RESOLVED, **found})


def _pinned(
    wish: ImageWish,
    reference: ImageReference,
    document: Document,
    platforms: tuple[ImagePlatform, ...],
    config: ImageConfig,
    classify: Classify,
) -> ImagePin:
    licence = _licence(config)
    owner = plain(config.run.label(*_OWNERS))[:200] or reference.repository.partition("/")[0]
    return ImagePin(
        name=wish.name,
        licence=licence,
        redistribution=classify(licence, Kind.IMAGE),
        owner=owner,
        source=f"the registry {reference.registry}",
        reference=wish.reference,
        digest=document.blob.sha256,
        platforms=platforms,
    )


def _licence(config: ImageConfig) -> str:
    return plain(config.run.label(_LICENCE))[:200] or UNKNOWN
