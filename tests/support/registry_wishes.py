"""What is asked of a double of a registry: two images, a wish, and what came of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from aibox.bundle.build import registry
from aibox.bundle.licences import classify
from aibox.errors import AiboxError
from aibox.pins import ImagePin
from aibox.profile import ImageWish
from aibox.progress import Progress
from image_maker import make_image, tar
from registry_double import BASIC, RegistryDouble

RUN = {
    "User": "1000:1000",
    "ExposedPorts": {"8000/tcp": {}, "443/tcp": {}},
    "Env": ["PATH=/bin", "NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470"],
    "Labels": {
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.vendor": "Example Inc.",
    },
}
NOISE = os.urandom(200_000)
WEB = httpx.Client(timeout=10)
"""One client for all tests: reading the certificates takes longer than any of them."""
AMD = make_image([tar({"bin/a": NOISE}), tar({"etc/b": b"b"})], run=RUN)
ARM = make_image([tar({"bin/a": NOISE[::-1]})], architecture="arm64", config={"variant": "v8"})


def quiet(_progress: Progress) -> None:
    """Let progress pass."""


def wish(double: RegistryDouble, tag: str = "1") -> ImageWish:
    """A wish for the image of this tag."""
    return ImageWish(name="app", reference=f"{double.registry}/demo/app:{tag}")


def resolve(double: RegistryDouble, *architectures: str, **options: Any) -> ImagePin:
    """The pin that the wish, or that of `options`, becomes."""
    return registry.resolve(
        options.pop("wish", None) or wish(double),
        options.pop("previous", None),
        architectures or ("x86_64",),
        quiet,
        classify=classify,
        client=WEB,
        **options,
    )


def refusal(double: RegistryDouble, *architectures: str, **options: Any) -> AiboxError:
    """What resolving refuses with."""
    with pytest.raises(AiboxError) as caught:
        resolve(double, *architectures, **options)
    return caught.value


def credentials(folder: Path, double: RegistryDouble, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give whoever asks a file with the right password; its path."""
    path = folder / "auth.json"
    entry = {"auth": BASIC.removeprefix("Basic ")}
    path.write_text(json.dumps({"auths": {double.registry: entry}}))
    path.chmod(0o600)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    return path
