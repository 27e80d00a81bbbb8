"""From an image's folder of blobs to the stream that Docker loads. Pure, but for reading.

The stream is what `docker save` writes since Docker 25: an OCI layout that also has the older
`manifest.json`, so both of Docker's image stores read it. Layers go as they are; Docker unpacks
gzip and zstd itself. Nothing is written anywhere, and no more than a chunk is held.

    oci-layout  index.json  manifest.json  blobs/sha256/<hex> …
"""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aibox.errors import Fault, VerificationRefused
from aibox.pins import Blob, ImagePlatform

REPOSITORY = "aibox"
TAG_DIGITS = 16
CHUNK_BYTES = 1 << 20
_BLOBS = "blobs/sha256"
_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_MANIFEST = "manifest.json"


def tag_of(name: str, platform: ImagePlatform) -> str:
    """The name of an image in Docker: it changes with the image's content, and only with it."""
    return f"{REPOSITORY}/{name}:{platform.config.sha256[:TAG_DIGITS]}"


@dataclass(frozen=True, slots=True)
class Archive:
    """One image as an archive. `folder` has skopeo's `dir:` layout, `tag` is its name there."""

    folder: Path
    platform: ImagePlatform
    tag: str

    @property
    def size(self) -> int:
        """Bytes of blobs in it; what frames them is left out."""
        return sum(blob.size for blob in self._blobs())

    def open(self, blob: Blob) -> BinaryIO:
        """One of its blobs, for reading; `OSError` unless it is a file of that size."""
        name = _MANIFEST if blob == self.platform.manifest else blob.sha256
        descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        file = os.fdopen(descriptor, "rb", buffering=0)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != blob.size:
            file.close()
            raise OSError(f"not a file of {blob.size} bytes")
        return file

    def chunks(self, on_bytes: Callable[[int], None] = lambda _count: None) -> Iterator[bytes]:
        """The archive; raises `VerificationRefused` (`image-incomplete`) for an unreadable blob."""
        for name, content in self._documents().items():
            yield from (_header(name, len(content)), content, _padding(len(content)))
        for blob in self._blobs():
            yield _header(f"{_BLOBS}/{blob.sha256}", blob.size)
            for chunk in self._read(blob):
                on_bytes(len(chunk))
                yield chunk
            yield _padding(blob.size)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _documents(self) -> dict[str, bytes]:
        documents = {"oci-layout": _LAYOUT, "index.json": self._index(), _MANIFEST: [self._entry()]}
        return {name: json.dumps(one, sort_keys=True).encode() for name, one in documents.items()}

    def _index(self) -> dict[str, object]:
        names = {
            "io.containerd.image.name": f"docker.io/{self.tag}",
            "org.opencontainers.image.ref.name": self.tag.rpartition(":")[2],
        }
        return {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": self._media_type(),
                    "digest": f"sha256:{self.platform.manifest.sha256}",
                    "size": self.platform.manifest.size,
                    "annotations": names,
                }
            ],
        }

    def _media_type(self) -> str:
        """What the manifest says it is; its bytes were compared with the pin when it was sealed."""
        manifest = b"".join(self._read(self.platform.manifest))
        try:
            return str(json.loads(manifest).get("mediaType") or _OCI_MANIFEST)
        except (ValueError, AttributeError, RecursionError) as error:
            raise _incomplete(self.tag, _MANIFEST, "not a manifest") from error

    def _entry(self) -> dict[str, object]:
        return {
            "Config": f"{_BLOBS}/{self.platform.config.sha256}",
            "RepoTags": [self.tag],
            "Layers": [f"{_BLOBS}/{layer.sha256}" for layer in self.platform.layers],
        }

    def _blobs(self) -> tuple[Blob, ...]:
        """Each blob once: an image may name a layer twice."""
        found = self.platform
        return tuple(dict.fromkeys((found.manifest, found.config, *found.layers)))

    def _read(self, blob: Blob) -> Iterator[bytes]:
        left = blob.size
        try:
            with self.open(blob) as file:
                while left and (chunk := file.read(min(left, CHUNK_BYTES))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise _incomplete(self.tag, blob.sha256, str(error)) from error
        if left:
            raise _incomplete(self.tag, blob.sha256, f"{left} bytes are missing")


def _header(name: str, size: int) -> bytes:
    """The same for the same content: no owner, no time."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _incomplete(tag: str, name: str, why: str) -> VerificationRefused:
    return VerificationRefused(
        "image-incomplete",
        f"the image {tag} is not whole on this box",
        context=f"{name}: {why}",
        hint="bring the box back to what its store holds with: ./aibox recover",
        fault=Fault.HOST,
    )
