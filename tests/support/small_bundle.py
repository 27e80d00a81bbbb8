"""Small real bundles: one of every kind of thing, through the real writer, really signed.

`Supplier` makes them and can lie in them as whoever holds the keys could. The program in them is a
double: a script that unpacks as the launcher does.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

import examples
import pin_examples as pins
from aibox import digest, objects, trusting
from aibox import release as releases
from aibox.box import host
from aibox.bundle import index as indexes
from aibox.bundle import program as programs
from aibox.bundle.build import assembly
from aibox.bundle.build.assembly import Gathered, Made
from aibox.bundle.layout import MANIFEST, SSH_SIGNATURE, BundleLayout
from aibox.bundle.manifest import Description, Index, ProgramFile
from aibox.bundle.trust import envelope, key_folder, ssh_signature
from aibox.bundle.trust.envelope import Signature
from aibox.bundle.trust.key_folder import KeyKind
from aibox.bundle.writer import BundleWriter
from aibox.lock import LockedFile, ModelsLock, Role, Tree, Wheel, WheelFile
from aibox.pins import Blob, ModelFile, Package
from aibox.release import Release
from image_maker import make_image
from weight_files import small_safetensors
from wheel_maker import make_wheel

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINE = host.architecture()
VOLUME = 3_200_000
"""Bytes of a volume of which a few hundred kB are left beside head, tables and reserve."""

# What the launcher does on a medium, as far as a box relies on it.
PROGRAM = b"""\
#!/bin/sh
# A double of the program.
set -eu
view=$(dirname -- "$0")
folder=$AIBOX_HOME/programs/$(sha256sum <"$view/program.txt" | cut -c -16)
mkdir -p "$folder"
while read -r kind mode sha256 size path; do
    [ "$kind" = file ] || continue
    mkdir -p "$(dirname -- "$folder/$path")"
    cp "$view/blobs/sha256/$sha256" "$folder/$path"
    chmod "$mode" "$folder/$path"
done <"$view/program.txt"
cp "$view/program.txt" "$folder/program.txt"
echo "aibox of a test"
"""

TREES: Mapping[str, tuple[Role, Mapping[str, bytes]]] = {
    "app": (Role.APP, {"rag_app/__init__.py": b"VALUE = 1\n"}),
    "manual": (Role.DOCUMENTS, {"en/ask.md": "# Ask\n\nAsk in 한국어.\n".encode()}),
    "prompts": (Role.PROMPTS, {"system.txt": b"Answer from the documents.\n"}),
    "templates": (Role.TEMPLATES, examples.TEMPLATES),
}
MODEL = {
    "config.json": b'{"model_type": "small"}',
    "model.safetensors": small_safetensors(b"weights " * 2000),
}


def today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


@dataclass(frozen=True)
class Parts:
    """What a small release is made of; another value is another release.

    `trees` and `model` replace files by path (None takes one away); `program` those of the
    command line.
    """

    sequence: int = 1
    date: datetime.date = field(default_factory=today)
    profiles: tuple[str, ...] = ("local",)
    trees: Mapping[str, bytes] = field(default_factory=dict)
    model: Mapping[str, bytes | None] = field(default_factory=dict)
    program: Mapping[str, bytes] = field(default_factory=dict)
    file: bytes = b"a driver"
    image: bytes = b"hello\n"
    model_name: str = "small"
    redistribution: pins.Redistribution = pins.Redistribution.ALLOW
    architectures: tuple[str, ...] = (MACHINE,)
    pythons: tuple[str, ...] = (PYTHON,)
    interpreter: bytes | None = None
    held: frozenset[str] = frozenset()
    brought: frozenset[str] = frozenset()

    def but(self, **changes: Any) -> Parts:
        """Nearly the same."""
        return replace(self, **changes)

    @property
    def model_files(self) -> dict[str, bytes]:
        given = {**MODEL, **self.model}
        return {path: data for path, data in given.items() if data is not None}

    @property
    def program_files(self) -> programs.Files:
        given = {"aibox": PROGRAM, "launcher/bundle.sh": b"# parts of it\n", **self.program}
        return {path: (data, path == "aibox") for path, data in given.items()}


@dataclass(frozen=True)
class SmallBundle:
    """What was written, and where: one folder, or one for each volume."""

    made: Made
    gathered: Gathered
    objects: Mapping[str, bytes]

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.made.folders

    @property
    def folder(self) -> Path:
        """The only one."""
        (folder,) = self.folders
        return folder

    @property
    def release(self) -> Release:
        """The first one."""
        return self.gathered.releases[0]

    @property
    def description(self) -> Description:
        return self.made.description

    @cached_property
    def index(self) -> Index:
        sha256 = self.description.index.sha256
        return indexes.parse(BundleLayout(self.folders[0]).blob(sha256).read_bytes())

    def blob(self, sha256: str) -> Path:
        """The file of a blob, on whatever volume."""
        paths = (BundleLayout(folder).blob(sha256) for folder in self.folders)
        return next(path for path in paths if path.exists())

    def of(self, data: bytes) -> Path:
        """The file that holds an object of one blob."""
        return self.blob(digest.of_bytes(data))


class Supplier:
    """Whoever makes bundles in `folder`, and signs them with `keys`."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder, self.keys = folder, keys

    @property
    def root(self) -> Path:
        """The first root, as it goes to customers."""
        return self.keys / "1.root.json"

    def bundle(
        self,
        name: str = "bundle",
        parts: Parts | None = None,
        *,
        signed: bool = True,
        volume_bytes: int | None = None,
    ) -> SmallBundle:
        """Write a bundle to `folder/name`."""
        held = self.folder / f"{name}.sources"
        held.mkdir(parents=True)
        gathered, found = gather(parts or Parts(), held)
        made = assembly.write(
            gathered,
            self.folder / name,
            sign=self.keys if signed else None,
            volume_bytes=volume_bytes,
        )
        return SmallBundle(made, gathered, found)

    def lie(
        self,
        bundle: SmallBundle,
        change: Callable[[dict[str, Any]], None] = lambda _signed: None,
        *,
        index: bytes | None = None,
        listing: bytes | None = None,
        manifest: bytes | None = None,
        signed: bool = True,
    ) -> None:
        """Replace what describes the bundle by other bytes and sign it all anew.

        `change` gets the signed part of bundle.json as JSON, when the blobs are in place.
        """
        layout = BundleLayout(bundle.folder)
        said = json.loads(layout.manifest.read_bytes())["signed"]
        _replace(layout, said, said["aibox"], "index", index)
        _replace(layout, said, said["aibox"]["program"], "listing", listing)
        _replace(layout, said, said["aibox"]["releases"][0], "manifest", manifest)
        change(said)
        self.sign(bundle.folder, said, signed=signed)

    def sign(self, folder: Path, said: Mapping[str, Any], *, signed: bool = True) -> None:
        """Write bundle.json and its signatures; nothing in it is judged."""
        payload = envelope.encode(said)
        keys = list(key_folder.present(self.keys, KeyKind.RELEASE).values()) if signed else []
        data = envelope.seal(payload, [Signature(key.id, key.sign(payload).hex()) for key in keys])
        (folder / MANIFEST).write_bytes(data)
        (folder / SSH_SIGNATURE).unlink(missing_ok=True)
        if keys:
            (folder / SSH_SIGNATURE).write_bytes(ssh_signature.sign(keys[0], data))


