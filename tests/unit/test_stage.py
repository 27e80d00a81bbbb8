"""Stage: from media into the store in one pass; whatever breaks it, the same call goes on."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

import examples
from aibox import digest, stage
from aibox.box.blobs import HEADROOM_BYTES
from aibox.box.filesystem import Kind
from aibox.bundle.layout import MANIFEST
from aibox.content import Content
from aibox.errors import AiboxError, BadUsage, ExitCode, Failed, VerificationRefused
from aibox.pins import Blob
from aibox.prepare import prepare
from aibox.stage import Material
from faults import FailAt
from small_bundle import Parts, SmallBundle, Supplier, cut_at
from small_site import SmallSite, ends_with_a_command

CUT = 4 << 20
"""As much as an import reads at once: what came of an object ends where a chunk does."""


@pytest.fixture
def box(site: SmallSite, supplier: Supplier) -> SmallSite:
    return site.trusting(supplier)


def whole(box: SmallSite, number: int, bundle: SmallBundle) -> bool:
    """Every byte of the generation is what the bundle says."""
    store = box.store
    assert store.damage(number, deep=True) == ()
    assert store.release(number) == bundle.release.id
    blobs = store.contents(number).blobs()
    return all(store.layout.blob(name).read_bytes() == bundle.objects[name] for name in blobs)


def refusal(box: SmallSite, *folders: Path, **words: Any) -> AiboxError:
    """Why it is not staged; no generation is left, and nothing half-made but parts."""
    with pytest.raises(AiboxError) as caught:
        box.stage(*folders, **words)
    store = box.store
    assert store.generations() == ()
    assert [path for path in store.layout.staging.iterdir() if path != store.layout.parts] == []
    assert ends_with_a_command(caught.value)
    return caught.value


class Opened:
    """Counts how often each object is opened."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def watch(self, material: Material) -> Material:
        return replace(
            material,
            openers={name: partial(self._open, name, o) for name, o in material.openers.items()},
        )

    def _open(self, name: str, opener: Callable[[], BinaryIO]) -> BinaryIO:
        self.times[name] += 1
        return opener()


# -- in one pass --------------------------------------------------------------------------------


def test_every_object_is_opened_once_and_the_generation_is_whole(
    box: SmallSite, supplier: Supplier
) -> None:
    bundle, opened = supplier.bundle(), Opened()
    number = box.stage(bundle.folder, watch=opened.watch)
    assert whole(box, number, bundle)
    assert set(opened.times.values()) == {1}
    assert opened.times.keys() == box.store.contents(number).blobs().keys()


