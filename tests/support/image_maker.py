"""Container images made by hand, without a daemon: layers, configuration, manifest, index."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aibox.pins import Blob, ImagePlatform

DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
}
OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    "index": "application/vnd.oci.image.index.v1+json",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob(data: bytes) -> Blob:
    return Blob(sha256=sha256(data), size=len(data))


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data)}


@dataclass(frozen=True)
class Image:
    """An image for one platform; layers as they are stored, from the lowest up."""

    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]
    kinds: Mapping[str, str]

    @property
    def blobs(self) -> dict[str, bytes]:
        """Configuration and layers by digest."""
        return {sha256(data): data for data in (self.config, *self.layers)}

    @property
    def everything(self) -> dict[str, bytes]:
        """All of them, the manifest too."""
        return {**self.blobs, sha256(self.manifest): self.manifest}

    def platform(self, name: str = "linux/amd64", **fields: Any) -> ImagePlatform:
        """The pin of this image, by its own bytes."""
        return ImagePlatform(
            platform=name,
            manifest=blob(self.manifest),
            config=blob(self.config),
            layers=tuple(map(blob, self.layers)),
            **fields,
        )

    def write(self, folder: Path) -> Path:
        """As skopeo's `dir:` layout."""
        folder.mkdir(parents=True)
        (folder / "version").write_bytes(b"Directory Transport Version: 1.1\n")
        (folder / "manifest.json").write_bytes(self.manifest)
        for digest, data in self.blobs.items():
            (folder / digest).write_bytes(data)
        return folder


def tar(files: Mapping[str, bytes]) -> bytes:
    """A layer of plain files, the same bytes every time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def make_image(
    contents: Sequence[bytes] = (tar({"etc/hello": b"hello\n"}),),
    *,
    kinds: Mapping[str, str] = OCI,
    architecture: str = "amd64",
    run: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    manifest: Mapping[str, Any] | None = None,
    layers: Sequence[bytes] | None = None,
) -> Image:
    """An image of uncompressed `contents`; `config` and `manifest` replace parts of theirs.

    `layers` are the bytes to store instead of the compressed contents.
    """
    stored = [gzip.compress(one, 6, mtime=0) for one in contents] if layers is None else layers
    configuration = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": dict(run or {}),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(one)}" for one in contents]},
            **(config or {}),
        }
    ).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": kinds["manifest"],
        "config": descriptor(configuration, kinds["config"]),
        "layers": [descriptor(one, kinds["layer"]) for one in stored],
        **(manifest or {}),
    }
    return Image(json.dumps(document).encode(), configuration, tuple(stored), kinds)


def make_index(images: Mapping[str, Image], *, kinds: Mapping[str, str] = OCI) -> bytes:
    """An index of images by `os/architecture[/variant]`."""
    entries = []
    for name, image in images.items():
        system, architecture, *variant = name.split("/")
        platform = {"os": system, "architecture": architecture}
        if variant:
            platform["variant"] = variant[0]
        entries.append(
            {**descriptor(image.manifest, image.kinds["manifest"]), "platform": platform}
        )
    return json.dumps(
        {"schemaVersion": 2, "mediaType": kinds["index"], "manifests": entries}
    ).encode()
