"""A packager's workplace: a small Git checkout, and servers on loopback with all it is made of.

Everything is real but small: the builds of Python packages lie in an index on disk, a model on a
hub, an image in a double of a registry, a file on a server. `bundling.build` takes a second.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pin_examples as pins
import small_project
from aibox import bundling, digest, locking
from aibox import lock as locks
from aibox.bundle.build import python_packages, resolve
from aibox.bundle.build.assembly import Made
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.layout import BLOBS
from aibox.bundle.manifest import Index
from aibox.bundle.trust import signing
from aibox.bundling import Order
from aibox.content import Content
from aibox.errors import AiboxError
from aibox.lock import ModelsLock, Wheel, WheelFile
from aibox.pins import FilePin, ImagePin, ModelFile, ModelPin, PackageSet
from aibox.progress import Progress
from flaky_server import FlakyServer, serving
from image_maker import make_image, make_index, tar
from loopback_hub import LoopbackHub, Repository, loopback_hub
from registry_double import RegistryDouble, registry_double
from trust_keys import CREATED
from weight_files import small_safetensors
from wheel_maker import make_wheel

MACHINE, PYTHON = "x86_64", "3.11"
PROGRAM = {
    "aibox": b"#!/bin/sh\necho nothing is installed here\nexit 1\n",
    "launcher/bundle.sh": b"# how a bundle is started\n",
    "installer/aibox/__init__.py": b'"""The command line."""\n',
    "LICENSE": b"Apache License\n",
    "tests/test_of_the_project.py": b"# never packed\n",
}
WEIGHTS = small_safetensors(bytes(range(256)) * 64)
MODEL: dict[str, bytes | Path] = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": WEIGHTS,
}
DRIVER = b"#!/bin/sh\nexit 0\n" * 100
BUILDS = {
    "alpha": ("py3-none-any",),
    "beta": (
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp312-cp312-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_17_aarch64",
    ),
    "tool": ("py3-none-any",),
}
REPOSITORY = "maker/small"


@dataclass
class PackagerProject:
    """A checkout with a lock, and who serves what the lock names.

    `told` is what builds reported. Change the lock with `relock`, the program by its files.
    """

    content: Content
    index: Path
    hub: LoopbackHub
    registry: RegistryDouble
    web: FlakyServer
    cache_folder: Path
    lock: ModelsLock
    told: list[Progress] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.content.root

    @property
    def requests(self) -> int:
        """How often hub, registry and web server were asked, all together."""
        return len(self.hub.asked) + len(self.registry.asked) + len(self.web.asked)

    @property
    def said(self) -> str:
        return "\n".join(f"[{line.step}] {line.message}" for line in self.told)

    def order(self, output: Path, **changes: Any) -> Order:
        values: dict[str, Any] = {
            "profiles": ("local",),
            "output": output,
            "architectures": (MACHINE,),
            "pythons": (PYTHON,),
            "prove": False,
        }
        return Order(**values | changes)

    def build(self, output: Path, **changes: Any) -> Made:
        return bundling.build(self.content, self.order(output, **changes), self.told.append)

    def relock(self, **pins_by_kind: Any) -> None:
        """Replace fields of the lock, and let the profile wish for what it names."""
        self.lock = self.lock.model_copy(update=pins_by_kind)
        self.content.lockfile.write_text(locks.dump(self.lock), encoding="utf-8")
        wishes: dict[str, Any] = {
            "model": [
                pins.model_wish(pin.name, repository=pin.repository) for pin in self.lock.model
            ],
            "image": [
                pins.image_wish(pin.name, reference=pin.reference) for pin in self.lock.image
            ],
            "packages": [
                pins.packages_wish(pin.name, wanted=pin.wanted, target=pin.target)
                for pin in self.lock.packages
                if not pin.name.startswith("interpreter-")
            ],
            "file": [
                pins.file_wish(pin.name, address=pin.address, filename=pin.filename)
                for pin in self.lock.file
            ],
        }
        small_project.write_profile(self.content, architectures=(MACHINE, "aarch64"), **wishes)

    def change(self, kind: str, **changes: Any) -> None:
        """Change the only pin of a kind."""
        (pin,) = getattr(self.lock, kind)
        self.relock(**{kind: (pin.model_copy(update=changes),)})

    def commit(self) -> None:
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", "a state")

    def have_wheels(self) -> None:
        """Lay the builds of all packages into the cache: asking pip takes a second."""
        cache = BlobCache(self.cache_folder)
        for path in self.index.rglob("*.whl"):
            cache.put(path.read_bytes())

    def keys(self) -> Path:
        """A folder of signing keys."""
        folder = self.root.parent / "keys"
        if not folder.exists():
            signing.initialise(folder, created=CREATED, root_keys=1, root_threshold=1)
        return folder

    def bring(self, packages: PackageSet, paths: Sequence[Path]) -> None:
        """Name packages of an operating system in the lock; their files lie in the cache."""
        cache = BlobCache(self.cache_folder)
        for path in paths:
            cache.put(path.read_bytes())
        self.relock(packages=(*self.lock.packages, packages))


@contextmanager
def packager_project(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, wheels_at_hand: bool = True
) -> Iterator[PackagerProject]:
    """The workplace below `folder`; its servers are up until the end."""
    with (
        loopback_hub(Repository(REPOSITORY, dict(MODEL))) as hub,
        registry_double() as registry,
        serving(FlakyServer()) as web,
    ):
        _surroundings(folder, hub, monkeypatch)
        made = _workplace(folder, hub, registry, web)
        if wheels_at_hand:
            made.have_wheels()
        yield made


def _surroundings(folder: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "AIBOX_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(locking, "current_date", lambda: CREATED)
    for name, value in {
        "AIBOX_CACHE": str(folder / "cache"),
        "HF_ENDPOINT": hub.address(),
        "REGISTRY_AUTH_FILE": str(folder / "no auth.json"),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": (folder / "index").as_uri(),
        "PIP_NO_CACHE_DIR": "1",
    }.items():
        monkeypatch.setenv(name, value)


def _workplace(
    folder: Path, hub: LoopbackHub, registry: RegistryDouble, web: FlakyServer
) -> PackagerProject:
    content = small_project.make(folder / "checkout")
    for path, data in PROGRAM.items():
        (content.root / path).parent.mkdir(parents=True, exist_ok=True)
        (content.root / path).write_bytes(data)
    (content.root / "aibox").chmod(0o755)
    index = folder / "index"
    wheels = {name: _offer(index, name, tags) for name, tags in BUILDS.items()}
    made = PackagerProject(
        content, index, hub, registry, web, folder / "cache", resolve.local(content, (), None)
    )
    made.relock(
        date=CREATED,
        program_requirements=python_packages.program_digest(content),
        tuning=resolve.local(content, ("local",), None).tuning,
        wheel=(wheels["alpha"], wheels["beta"]),
        program=(wheels["tool"],),
        model=(model_pin(hub),),
        image=(image_pin(registry),),
        file=(file_pin(web),),
    )
    git(content.root, "init", "--quiet")
    made.commit()
    return made


def image_pin(registry: RegistryDouble, *layers: bytes) -> ImagePin:
    """An image of two platforms, held by the registry; `layers` are its own, uncompressed."""
    contents = layers or (tar({"etc/hello": b"hello\n"}), tar({"bin/engine": b"#!/bin/sh\n"}))
    images = {
        f"linux/{name}": make_image(contents, architecture=name) for name in ("amd64", "arm64")
    }
    for image in images.values():
        registry.hold(image)
    index = make_index(images)
    registry.hold_manifest(index, "1")
    return pins.image(
        reference=f"{registry.registry}/demo/app:1",
        digest=digest.of_bytes(index),
        platforms=tuple(image.platform(name) for name, image in images.items()),
    )


def model_pin(hub: LoopbackHub, **changes: Any) -> ModelPin:
    repository = hub.repositories[REPOSITORY]
    files = tuple(
        ModelFile(path=path, size=len(data), sha256=digest.of_bytes(data))
        for path, data in sorted(repository.files.items())
        if isinstance(data, bytes)
    )
    return pins.model(**{"revision": repository.commit, "files": files, **changes})


def file_pin(web: FlakyServer, data: bytes = DRIVER, **changes: Any) -> FilePin:
    address = web.put("/driver.run", data)
    return pins.file(address=address, size=len(data), sha256=digest.of_bytes(data), **changes)


def _offer(index: Path, name: str, tags: Sequence[str]) -> Wheel:
    """A package in the index on disk, as pip sees it."""
    folder = index / name
    folder.mkdir(parents=True)
    paths = [make_wheel(folder, {f"{name}.py": tag.encode()}, name=name, tag=tag) for tag in tags]
    page = "".join(f'<a href="{path.name}">{path.name}</a>\n' for path in paths)
    (folder / "index.html").write_text(page, encoding="utf-8")
    files = [
        WheelFile(filename=path.name, size=path.stat().st_size, sha256=_sha256(path))
        for path in paths
    ]
    return Wheel(name=name, version="1.0", licence="MIT", owner="somebody", files=tuple(files))


def _sha256(path: Path) -> str:
    return digest.of_bytes(path.read_bytes())


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=Packager", "-c", "user.email=packager@example.com")
    subprocess.run(["git", *identity, "-C", folder, *words], check=True, capture_output=True)


def index_of(made: Made) -> Index:
    """The index that a written bundle carries."""
    (folder, *_) = made.folders
    path = folder / BLOBS / made.description.index.sha256
    return Index.model_validate_json(path.read_bytes())


def carried(made: Made) -> Mapping[str, int]:
    """Digest -> size of the objects inside a bundle."""
    return {item.sha256: item.size for item in index_of(made).carried}


def absent(made: Made) -> Mapping[str, str]:
    """Digest -> why it is not inside."""
    return {item.sha256: item.reason.value for item in index_of(made).absent}


def copy_of(project: PackagerProject, folder: Path) -> PackagerProject:
    """The same checkout at another place, with the same servers and cache."""
    shutil.copytree(project.root, folder)
    return PackagerProject(
        Content(folder),
        project.index,
        project.hub,
        project.registry,
        project.web,
        project.cache_folder,
        project.lock,
    )


def refusal(work: Callable[[], object]) -> AiboxError:
    """What `work` refuses with."""
    with pytest.raises(AiboxError) as found:
        work()
    return found.value


def nothing_was_made(project: PackagerProject, output: Path) -> bool:
    """Whether a build ended before it asked anybody for anything or wrote a byte."""
    return (
        not project.requests
        and not output.exists()
        and not output.with_name(output.name + ".partial").exists()
    )