def test_the_generation_keeps_what_was_signed(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    number = box.stage(bundle.folder)
    assert box.store.file(number, MANIFEST) == (bundle.folder / MANIFEST).read_bytes()


def test_an_image_lies_as_a_folder_that_tools_read(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    tree = box.store.layout.tree(box.stage(bundle.folder)) / "images/engine"
    (platform,) = bundle.release.images[0].platforms
    assert (tree / "version").read_bytes() == b"Directory Transport Version: 1.1\n"
    assert digest.of_bytes((tree / "manifest.json").read_bytes()) == platform.manifest.sha256
    assert {path.name for path in tree.iterdir()} == {
        "version",
        "manifest.json",
        platform.config.sha256,
        *(layer.sha256 for layer in platform.layers),
    }


def test_what_the_store_has_is_not_read_again(box: SmallSite, supplier: Supplier) -> None:
    one = supplier.bundle("one")
    two = supplier.bundle("two", Parts(trees={"app/rag_app/__init__.py": b"VALUE = 2\n"}))
    first = box.stage(one.folder)
    again, other = Opened(), Opened()
    assert box.stage(one.folder, watch=again.watch) == first
    assert not again.times
    assert whole(box, box.stage(two.folder, watch=other.watch), two)
    assert dict(other.times) == {digest.of_bytes(b"VALUE = 2\n"): 1}


def test_a_blob_that_rotted_is_brought_again(box: SmallSite, supplier: Supplier) -> None:
    bundle, opened = supplier.bundle(), Opened()
    first = box.stage(bundle.folder)
    blob = box.store.layout.blob(digest.of_bytes(b"a driver"))
    blob.chmod(0o644)
    blob.write_bytes(b"a drivel")
    assert box.stage(bundle.folder, watch=opened.watch) == first
    assert dict(opened.times) == {blob.name: 1}
    assert whole(box, first, bundle)


# -- a delta ------------------------------------------------------------------------------------

CHANGED = Parts(sequence=2, trees={"app/rag_app/__init__.py": b"VALUE = 2\n"})


def delta_to(box: SmallSite, supplier: Supplier, full: SmallBundle) -> SmallBundle:
    """A change of the app, against all that the box holds."""
    held = frozenset(full.gathered.needed())
    return supplier.bundle("delta", CHANGED.but(held=held))


def test_a_delta_and_the_store_make_a_whole_release(box: SmallSite, supplier: Supplier) -> None:
    full = supplier.bundle("full")
    box.stage(full.folder)
    delta, opened = delta_to(box, supplier, full), Opened()
    assert [item.sha256 for item in delta.index.carried] == [digest.of_bytes(b"VALUE = 2\n")]
    number = box.stage(delta.folder, watch=opened.watch)
    assert whole(box, number, delta)
    assert sum(opened.times.values()) == 1


def test_a_delta_on_another_box_is_refused_before_anything_is_written(
    box: SmallSite, supplier: Supplier
) -> None:
    delta = delta_to(box, supplier, supplier.bundle("full"))
    box.begin()
    before = box.files()
    error = refusal(box, delta.folder)
    assert (error.reference, error.exit_code) == ("release-incomplete", ExitCode.BAD_USAGE)
    assert "templates" in error.context
    assert error.hint.endswith("./aibox have")
    assert box.files() == before


def test_a_delta_notices_what_the_box_has_lost(box: SmallSite, supplier: Supplier) -> None:
    full = supplier.bundle("full")
    number = box.stage(full.folder)
    blob = box.store.layout.blob(digest.of_bytes(b"a driver"))
    blob.chmod(0o644)
    blob.write_bytes(b"a drivel")
    with pytest.raises(BadUsage) as caught:
        box.stage(delta_to(box, supplier, full).folder)
    assert caught.value.reference == "release-incomplete"
    assert caught.value.context == "tree/files/driver/driver.run"
    assert caught.value.hint.endswith("./aibox have")
    assert box.store.generations() == (number,)


def test_the_way_out_for_a_lost_model_is_one(
    box: SmallSite, supplier: Supplier, place: Path
) -> None:
    full = supplier.bundle("full")
    box.stage(full.folder)
    (weights,) = (f for f in full.release.models[0].files if f.path == "model.safetensors")
    box.store.layout.blob(weights.sha256 or "").unlink()
    delta = delta_to(box, supplier, full)
    with pytest.raises(BadUsage) as caught:
        box.stage(delta.folder)
    assert caught.value.hint.endswith("--weights FOLDER")
    (place / "weights").mkdir()
    (place / "weights/any name").write_bytes(full.objects[weights.sha256 or ""])
    assert whole(box, box.stage(delta.folder, weights=(place / "weights",)), delta)


def test_what_a_checkout_has_not_comes_in_a_bundle_but_for_packages(
    box: SmallSite, supplier: Supplier
) -> None:
    with prepare(box.place, box.wish(supplier.bundle().folder)) as prepared:
        material = replace(prepared.material, provenance=None, openers={})
    lacking = stage.missing(box.store, material)
    stage.refuse_missing(material, [item for item in lacking if "/wheels/" in item.path])
    with pytest.raises(BadUsage) as caught:
        stage.refuse_missing(material, lacking)
    assert caught.value.reference == "release-incomplete"
    assert caught.value.hint.endswith("./aibox bundle build --profile local --output DIR")


# -- models that are more than data -------------------------------------------------------------

PICKLE = b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94."
DANGEROUS: dict[str, bytes] = {
    "model-2.safetensors": PICKLE,
    "tokenizer.model": PICKLE,
    "adapter.gguf": b"GGUF\xff\xff\xff\xff" + bytes(40),
    "config.json": b'{"auto_map": {"AutoModel": "evil.Model"}}',
    "chat_template.jinja": b"{{ ''.__class__.__mro__ }}",
    "tokenizer_config.json": b'{"chat_template": "{{ messages.__class__ }}"}',
    "modeling_evil.py": b"import os\n",
    "pytorch_model.bin": PICKLE,
}


@pytest.mark.parametrize("path", DANGEROUS)
def test_a_model_that_is_more_than_data_is_refused_whoever_signed_it(
    box: SmallSite, supplier: Supplier, path: str
) -> None:
    bundle = supplier.bundle(parts=Parts(model={path: DANGEROUS[path]}))
    error = refusal(box, bundle.folder)
    assert (error.reference, error.exit_code) == ("model-refused", 4)
    assert path in error.context
    good = supplier.bundle("good", Parts(sequence=2))
    assert whole(box, box.stage(good.folder), good)


def test_what_the_operator_brings_is_judged_as_well(
    box: SmallSite, supplier: Supplier, place: Path
) -> None:
    evil = DANGEROUS["config.json"]
    parts = Parts(model={"config.json": evil}, brought=frozenset({digest.of_bytes(evil)}))
    (place / "brought").mkdir()
    (place / "brought/config.json").write_bytes(evil)
    error = refusal(box, supplier.bundle(parts=parts).folder, weights=(place / "brought",))
    assert error.reference == "model-refused"


# -- volumes ------------------------------------------------------------------------------------

LARGE_BYTES = random.Random(1).randbytes(2 * CUT + 3_900_000)
SPREAD = Parts(trees={"app/large.bin": LARGE_BYTES})
"""An object of three chunks, each of which fills a volume."""


@pytest.fixture
def volumes(supplier: Supplier, monkeypatch: pytest.MonkeyPatch) -> SmallBundle:
    """Four: program and templates on the first, a chunk of the large object on each other."""
    cut_at(monkeypatch, CUT)
    templates = {f"stacks/{path}": data for path, data in examples.TEMPLATES.items()}
    bundle = supplier.bundle(parts=SPREAD.but(program=templates), volume_bytes=7_050_000)
    places = [bundle.blob(chunk.sha256).parents[2] for chunk in chunks_of(bundle)]
    assert places == list(bundle.folders[1:])
    return bundle


def chunks_of(bundle: SmallBundle) -> tuple[Blob, ...]:
    name = digest.of_bytes(LARGE_BYTES)
    return next(item.chunks for item in bundle.index.carried if item.sha256 == name)


def missing(error: AiboxError) -> list[int]:
    """The numbers of the volumes that an error asks for."""
    return [int(number) for number in re.findall(r"volume (\d+) of", error.context)]


def test_all_volumes_at_once_are_the_bundle(box: SmallSite, volumes: SmallBundle) -> None:
    assert whole(box, box.stage(*volumes.folders), volumes)


def test_each_volume_is_brought_once_and_the_rest_is_named(
    box: SmallSite, volumes: SmallBundle
) -> None:
    """Each is taken out, and does not come back, when the next one is put in."""
    *others, last = volumes.folders
    for number, folder in enumerate(others, 1):
        error = refusal(box, folder)
        assert (error.reference, error.exit_code) == ("bundle-volume-missing", ExitCode.FAILED)
        assert "was taken in" in error.message
        assert missing(error) == list(range(number + 1, 5))
        assert error.hint.endswith("./aibox install --bundle VOLUME")
        shutil.rmtree(folder)
    assert box.store.damage(box.stage(last), deep=True) == ()


def test_what_is_had_of_an_object_does_not_need_room_again(
    box: SmallSite, volumes: SmallBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk on which the release fits once, but no large object a second time."""
    capacity = HEADROOM_BYTES + 18_000_000
    real = os.statvfs

    def statvfs(path: Any) -> Any:
        found = (at.lstat() for at in box.root.rglob("*"))
        used = sum({item.st_ino: item.st_blocks * 512 for item in found}.values())
        room = real(path)
        free = max(0, capacity - used)
        return SimpleNamespace(
            f_frsize=4096,
            f_bavail=free // 4096,
            f_blocks=capacity // 4096,
            f_files=room.f_files,
            f_favail=room.f_favail,
        )

    monkeypatch.setattr(os, "statvfs", statvfs)
    for folder in volumes.folders[:-1]:
        assert refusal(box, folder).reference == "bundle-volume-missing"
    assert box.store.damage(box.stage(volumes.folders[-1]), deep=True) == ()


@pytest.mark.parametrize("order", [(0, 1, 3, 2), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_in_the_wrong_order_nothing_is_lost_and_what_is_asked_for_is_enough(
    box: SmallSite, volumes: SmallBundle, order: tuple[int, ...]
) -> None:
    waiting = list(order)
    for _ in range(8):
        try:
            number = box.stage(volumes.folders[waiting.pop(0)])
        except Failed as error:
            assert error.reference == "bundle-volume-missing"
            asked = missing(error)
            assert asked
            waiting = waiting or [number - 1 for number in asked]
        else:
            assert whole(box, number, volumes)
            return
    pytest.fail("it did not end")


def test_a_volume_without_the_templates_says_that_nothing_was_taken_in(
    box: SmallSite, volumes: SmallBundle
) -> None:
    box.begin()
    before = box.files()
    error = refusal(box, volumes.folders[3])
    assert (error.reference, error.exit_code) == ("bundle-volume-missing", ExitCode.FAILED)
    assert "nothing is taken in" in error.message
    assert missing(error) == [1]
    assert box.files() == before


def test_the_program_that_a_volume_started_has_the_templates(
    box: SmallSite, volumes: SmallBundle, place: Path
) -> None:
    for name, data in examples.TEMPLATES.items():
        path = place / "program/stacks/templates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    started = SmallSite(box.root, box.environments, Content(place / "program"))
    error = refusal(started, volumes.folders[3])
    assert "was taken in" in error.message
    assert missing(error) == [1, 2, 3]
    assert missing(refusal(started, volumes.folders[0])) == [2, 3, 4]


@pytest.mark.parametrize("number", [0, 2])
def test_a_damaged_chunk_is_named_with_its_volume(
    box: SmallSite, volumes: SmallBundle, number: int
) -> None:
    victim = volumes.blob(chunks_of(volumes)[number].sha256)
    good = victim.read_bytes()
    victim.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    error = refusal(box, *volumes.folders)
    assert (error.reference, error.exit_code) == ("bundle-file-differs", 4)
    assert error.context.startswith(f"volume {number + 2} of 4 ({victim.parents[2]})")
    assert re.findall(r"blobs/sha256/(\w+)", error.context) == [victim.name]
    victim.write_bytes(good)
    assert whole(box, box.stage(*volumes.folders), volumes)


def test_damage_on_a_volume_that_was_taken_out_is_looked_for_there(
    box: SmallSite, volumes: SmallBundle
) -> None:
    """Nobody can tell which of them it was, so all are named that the object came from."""
    victim = volumes.blob(chunks_of(volumes)[0].sha256)
    good = victim.read_bytes()
    victim.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    for folder in volumes.folders[:-1]:
        refusal(box, folder)
    error = refusal(box, volumes.folders[-1])
    assert (error.reference, error.exit_code) == ("bundle-file-differs", 4)
    assert "volumes that are not here" in error.message
    assert missing(error) == [2, 3]
    victim.write_bytes(good)
    for folder in volumes.folders[1:-1]:
        refusal(box, folder)
    assert whole(box, box.stage(volumes.folders[-1]), volumes)


# -- what breaks on the way ---------------------------------------------------------------------


class PulledOut:
    """Takes the medium away when an object is opened for the n-th time."""

    def __init__(self, folder: Path, after: int) -> None:
        self.folder, self.left = folder, after
        self.safe = folder.with_name(f"{folder.name} in a pocket")

    def watch(self, material: Material) -> Material:
        return replace(
            material, openers={name: partial(self._open, o) for name, o in material.openers.items()}
        )

    def _open(self, opener: Callable[[], BinaryIO]) -> BinaryIO:
        if self.left == 0:
            # Not renamed: whoever holds the folder open would go on reading.
            shutil.copytree(self.folder, self.safe)
            shutil.rmtree(self.folder)
        self.left -= 1
        return opener()

    def put_back(self) -> None:
        self.safe.rename(self.folder)


@pytest.mark.parametrize("after", [0, 1, 7])
def test_a_medium_that_is_pulled_out_is_a_failure_and_the_same_call_goes_on(
    box: SmallSite, supplier: Supplier, after: int
) -> None:
    bundle = supplier.bundle()
    pulled, opened = PulledOut(bundle.folder, after), Opened()
    error = refusal(box, bundle.folder, watch=pulled.watch)
    assert (error.reference, error.exit_code) == ("source-unreadable", ExitCode.FAILED)
    pulled.put_back()
    assert whole(box, box.stage(bundle.folder, watch=opened.watch), bundle)


NEEDS_ROOM = (Kind.MAKE_DIRECTORY, Kind.OPEN, Kind.WRITE, Kind.ALLOCATE, Kind.RENAME, Kind.LINK)


@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("boundary", [0, 1, 5, 20, 60, 90])
def test_a_full_disk_leaves_nothing_half_made_and_the_same_call_goes_on(
    box: SmallSite, supplier: Supplier, boundary: int, lasts: bool
) -> None:
    bundle = supplier.bundle()
    failing = FailAt(boundary, errno.ENOSPC, NEEDS_ROOM, lasts)
    with pytest.raises(Failed) as caught:
        box.stage(bundle.folder, before=failing)
    assert failing.fired
    assert caught.value.exit_code == ExitCode.FAILED
    assert box.store.generations() == ()
    assert whole(box, box.stage(bundle.folder), bundle)


def test_wrong_bytes_never_get_the_name_of_an_object(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    path = bundle.of(b"a driver")
    path.write_bytes(b"a drivel")
    with pytest.raises(VerificationRefused) as caught:
        box.stage(bundle.folder)
    assert caught.value.reference == "bundle-file-differs"
    store = box.store
    assert not store.layout.blob(path.name).exists()
    assert not store.layout.part(path.name).exists()
    path.write_bytes(b"a driver")
    assert whole(box, box.stage(bundle.folder), bundle)
