"""Receive: what describes a bundle and what lies on its media is as it was signed, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox import digest, receiving, trusting
from aibox.bundle import index as indexes
from aibox.bundle.layout import MANIFEST, REVOCATIONS, BundleLayout
from aibox.bundle.manifest import Absent, Carried, Index, Reason
from aibox.errors import AiboxError, BadUsage, ExitCode, Fault, VerificationRefused
from aibox.pins import Blob
from small_bundle import MACHINE, VOLUME, Parts, SmallBundle, Supplier, put, today
from small_site import SmallSite, ends_with_a_command

# -- what describes it --------------------------------------------------------------------------


def test_a_signed_index_that_lacks_an_object_is_refused(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle()
    for item in bundle.index.carried:
        less = tuple(other for other in bundle.index.carried if other != item)
        again = supplier.bundle(item.sha256[:8])
        supplier.lie(again, index=indexes.dump(Index(format=1, carried=less)))
        again.blob(item.sha256).unlink()
        error = site.trusting(supplier).refusal(again.folder)
        assert (error.reference, error.exit_code) == ("index-incomplete", 4), item


HUGE = 999 << 40
DRIVER = digest.of_bytes(b"a driver")


def _huge(index: Index, one: Carried) -> Index:
    absent = Absent(sha256="f" * 64, size=HUGE, reason=Reason.HELD)
    return index.model_copy(update={"absent": (absent,)})


def _huge_in_one_chunk(index: Index, one: Carried) -> Index:
    chunk = Blob(sha256="f" * 64, size=HUGE)
    carried = Carried(sha256="f" * 64, size=HUGE, chunks=(chunk,))
    return index.model_copy(update={"carried": (*index.carried, carried)})


def _many_large(index: Index, one: Carried) -> Index:
    absent = tuple(
        Absent(sha256=digest.of_bytes(bytes([n])), size=8 << 40, reason=Reason.HELD)
        for n in range(9)
    )
    return index.model_copy(update={"absent": absent})


def _twice(index: Index, one: Carried) -> Index:
    return index.model_copy(update={"carried": (*index.carried, one)})


def _carried_and_absent(index: Index, one: Carried) -> Index:
    return index.model_copy(update={"absent": (_absent(one, 0),)})


def _other_size(index: Index, one: Carried) -> Index:
    rest = tuple(item for item in index.carried if item != one)
    return index.model_copy(update={"carried": rest, "absent": (_absent(one, 1),)})


def _absent(item: Carried, more: int) -> Absent:
    return Absent(sha256=item.sha256, size=item.size + more, reason=Reason.HELD)


def _later_format(index: Index, one: Carried) -> Index:
    return index.model_copy(update={"format": 2})


LIES = (
    _huge,
    _huge_in_one_chunk,
    _many_large,
    _twice,
    _carried_and_absent,
    _other_size,
    _later_format,
)


@pytest.mark.parametrize("lie", LIES)
def test_a_signed_index_that_cannot_be_is_refused(
    site: SmallSite, supplier: Supplier, lie: Callable[[Index, Carried], Index]
) -> None:
    bundle = supplier.bundle()
    driver = next(item for item in bundle.index.carried if item.sha256 == DRIVER)
    supplier.lie(bundle, index=indexes.dump(lie(bundle.index, driver)))
    if lie is _other_size:
        bundle.blob(DRIVER).unlink()
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == ("index-invalid", 4)


@pytest.mark.parametrize(
    ("what", "reference"),
    [("index", "index-invalid"), ("listing", "bundle-malformed"), ("manifest", "bundle-malformed")],
)
@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff\0"], ids=range(4))
def test_what_describes_it_may_hold_anything_and_is_refused(
    site: SmallSite, supplier: Supplier, what: str, reference: str, data: bytes
) -> None:
    bundle = supplier.bundle()
    supplier.lie(bundle, **{what: data})  # type: ignore[arg-type]
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == (reference, 4)


def test_a_release_is_what_its_name_says(site: SmallSite, supplier: Supplier) -> None:
    def rename(said: dict[str, Any]) -> None:
        said["aibox"]["releases"][0]["id"] = "f" * 64

    bundle = supplier.bundle()
    supplier.lie(bundle, rename)
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == ("bundle-malformed", 4)


def test_a_release_for_another_profile_than_is_said_is_refused(
    site: SmallSite, supplier: Supplier
) -> None:
    def rename(said: dict[str, Any]) -> None:
        said["aibox"]["releases"][0]["profile"] = "a100"

    bundle = supplier.bundle()
    supplier.lie(bundle, rename)
    error = site.trusting(supplier).refusal(bundle.folder, profile="a100")
    assert (error.reference, error.exit_code) == ("bundle-malformed", 4)


@pytest.mark.parametrize(
    "path",
    [
        "app/rag_app/__init__.py",
        "app/rag_app/sitecustomize.py",
        "models/small/model.safetensors",
        "program/aibox",
        "packages/docker/pool/docker.io_26.1.5-1_amd64.deb",
    ],
)
def test_nothing_is_slipped_into_a_release_beside_its_digest(
    site: SmallSite, supplier: Supplier, path: str
) -> None:
    """Indexes of packages are made by the builder; they are no part of what a release's id says."""

    def slip_in(said: dict[str, Any]) -> None:
        driver = {"sha256": DRIVER, "size": len(b"a driver"), "executable": False}
        said["aibox"]["derived"].append({"path": path, **driver})

    bundle = supplier.bundle()
    supplier.lie(bundle, slip_in)
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == ("bundle-malformed", 4)
    assert path in error.context


