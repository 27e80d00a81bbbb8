"""Images from a folder of blobs into Docker; Docker itself is a double here."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from aibox import loading
from aibox.box import container_images
from aibox.box.container_images import Wanted, expected_id, sweep
from aibox.box.filesystem import DiskTrouble, Filesystem, Kind, Operation
from aibox.box.image_archive import Archive, tag_of
from aibox.errors import Failed, Fault, VerificationRefused
from aibox.pins import Blob, ImagePin, Redistribution
from aibox.progress import Progress
from containers_double import HostDouble, write_generation
from faults import Recorder
from image_maker import DOCKER, OCI, Image, make_image, sha256, tar

INSTALLER = Path(container_images.__file__).parents[2]
CONTENTS = (tar({"etc/a": b"a" * 3000}), tar({"etc/b": b"b"}))


def tag(image: Image) -> str:
    return f"aibox/app:{sha256(image.config)[:16]}"


class Place:
    """An image laid out as a generation has it, and a Docker that will call it `docker_id`."""

    def __init__(self, folder: Path, image: Image) -> None:
        self.image, self.folder = image, image.write(folder / "tree/images/app")
        self.tree, self.said = folder / "tree", []
        self.tag, self.host = tag(image), HostDouble(folder, images={})
        self.host.docker_root = folder
        self.docker_id = f"sha256:{sha256(image.config)}"
        self.host.before = self._name
        self.notes, self.recorder = folder / "images.json", Recorder()

    def _name(self, what: str) -> None:
        if what == "load":
            self.host.images[self.tag] = self.docker_id

    def pin(self) -> ImagePin:
        return ImagePin(
            name="app",
            licence="unknown",
            redistribution=Redistribution.ALLOW,
            owner="nobody",
            source="made here",
            reference="example/app",
            digest=sha256(self.image.manifest),
            platforms=(self.image.platform(),),
        )

    def load(self) -> tuple[str, ...]:
        return loading.run(
            [self.pin()],
            self.tree,
            "x86_64",
            engine=self.host,
            notes=self.notes,
            filesystem=Filesystem(self.recorder),
            report=self._hear,
        )

    def _hear(self, progress: Progress) -> None:
        self.said.append(progress.message)

    def damage(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)


@pytest.fixture(params=[DOCKER, OCI], ids=["docker", "oci"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, make_image(CONTENTS, kinds=request.param))


def unpacked(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        members = packed.getmembers()
        assert len({member.name for member in members}) == len(members)
        return {one.name: packed.extractfile(one).read() for one in members}  # type: ignore[union-attr]


def test_docker_gets_a_whole_archive_with_the_layers_as_they_are(place: Place) -> None:
    assert place.load() == (place.tag,)
    (archive,) = place.host.loaded
    found = unpacked(archive)
    (entry,) = json.loads(found["manifest.json"])
    assert entry["RepoTags"] == [place.tag]
    assert found[entry["Config"]] == place.image.config
    assert tuple(found[name] for name in entry["Layers"]) == place.image.layers
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (manifest,) = json.loads(found["index.json"])["manifests"]
    assert found["blobs/sha256/" + manifest["digest"][7:]] == place.image.manifest
    assert manifest["mediaType"] == place.image.kinds["manifest"]
    assert manifest["annotations"]["io.containerd.image.name"] == f"docker.io/{place.tag}"
    assert len(archive) % 512 == 0


def test_what_docker_was_given_is_made_durable(place: Place) -> None:
    place.load()
    kinds = [one.kind for one in place.recorder.operations]
    assert kinds.index(Kind.SYNC_FILESYSTEM) < kinds.index(Kind.OPEN)
    assert json.loads(place.notes.read_bytes()) == {place.tag: place.docker_id}


@pytest.mark.parametrize("notes", [b"", b"[]", b"{", b'{"other": "x"}', None])
def test_what_a_power_cut_may_have_emptied_is_loaded_again(
    place: Place, notes: bytes | None
) -> None:
    place.load()
    if notes is None:
        place.notes.unlink()
    else:
        place.notes.write_bytes(notes)
    place.host.images["aibox/shares-its-layers:1"] = "sha256:b"
    place.host.done = []
    assert place.load() == (place.tag,)
    removed = [f"remove image {name}" for name in (place.tag, "aibox/shares-its-layers:1")]
    assert place.host.done == [*removed, "load"]
    assert place.load() == ()


def test_an_image_that_a_container_has_was_durable_before(place: Place) -> None:
    place.load()
    place.notes.unlink()
    place.host.in_use = {place.tag}
    assert place.load() == ()


def test_an_image_that_docker_has_is_not_read_again(place: Place) -> None:
    place.load()
    place.damage("manifest.json", b"damaged since")
    assert place.load() == ()
    assert len(place.host.loaded) == 1


def test_a_name_that_leads_to_another_image_is_loaded_again(place: Place) -> None:
    place.host.images[place.tag] = "sha256:another"
    assert place.load() == (place.tag,)


def test_an_image_store_that_keeps_manifests_calls_it_by_its_manifest(place: Place) -> None:
    place.host.keeps_manifests = True
    with pytest.raises(VerificationRefused):
        place.load()
    place.docker_id = f"sha256:{sha256(place.image.manifest)}"
    assert place.load() == (place.tag,)


def test_an_image_with_another_id_is_refused_and_removed(place: Place) -> None:
    place.docker_id = "sha256:another"
    with pytest.raises(VerificationRefused) as caught:
        place.load()
    assert caught.value.reference == "image-id-differs"
    assert place.host.images == {}


@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
def test_a_tampered_image_never_reaches_docker(place: Place, what: str) -> None:
    image = place.image
    layer = gzip.compress(tar({"etc/evil": b"b"}), mtime=0)
    name, data = {
        "layer": (sha256(image.layers[1]), layer),
        "config": (sha256(image.config), image.config.replace(b"linux", b"Linux")),
        "manifest": ("manifest.json", image.manifest.replace(b"2", b"3", 1)),
    }[what]
    place.damage(name, data)
    with pytest.raises(VerificationRefused) as caught:
        place.load()
    assert caught.value.reference == "image-refused"
    assert place.host.loaded == []


def test_a_harmful_layer_with_right_digests_never_reaches_docker(tmp_path: Path) -> None:
    place = Place(tmp_path, make_image([tar({"../etc/passwd": b"evil"})]))
    with pytest.raises(VerificationRefused, match="not fit to be loaded"):
        place.load()
    assert place.host.loaded == []


@pytest.mark.parametrize("how", ["gone", "a link", "shorter"])
def test_a_blob_that_changes_after_the_check_ends_the_archive(place: Place, how: str) -> None:
    name = sha256(place.image.layers[0])
    archive = Archive(place.folder, place.image.platform(), place.tag)
    stream = archive.chunks()
    next(stream)
    (place.folder / name).unlink()
    if how == "a link":
        (place.folder / name).symlink_to("/etc/hostname")
    if how == "shorter":
        place.damage(name, b"x")
    with pytest.raises(VerificationRefused) as caught:
        for _ in stream:
            pass
    assert caught.value.reference == "image-incomplete"
    assert name in caught.value.context


def test_a_layer_that_stands_twice_in_an_image_is_sent_once(tmp_path: Path) -> None:
    image = make_image((CONTENTS[0], CONTENTS[1], CONTENTS[0]))
    archive = Archive(image.write(tmp_path / "app"), image.platform(), tag(image))
    found = unpacked(b"".join(archive.chunks()))
    (entry,) = json.loads(found["manifest.json"])
    assert (len(entry["Layers"]), len(set(entry["Layers"]))) == (3, 2)
    assert archive.size == sum(len(data) for name, data in found.items() if "blobs/" in name)


def test_a_disk_that_fails_when_it_matters_is_told(place: Place) -> None:
    def fail(operation: Operation) -> None:
        raise OSError(5, f"no {operation.kind}")

    place.recorder = fail  # type: ignore[assignment]
    with pytest.raises(DiskTrouble):
        place.load()


def test_a_docker_whose_data_lie_elsewhere_is_told(place: Place) -> None:
    place.host.docker_root = place.folder / "none"
    with pytest.raises(Failed, match="cannot be opened"):
        place.load()
    assert place.host.loaded == []


def test_somebody_hears_what_is_going_on(place: Place) -> None:
    place.load()
    assert place.said[0] == "app: checking its layers"
    assert "app: loading it into Docker" in place.said
    assert place.said[-1] == "app: Loading layer"


def test_the_name_of_an_image_follows_its_content() -> None:
    one, other = make_image(CONTENTS), make_image(CONTENTS[:1])
    assert tag_of("app", one.platform()) == tag(one) != tag(other)
    assert len(tag(one)) == len("aibox/app:") + 16


def test_ids_by_image_store() -> None:
    host, image = HostDouble(Path("/")), make_image(CONTENTS)
    assert expected_id(image.platform(), host.facts()) == f"sha256:{sha256(image.config)}"
    host.keeps_manifests = True
    assert expected_id(image.platform(), host.facts()) == f"sha256:{sha256(image.manifest)}"


def test_images_of_others_are_not_doubted(place: Place) -> None:
    place.host.images["other/app:1"] = "sha256:x"
    place.load()
    assert "other/app:1" in place.host.images


def test_images_go_with_the_last_generation_that_names_them(tmp_path: Path) -> None:
    write_generation(tmp_path, 1, {"web": "a"}, image="aibox/app:1")
    write_generation(tmp_path, 2, {"web": "a"}, image="aibox/app:2")
    names = ("aibox/app:0", "aibox/app:1", "aibox/app:2", "other/app:0", "aibox/used:0")
    host = HostDouble(tmp_path, images=dict.fromkeys(names, "sha256:x"), in_use={"aibox/used:0"})
    assert sweep(host, [tmp_path / "gens/1", tmp_path / "gens/2"]) == ("aibox/app:0",)
    assert set(host.images) == set(names[1:])
    assert sweep(host, [tmp_path / "gens/2"]) == ("aibox/app:1",)


def test_a_sweep_that_docker_does_not_answer_fails(tmp_path: Path) -> None:
    host = HostDouble(tmp_path, images={"aibox/app:0": "sha256:x"})

    def down(_what: str) -> None:
        raise Failed("docker-no-answer", "m", hint="h", fault=Fault.HOST)

    host.before = down
    with pytest.raises(Failed, match="m"):
        sweep(host, [])


def test_an_image_larger_than_memory_may_be_goes_through_little_memory(tmp_path: Path) -> None:
    layer = tmp_path / "image" / ("c" * 64)
    layer.parent.mkdir()
    with layer.open("wb") as file:
        file.truncate(192 << 20)
    for name, data in (("manifest.json", b"{}"), ("d" * 64, b"{}")):
        (layer.parent / name).write_bytes(data)
    script = f"""