def _replace(
    layout: BundleLayout,
    said: Mapping[str, Any],
    holder: dict[str, Any],
    key: str,
    data: bytes | None,
) -> None:
    if data is None:
        return
    layout.blob(holder[key]["sha256"]).unlink()
    del said["targets"][f"blobs/sha256/{holder[key]['sha256']}"]
    blob = put(layout.root, data)
    holder[key] = blob.model_dump(mode="json")
    said["targets"][f"blobs/sha256/{blob.sha256}"] = {
        "length": blob.size,
        "hashes": {"sha256": blob.sha256},
    }


def put(folder: Path, data: bytes) -> Blob:
    """Have a blob in a bundle."""
    blob = Blob(sha256=digest.of_bytes(data), size=len(data))
    BundleLayout(folder).blob(blob.sha256).write_bytes(data)
    return blob


def supplier(folder: Path, keys: Path) -> Supplier:
    """Somebody with new keys, one of each kind: tests of signing have more."""
    trusting.init(keys, created=today(), root_keys=1, root_threshold=1, release_keys=1)
    return Supplier(folder, keys)


def cut_at(monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    """Cut objects into chunks of this size, and believe in it on the box side too."""
    for function in (BundleWriter.__init__, indexes.check):
        defaults = function.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "chunk_bytes", chunk_bytes)


# -- what it is made of ---------------------------------------------------------------------------


def gather(parts: Parts, folder: Path) -> tuple[Gathered, dict[str, bytes]]:
    """Everything for `assembly.write`, its objects as files below `folder` and in memory."""
    found: dict[str, bytes] = {}

    def put(data: bytes) -> Blob:
        sha256 = digest.of_bytes(data)
        found[sha256] = data
        return Blob(sha256=sha256, size=len(data))

    lock, made = _lock(parts, put)
    tool = wheel("tool")
    derived = [
        _derived(f"{objects.repository(pin)}/dists/Release", b"an index", put)
        for release in made
        for pin in release.packages
    ]
    interpreters = {} if parts.interpreter is None else {MACHINE: put(parts.interpreter)}
    for data, _ in parts.program_files.values():
        put(data)
    gathered = Gathered(
        lock=lock,
        releases=made,
        architectures=parts.architectures,
        pythons=parts.pythons,
        version="0.1.0",
        program=parts.program_files,
        listing=programs.listing(
            parts.program_files, {tool.filename: put(tool.data)}, interpreters
        ),
        stated={"tool": ("MIT", "somebody")},
        sources={sha256: folder / sha256 for sha256 in found},
        derived=tuple(dict.fromkeys(derived)),
        held=parts.held & found.keys(),
        brought=parts.brought,
    )
    for sha256, data in found.items():
        (folder / sha256).write_bytes(data)
    return gathered, found


