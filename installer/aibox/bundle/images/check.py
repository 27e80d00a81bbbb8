"""Is this image what its pin says, and harmless to unpack? Asked when a bundle is built, and on a
box before Docker is given the image.

The blobs are read as streams, each once, in bounded memory; nothing is extracted. A manifest that
names a layer of 999 TiB is refused before a byte of the layer is read. Problems are values:
`check` finds them, `problems.refuse` raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from aibox import digest
from aibox.bundle.images.describe import describe
from aibox.bundle.images.layer import Budget, Layer, check_layer
from aibox.bundle.images.limits import LIMITS, Limits
from aibox.bundle.images.manifest import (
    CONFIG_BYTES,
    MANIFEST_BYTES,
    ImageConfig,
    Index,
    Manifest,
    parse,
    parse_config,
)
from aibox.bundle.images.problems import Note, Problem, ProblemKind, Unfit
from aibox.pins import Blob, ImagePlatform

FORBIDDEN_VARIABLES = ("LD_AUDIT", "LD_PRELOAD")
"""Code that hooks of a container toolkit would load on the host (CVE-2025-23266)."""

Opener = Callable[[Blob], BinaryIO]
"""Opens a blob for reading; raises `OSError` when it cannot be read."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in an image; without problems it may be loaded."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[Note, ...] = ()


def check(
    platform: ImagePlatform,
    open_blob: Opener,
    *,
    limits: Limits = LIMITS,
    on_bytes: Callable[[int], None] = lambda _count: None,
    workers: int = 1,
) -> Checked:
    """Read all of an image, layers in `workers` threads; `on_bytes` counts what was read.

    Bytes are compared with the digests of the pin while they are read, so that what was checked is
    what was opened. Never raises for what the bytes are.
    """
    try:
        manifest = _manifest(platform, open_blob)
        _require_pinned(platform, manifest)
        config = _config(platform, open_blob)
    except Unfit as unfit:
        return Checked((unfit.problem,))
    on_bytes(platform.manifest.size + platform.config.size)
    if problems := tuple(_config_problems(platform, manifest, config)):
        return Checked(problems)
    budget = Budget(limits.image_bytes)
    layers = [
        Layer(number, descriptor, diff_id)
        for number, (descriptor, diff_id) in enumerate(
            zip(manifest.layers, config.rootfs.diff_ids, strict=True), 1
        )
    ]
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda one: _layer(one, open_blob, limits, budget, on_bytes), layers))
    return Checked(
        tuple(problem for problems, _ in found for problem in problems),
        tuple(note for _, notes in found for note in notes),
    )


def _layer(
    layer: Layer,
    open_blob: Opener,
    limits: Limits,
    budget: Budget,
    on_bytes: Callable[[int], None],
) -> tuple[Sequence[Problem], Sequence[Note]]:
    try:
        with open_blob(layer.descriptor.blob) as stream:
            return check_layer(layer, stream, limits=limits, budget=budget, on_bytes=on_bytes)
    except OSError as error:
        return [Problem(ProblemKind.MISSING, layer.where, error.strerror or "unreadable")], ()


def _manifest(platform: ImagePlatform, open_blob: Opener) -> Manifest:
    document = parse(_small(platform.manifest, open_blob, "manifest", MANIFEST_BYTES), "manifest")
    if isinstance(document, Index):
        raise Unfit(ProblemKind.PIN, "manifest", "an index, not the manifest of a platform")
    return document


def _config(platform: ImagePlatform, open_blob: Opener) -> ImageConfig:
    data = _small(platform.config, open_blob, "configuration", CONFIG_BYTES)
    return parse_config(data, "configuration")


def _small(blob: Blob, open_blob: Opener, where: str, limit: int) -> bytes:
    """A blob that is read whole; its digest is compared before anything is read into it."""
    if blob.size > limit:
        raise Unfit(ProblemKind.TOO_LARGE, where, f"{blob.size} bytes; {limit} may be")
    try:
        with open_blob(blob) as stream:
            data = b"".join(_up_to(stream, blob.size + 1))
    except OSError as error:
        raise Unfit(ProblemKind.MISSING, where, error.strerror or "unreadable") from error
    if len(data) != blob.size or digest.of_bytes(data) != blob.sha256:
        raise Unfit(ProblemKind.DIGEST, where, f"expected sha256:{blob.sha256}")
    return data


def _up_to(stream: BinaryIO, count: int) -> Iterator[bytes]:
    while count > 0 and (data := stream.read(count)):
        yield data
        count -= len(data)


def _require_pinned(platform: ImagePlatform, manifest: Manifest) -> None:
    """The manifest names the blobs that the pin names, in its order."""
    if manifest.config.blob != platform.config:
        raise Unfit(ProblemKind.PIN, "manifest", "names another configuration than the pin")
    if tuple(layer.blob for layer in manifest.layers) != platform.layers:
        raise Unfit(ProblemKind.PIN, "manifest", "names other layers than the pin")


def _config_problems(
    platform: ImagePlatform, manifest: Manifest, config: ImageConfig
) -> Iterator[Problem]:
    """What the configuration says of itself, against the manifest and the pin."""
    where, expected = "configuration", len(manifest.layers)
    if (count := len(config.rootfs.diff_ids)) != expected:
        yield Problem(ProblemKind.LAYER_COUNT, where, f"{count} of {expected} layers have a digest")
    for name in FORBIDDEN_VARIABLES:
        if config.run.sets(name):
            yield Problem(ProblemKind.ENVIRONMENT, where, name)
    try:
        found = describe(platform.manifest, platform.config, platform.layers, config)
    except ValueError:
        yield Problem(ProblemKind.PLATFORM, where, "not for Linux")
        return
    if found.platform != platform.platform:
        yield Problem(ProblemKind.PLATFORM, where, f"{found.platform}, not {platform.platform}")
    elif found != platform:
        yield Problem(ProblemKind.PIN, where, "another user, ports or CUDA than the pin repeats")
