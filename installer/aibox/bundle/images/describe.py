"""What a pin repeats of an image's configuration. Pure; the strings are a stranger's."""

from __future__ import annotations

from aibox.bundle.images.manifest import ImageConfig, Platform
from aibox.pins import Blob, ImagePlatform

LONGEST_TEXT = 4096
MOST_PORTS = 64

_BASE_VARIANTS = {"amd64": ("", "v1"), "arm64": ("", "v8")}


def name_of(platform: Platform) -> str:
    """The platform in one word; the base variant of an architecture goes without saying."""
    variant = platform.variant
    if variant in _BASE_VARIANTS.get(platform.architecture, ("",)):
        variant = ""
    return f"{platform.os}/{platform.architecture}" + (f"/{variant}" if variant else "")


def describe(
    manifest: Blob, config: Blob, layers: tuple[Blob, ...], image: ImageConfig
) -> ImagePlatform:
    """The pin of one platform; raises `ValueError` for a platform that is none of Linux."""
    run = image.run
    return ImagePlatform(
        platform=name_of(image),
        manifest=manifest,
        config=config,
        layers=layers,
        requires_cuda=plain(run.variable("NVIDIA_REQUIRE_CUDA")),
        exposed_ports=tuple(plain(port) for port in sorted(run.exposed_ports or {})[:MOST_PORTS]),
        user=plain(run.user or ""),
    )


def plain(text: str) -> str:
    """Printable and not too long, whatever it was."""
    return "".join(one for one in text[:LONGEST_TEXT] if one.isprintable())
