"""Every object a release needs on a host of one architecture, and where it lies in a generation.

Pure, and the same on both sides: what a bundle must carry is what a box will stage. Paths are
below `tree/`. A container image lies as skopeo's `dir:` layout, so that a folder of hardlinks is
one; packages lie as their archive's pool.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from pydantic import Field

from aibox import digest
from aibox.errors import BadUsage, Fault
from aibox.lock import WheelFile
from aibox.pins import Blob, ImagePin, ImagePlatform, PackageSet
from aibox.release import Release
from aibox.schema import Model, RelativePath, Sha256

IMAGE_VERSION = b"Directory Transport Version: 1.1\n"
"""The file `version` of a `dir:` layout (containers/image, directory transport)."""

PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
"""Architecture as the kernel names it -> platform as an image index names it."""

ARCHITECTURES = {
    "x86_64": frozenset({"amd64", "x86_64"}),
    "aarch64": frozenset({"arm64", "aarch64"}),
}
"""Architecture as the kernel names it -> as packaging systems do."""


PACKAGES = "packages/"
"""Where package repositories lie."""

_PYTHON = re.compile(r"3\.([0-9]{1,2})", re.ASCII)


class Placed(Model):
    """One file of a generation's tree: its path below `tree/`, size in bytes, digest."""

    path: RelativePath
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


def of_release(release: Release, architecture: str) -> tuple[Placed, ...]:
    """All objects but the Python packages; `BadUsage` when an image lacks the architecture."""
    return (
        *(Placed(path=a.target, size=a.size, sha256=a.sha256) for a in release.artifacts),
        *_models(release),
        *(item for image in release.images for item in _image(image, architecture)),
        *(item for chosen in packages(release, architecture) for item in _packages(chosen)),
        *_files(release),
    )


def wheels(files: Iterable[WheelFile]) -> tuple[Placed, ...]:
    """The chosen builds of the Python packages."""
    return tuple(
        Placed(path=f"wheels/{file.filename}", size=file.size, sha256=file.sha256) for file in files
    )


def fits(filename: str, pythons: Collection[str], architectures: Collection[str]) -> bool:
    """Whether a wheel runs on one of these interpreters (`3.11`) and architectures (`x86_64`).

    False for what is no name of a wheel, or no version.
    """
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return False
    runs = {pair for python in pythons for pair in _runs_on(python)}
    return any(
        (tag.interpreter, tag.abi) in runs and _is_for(tag.platform, machine)
        for tag in tags
        for machine in architectures
    )


def _is_for(platform: str, machine: str) -> bool:
    linux = platform.startswith(("manylinux", "linux")) and platform.endswith(f"_{machine}")
    return platform == "any" or linux


@cache
def _runs_on(python: str) -> frozenset[tuple[str, str]]:
    """Interpreter and ABI of all that CPython `3.11` takes, whatever the platform."""
    match = _PYTHON.fullmatch(python)
    if match is None:
        return frozenset()
    version, name, platforms = (3, int(match[1])), f"cp3{match[1]}", ["any"]
    known = (
        *cpython_tags(version, abis=[name], platforms=platforms),
        *compatible_tags(version, interpreter=name, platforms=platforms),
    )
    return frozenset((tag.interpreter, tag.abi) for tag in known)


def packages(release: Release, architecture: str) -> tuple[PackageSet, ...]:
    """The package sets for hosts of one architecture."""
    names = ARCHITECTURES.get(architecture, frozenset({architecture}))
    return tuple(item for item in release.packages if item.architecture in names)


def platform(image: ImagePin, architecture: str) -> ImagePlatform:
    """The image's build for one architecture; `BadUsage` when the lock has none."""
    wanted = PLATFORMS.get(architecture, f"linux/{architecture}")
    for found in image.platforms:
        if found.platform == wanted:
            return found
    raise BadUsage(
        "image-does-not-fit",
        f"models.lock has no build of the image {image.name} for {architecture}",
        context=image.reference,
        hint="choose a profile for this architecture: ./aibox profiles",
        fault=Fault.YOU,
    )


def image_files(found: ImagePlatform) -> dict[str, Blob]:
    """The files of an image's `dir:` layout, by name."""
    version = Blob(sha256=digest.of_bytes(IMAGE_VERSION), size=len(IMAGE_VERSION))
    blobs = {blob.sha256: blob for blob in (found.config, *found.layers)}
    return {"version": version, "manifest.json": found.manifest, **blobs}


def _models(release: Release) -> Iterable[Placed]:
    for model in release.models:
        for file in model.files:
            if file.size is not None and file.sha256 is not None:
                path = f"models/{model.name}/{file.path}"
                yield Placed(path=path, size=file.size, sha256=file.sha256)


def _image(image: ImagePin, architecture: str) -> Iterable[Placed]:
    for name, blob in image_files(platform(image, architecture)).items():
        yield Placed(path=f"images/{image.name}/{name}", size=blob.size, sha256=blob.sha256)


def repository(chosen: PackageSet) -> str:
    """The folder of a package set in a generation's tree: a repository of its own."""
    return PACKAGES + chosen.name


def _packages(chosen: PackageSet) -> Iterable[Placed]:
    for item in chosen.packages:
        path = f"{repository(chosen)}/pool/{PurePosixPath(item.path).name}"
        yield Placed(path=path, size=item.size, sha256=item.sha256)


def _files(release: Release) -> Iterable[Placed]:
    for item in release.files:
        if item.size is not None and item.sha256 is not None:
            path = f"files/{item.name}/{item.filename}"
            yield Placed(path=path, size=item.size, sha256=item.sha256)