from pathlib import Path
from aibox.box.image_archive import Archive
from aibox.pins import Blob, ImagePlatform
blobs = [Blob(sha256=c * 64, size=n) for c, n in (("e", 2), ("d", 2), ("c", {192 << 20}))]
platform = ImagePlatform(
    platform="linux/amd64", manifest=blobs[0], config=blobs[1], layers=(blobs[2],)
)
sizes = [len(c) for c in Archive(Path({str(layer.parent)!r}), platform, "aibox/a:1").chunks()]
assert max(sizes) <= 1 << 20
status = Path("/proc/self/status").read_text().splitlines()
print(sum(sizes), next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(INSTALLER)},
        capture_output=True,
        text=True,
        check=True,
    )
    total, peak = map(int, done.stdout.split())
    assert total > 192 << 20
    assert peak < 96 << 10


def test_wanted_images_lie_in_the_tree_by_name(place: Place) -> None:
    wanted = Wanted("app", place.image.platform(), place.folder)
    assert wanted.archive == Archive(place.folder, place.image.platform(), place.tag)
    with wanted.archive.open(place.image.platform().config) as file:
        assert file.read() == place.image.config
    with pytest.raises(OSError, match="not a file of"):
        wanted.archive.open(Blob(sha256=sha256(place.image.config), size=1))
