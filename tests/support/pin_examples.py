"""Small valid pins and wishes, and a double of everybody `aibox lock` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aibox import digest
from aibox.bundle.build.resolve import Resolvers
from aibox.lock import Wheel
from aibox.pins import (
    Blob,
    FilePin,
    ImagePin,
    ImagePlatform,
    ModelFile,
    ModelPin,
    Package,
    PackageFormat,
    PackageSet,
    Redistribution,
    State,
)
from aibox.profile import FileWish, ImageWish, ModelWish, PackagesWish
from small_project import pylock

COMMIT, NEWER = "1" * 40, "2" * 40
STATED = {
    "licence": "Apache-2.0",
    "redistribution": Redistribution.ALLOW,
    "owner": "somebody",
    "source": "a test",
}


def sha(text: str) -> str:
    return digest.of_bytes(text.encode())


def blob(text: str) -> Blob:
    return Blob(sha256=sha(text), size=len(text))


def model(name: str = "small", **changes: Any) -> ModelPin:
    values: dict[str, Any] = {
        "name": name,
        **STATED,
        "repository": f"maker/{name}",
        "revision": COMMIT,
        "patterns": ("*.safetensors", "*.json"),
        "files": (
            ModelFile(path="config.json", size=6, sha256=sha("config")),
            ModelFile(path="model.safetensors", size=7_000_000, sha256=sha("weights")),
        ),
    }
    return ModelPin(**values | changes)


def unresolved_model(name: str = "small", **changes: Any) -> ModelPin:
    return model(name, **{"state": State.UNRESOLVED, "files": (), "patterns": (), **changes})


def platform(name: str = "linux/amd64", seed: str = "") -> ImagePlatform:
    return ImagePlatform(
        platform=name,
        manifest=blob(f"manifest {name} {seed}"),
        config=blob(f"config {name} {seed}"),
        layers=(blob(f"layer {name} {seed}"), blob("base layer")),
        requires_cuda="cuda>=13.0",
        exposed_ports=("8000/tcp",),
    )


def image(name: str = "engine", **changes: Any) -> ImagePin:
    values: dict[str, Any] = {
        "name": name,
        **STATED,
        "reference": f"registry.example/maker/{name}:v1",
        "digest": sha(name),
        "platforms": (platform(),),
    }
    return ImagePin(**values | changes)


def packages(name: str = "docker", **changes: Any) -> PackageSet:
    values: dict[str, Any] = {
        "name": name,
        **STATED,
        "format": PackageFormat.DEB,
        "target": "debian-13",
        "architecture": "amd64",
        "wanted": ("docker.io",),
        "packages": (
            Package(
                name="docker.io",
                version="26.1.5-1",
                architecture="amd64",
                path="pool/docker.io_26.1.5-1_amd64.deb",
                size=900,
                sha256=sha("docker.io"),
                licence="Apache-2.0",
            ),
        ),
    }
    return PackageSet(**values | changes)


def file(name: str = "driver", **changes: Any) -> FilePin:
    values: dict[str, Any] = {
        "name": name,
        **STATED,
        "address": "http://127.0.0.1/driver.run",
        "filename": "driver.run",
        "size": 100,
        "sha256": sha("driver"),
    }
    return FilePin(**values | changes)


def model_wish(name: str = "small", **changes: Any) -> ModelWish:
    values: dict[str, Any] = {
        "name": name,
        "repository": f"maker/{name}",
        "patterns": ("*.safetensors", "*.json"),
    }
    return ModelWish(**values | changes)


def image_wish(name: str = "engine", **changes: Any) -> ImageWish:
    values = {"name": name, "reference": f"registry.example/maker/{name}:v1"}
    return ImageWish(**values | changes)


def packages_wish(name: str = "docker", **changes: Any) -> PackagesWish:
    values: dict[str, Any] = {
        "name": name,
        "format": PackageFormat.DEB,
        "target": "debian-13",
        "wanted": ("docker.io",),
    }
    return PackagesWish(**values | changes)


def file_wish(name: str = "driver", **changes: Any) -> FileWish:
    values = {"name": name, "address": "http://127.0.0.1/driver.run", "filename": "driver.run"}
    return FileWish(**values | changes)


class DoubleOfResolvers:
    """A double of hub, registry, mirrors, downloads and package index; remembers every question.

    `answers` are the pins it gives by name, or the error it raises; a name without answer is a
    question nobody should have asked. The app's `packages` are a PEP 751 lock; the command line
    of a small project needs the package `tool` alone.
    """

    def __init__(self, packages: str = "", **answers: Any) -> None:
        self.packages, self.answers = packages, answers
        self.asked: list[tuple[Any, ...]] = []
        self.program, self.program_asked = pylock(("tool", "1.0", "two")), 0
        self.kept: list[str] = []
        self.described: list[str] = []

    def resolvers(self) -> Resolvers:
        return Resolvers(
            wheels=self._wheels,
            describe=self._describe,
            model=self._answer,
            image=self._answer,
            packages=self._answer,
            file=self._answer,
        )

    @property
    def names(self) -> list[str]:
        return [wish.name for wish, *_ in self.asked]

    def _answer(self, wish: Any, *rest: Any) -> Any:
        self.asked.append((wish, *rest))
        answer = self.answers[wish.name.replace("-", "_")]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _wheels(self, requirements: Sequence[str], keep: Sequence[str]) -> str:
        if list(requirements) == ["tool==1.0"]:
            self.program_asked += 1
            return self.program
        if not self.packages:
            raise AssertionError("the package index was asked although nothing changed")
        self.kept = list(keep)
        return self.packages

    def _describe(self, wheels: Sequence[Wheel]) -> Mapping[str, tuple[str, str]]:
        names = [wheel.name for wheel in wheels]
        if names != ["tool"]:
            self.described = names
        return {wheel.name: ("MIT", "somebody") for wheel in wheels}