# -- what lies on the medium --------------------------------------------------------------------


def _extra_file(folder: Path, blob: Path) -> None:
    (folder / "readme.txt").write_bytes(b"")


def _extra_blob(folder: Path, blob: Path) -> None:
    put(folder, b"nobody asked for it")


def _extra_program(folder: Path, blob: Path) -> None:
    (folder / "launcher/sitecustomize.py").write_bytes(b"print('mine')\n")


def _of_a_system(folder: Path, blob: Path) -> None:
    (folder / "System Volume Information").mkdir()


def _missing(folder: Path, blob: Path) -> None:
    blob.unlink()


def _truncated(folder: Path, blob: Path) -> None:
    blob.write_bytes(blob.read_bytes()[:-1])


def _emptied(folder: Path, blob: Path) -> None:
    blob.write_bytes(b"")


def _longer(folder: Path, blob: Path) -> None:
    blob.write_bytes(blob.read_bytes() + b"\0")


def _linked(folder: Path, blob: Path) -> None:
    """A link to the very same bytes: what it names may be others by then."""
    blob.rename(folder.parent / "elsewhere")
    blob.symlink_to(folder.parent / "elsewhere")


def _folder(folder: Path, blob: Path) -> None:
    blob.unlink()
    blob.mkdir()


WRONG_FILES: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "extra file": (_extra_file, "bundle-file-unexpected"),
    "extra blob": (_extra_blob, "bundle-file-unexpected"),
    "extra program": (_extra_program, "bundle-file-unexpected"),
    "of a system": (_of_a_system, "bundle-file-unexpected"),
    "missing": (_missing, "bundle-file-missing"),
    "truncated": (_truncated, "bundle-file-size-differs"),
    "emptied": (_emptied, "bundle-file-size-differs"),
    "longer": (_longer, "bundle-file-size-differs"),
    "linked": (_linked, "bundle-file-unexpected"),
    "a folder": (_folder, "bundle-file-unexpected"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_what_names_and_sizes_tell_is_told_before_any_byte_is_taken(
    site: SmallSite, supplier: Supplier, case: str
) -> None:
    bundle = supplier.bundle()
    spoil, reference = WRONG_FILES[case]
    spoil(bundle.folder, bundle.of(b"a driver"))
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == (reference, 4)
    assert str(bundle.folder) in error.context


def test_what_an_operating_system_leaves_is_explained(site: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    _of_a_system(bundle.folder, bundle.folder)
    error = site.trusting(supplier).refusal(bundle.folder)
    assert "an operating system made it" in error.context
    assert "a folder of its own" in error.hint


@pytest.mark.parametrize("path", ["aibox", "program.txt", "bootstrap.sha256"])
def test_first_steps_that_were_changed_are_not_taken_over(
    site: SmallSite, supplier: Supplier, path: str
) -> None:
    bundle = supplier.bundle()
    file = bundle.folder / path
    data = file.read_bytes()
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with (
        site.trusting(supplier).receiving(bundle.folder) as received,
        pytest.raises(VerificationRefused) as caught,
    ):
        receiving.first_steps(received)
    assert caught.value.reference == "bundle-blob-damaged"
    assert path in caught.value.message


def test_the_first_steps_are_what_lies_open(site: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    with site.trusting(supplier).receiving(bundle.folder) as received:
        steps = receiving.first_steps(received)
    assert set(steps) == {
        "aibox",
        "launcher/bundle.sh",
        "program.txt",
        "bootstrap.sha256",
        MANIFEST,
    }
    assert steps[MANIFEST] == (bundle.folder / MANIFEST).read_bytes()


def test_bytes_of_equal_length_are_found_by_their_digest(
    site: SmallSite, supplier: Supplier
) -> None:
    """Names and sizes cannot tell; whoever reads an object compares it."""
    bundle = supplier.bundle(parts=Parts(trees={"app/one.py": b"one", "app/two.py": b"two"}))
    one, two = bundle.of(b"one"), bundle.of(b"two")
    one.write_bytes(b"two")
    two.write_bytes(b"one")
    with site.trusting(supplier).receiving(bundle.folder) as received:
        report = receiving.check_content(received, site.report)
    with pytest.raises(VerificationRefused) as caught:
        report.require()
    assert caught.value.reference == "bundle-file-differs"
    assert f"holds the bytes of blobs/sha256/{two.name}" in caught.value.context


@pytest.mark.parametrize("what", ["index", "listing", "manifest"])
def test_what_describes_it_is_compared_at_once(
    site: SmallSite, supplier: Supplier, what: str
) -> None:
    bundle = supplier.bundle()
    blobs = {
        "index": bundle.description.index,
        "listing": bundle.description.program.listing,
        "manifest": bundle.description.releases[0].manifest,
    }
    path = bundle.blob(blobs[what].sha256)
    path.write_bytes(b" " * blobs[what].size)
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == ("bundle-blob-damaged", 4)
    assert path.name in error.message


def test_a_list_of_revocations_in_the_bundle_counts_at_once(
    site: SmallSite, supplier: Supplier
) -> None:
    blob = digest.of_bytes(b"a driver")
    data = trusting.revoke(supplier.keys, created=today(), blobs=[blob])
    bundle = supplier.bundle()
    assert (bundle.folder / REVOCATIONS).read_bytes() == data
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.context) == ("bundle-revoked", blob)


# -- volumes ------------------------------------------------------------------------------------

SPREAD = Parts(trees={f"app/{n}.bin": bytes([n]) * 150_000 for n in range(1, 9)})


def test_a_volume_alone_is_opened_and_offers_what_it_has(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle(parts=SPREAD, volume_bytes=VOLUME)
    assert len(bundle.folders) > 2
    offered: set[str] = set()
    for folder in bundle.folders:
        with site.trusting(supplier).receiving(folder) as received:
            assert receiving.release_of(received, None, MACHINE) == bundle.release
            assert len(received.media.missing_volumes) == len(bundle.folders) - 1
            assert not offered & received.carried.keys()
            offered |= received.carried.keys()
            for name, opener in received.carried.items():
                with opener() as stream:
                    assert digest.of_bytes(stream.read()) == name
    assert offered == bundle.gathered.needed().keys()


def test_all_volumes_in_one_folder_are_the_bundle(site: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle(parts=SPREAD, volume_bytes=VOLUME)
    with site.trusting(supplier).receiving(supplier.folder / "bundle") as received:
        assert received.carried.keys() == bundle.gathered.needed().keys()
        assert receiving.partly(received) == {}


def test_a_file_too_many_on_one_volume_is_named_with_it(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle(parts=SPREAD, volume_bytes=VOLUME)
    put(bundle.folders[1], b"nobody asked for it")
    error = site.trusting(supplier).refusal(*bundle.folders)
    assert error.reference == "bundle-file-unexpected"
    assert f"volume 2 of {len(bundle.folders)}" in error.context


# -- damage that only the store can find --------------------------------------------------------


def test_damage_found_while_importing_is_told_as_file_and_volume(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle(parts=SPREAD, volume_bytes=VOLUME)
    data = bytes([3]) * 150_000
    path = bundle.of(data)
    path.write_bytes(b"\xff" + data[1:])
    store = site.trusting(supplier).store
    with (
        site.receiving(*bundle.folders) as received,
        pytest.raises(VerificationRefused) as caught,
        receiving.explaining(received),
    ):
        store.import_stream(received.carried[path.name], path.name, len(data))
    assert caught.value.reference == "bundle-file-differs"
    assert f"blobs/sha256/{path.name}" in caught.value.context
    assert path.parents[2].name in caught.value.context
    assert ends_with_a_command(caught.value)
    assert not list(store.layout.parts.iterdir())


def test_a_refusal_that_is_not_the_mediums_stays_as_it_is(
    site: SmallSite, supplier: Supplier
) -> None:
    """A bundle that is sound lies to nobody: what the operator brought, for example, does."""
    bundle = supplier.bundle()
    refused = VerificationRefused(
        "blob-refused", "no", context=f"sha256:{'e' * 64}", hint="", fault=Fault.YOU
    )
    with site.trusting(supplier).receiving(bundle.folder) as received:
        with pytest.raises(VerificationRefused) as caught, receiving.explaining(received):
            raise refused
        assert caught.value is refused
        with pytest.raises(BadUsage), receiving.explaining(received):
            raise BadUsage("x", "y", hint="", fault=Fault.YOU)


# -- every byte counts --------------------------------------------------------------------------


def _described(bundle: SmallBundle) -> dict[str, Path]:
    layout = BundleLayout(bundle.folder)
    said = bundle.description
    return {
        "bundle.json": layout.manifest,
        "bundle.json.sig": layout.ssh_signature,
        "root": layout.root_metadata(1),
        "index": layout.blob(said.index.sha256),
        "listing": layout.blob(said.program.listing.sha256),
        "release": layout.blob(said.releases[0].manifest.sha256),
    }


@pytest.mark.parametrize(
    "what", ["bundle.json", "bundle.json.sig", "root", "index", "listing", "release"]
)
def test_a_flipped_bit_anywhere_in_what_describes_it_is_refused(
    site: SmallSite, supplier: Supplier, what: str, figure: Callable[[str], None]
) -> None:
    bundle = supplier.bundle()
    path = _described(bundle)[what]
    data = path.read_bytes()
    site.trusting(supplier)
    before = site.files()
    offsets = sorted({0, len(data) - 1, *range(0, len(data), -(-len(data) // 60))})
    for offset in offsets:
        for bit in (0x01, 0x20):
            flipped = bytearray(data)
            flipped[offset] ^= bit
            path.write_bytes(flipped)
            with pytest.raises(AiboxError) as caught, site.receiving(bundle.folder) as received:
                receiving.release_of(received, None, MACHINE)
            assert caught.value.exit_code == ExitCode.VERIFICATION_REFUSED, (offset, bit)
    assert site.files() == before
    figure(f"receive: {2 * len(offsets)} flipped bits of {what} refused")