Put = Callable[[bytes], Blob]


def _lock(parts: Parts, put: Put) -> tuple[ModelsLock, tuple[Release, ...]]:
    demo = wheel("demo")
    blob = put(demo.data)
    file = WheelFile(filename=demo.filename, size=blob.size, sha256=blob.sha256)
    found = {
        "tree": _trees(parts, put),
        "wheel": (
            Wheel(name="demo", version="1.0", licence="MIT", owner="somebody", files=(file,)),
        ),
        "model": (_model(parts, put),),
        "image": (_image(parts, put),),
        "packages": (_packages(put),),
        "file": (_file(parts, put),),
    }
    lock = examples.lock().model_copy(
        update={
            **found,
            "sequence": parts.sequence,
            "date": parts.date,
            "tuning": {name: examples.lock().tuning["local"] for name in parts.profiles},
        }
    )
    profile = examples.profile().model_copy(
        update={
            "model": (pins.model_wish(parts.model_name),),
            "image": (pins.image_wish(),),
            "packages": (pins.packages_wish(),),
            "file": (pins.file_wish(),),
        }
    )
    named = (profile.model_copy(update={"name": name}) for name in parts.profiles)
    return lock, tuple(releases.make(lock, item) for item in named)


def _trees(parts: Parts, put: Put) -> tuple[Tree, ...]:
    trees = []
    for name, (role, files) in TREES.items():
        prefix = f"{role.value}/"
        given = {**files, **_below(prefix, parts.trees)}
        blobs = {path: put(data) for path, data in given.items()}
        trees.append(
            Tree(
                name=name,
                role=role,
                root=f"stacks/{name}",
                licence="Apache-2.0",
                owner="aibox",
                files=tuple(
                    LockedFile(path=path, size=blob.size, sha256=blob.sha256)
                    for path, blob in blobs.items()
                ),
            )
        )
    return tuple(trees)


def _below(prefix: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {
        path.removeprefix(prefix): data for path, data in files.items() if path.startswith(prefix)
    }


def _model(parts: Parts, put: Put) -> Any:
    blobs = {path: put(data) for path, data in parts.model_files.items()}
    files = tuple(
        ModelFile(path=path, size=blob.size, sha256=blob.sha256) for path, blob in blobs.items()
    )
    return pins.model(parts.model_name, files=files, redistribution=parts.redistribution)


def _image(parts: Parts, put: Put) -> Any:
    machines = {name: objects.PLATFORMS[name] for name in parts.architectures}
    platforms = []
    for platform in machines.values():
        image = make_image([parts.image], architecture=platform.removeprefix("linux/"))
        for data in image.everything.values():
            put(data)
        platforms.append(image.platform(platform))
    put(objects.IMAGE_VERSION)
    return pins.image(platforms=tuple(platforms))


def _packages(put: Put) -> Any:
    blob = put(b"not really a package")
    architecture = objects.PLATFORMS[MACHINE].removeprefix("linux/")
    package = Package(
        name="docker.io",
        version="26.1.5-1",
        architecture=architecture,
        path=f"pool/main/d/docker.io/docker.io_26.1.5-1_{architecture}.deb",
        size=blob.size,
        sha256=blob.sha256,
        licence="Apache-2.0",
    )
    return pins.packages(architecture=architecture, packages=(package,))


def _file(parts: Parts, put: Put) -> Any:
    blob = put(parts.file)
    return pins.file(size=blob.size, sha256=blob.sha256)


def _derived(path: str, data: bytes, put: Put) -> ProgramFile:
    blob = put(data)
    return ProgramFile(path=path, sha256=blob.sha256, size=blob.size)


@dataclass(frozen=True)
class SmallWheel:
    """A package of one module."""

    filename: str
    data: bytes


_WHEELS: dict[str, SmallWheel] = {}


def wheel(name: str) -> SmallWheel:
    """The same bytes every time."""
    if name not in _WHEELS:
        folder = Path(mkdtemp(prefix="aibox-wheel-"))
        path = make_wheel(folder, {f"{name}.py": b"VALUE = 1\n"}, name=name)
        _WHEELS[name] = SmallWheel(path.name, path.read_bytes())
        path.unlink()
        folder.rmdir()
    return _WHEELS[name]
