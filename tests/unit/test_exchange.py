"""What passes between a box and its supplier: reports that are filed, trust, lists, volumes."""

from __future__ import annotations

import datetime
import filecmp
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox import digest, exchange, trusting
from aibox.bundle import index as indexes
from aibox.bundle.layout import MANIFEST
from aibox.bundle.trust.have import verify_have
from aibox.errors import AiboxError, BadUsage, ExitCode
from aibox.receiving import Terms
from small_bundle import MACHINE, PYTHON, VOLUME, Parts, SmallBundle, Supplier, put, today
from small_site import SmallSite, ends_with_a_command

DRIVER = digest.of_bytes(b"a driver")
SPREAD = Parts(trees={f"app/{n}.bin": bytes([n]) * 150_000 for n in range(1, 9)})


@pytest.fixture
def box(site: SmallSite, supplier: Supplier) -> SmallSite:
    return site.trusting(supplier)


def verified(box: SmallSite, *folders: Path, **terms: Any) -> dict[str, Any]:
    """The report, which is JSON, and changes nothing."""
    before = box.files()
    report = exchange.verify(box.place, folders, Terms(**terms))
    assert box.files() == before
    assert {"ok", "key", "checked", "refused"} <= report.keys()
    assert json.loads(json.dumps(report)) == report
    return report


def refused(box: SmallSite, *folders: Path, **terms: Any) -> dict[str, Any]:
    """The one refusal in a report."""
    report = verified(box, *folders, **terms)
    assert report["ok"] is False
    (refusal,) = report["refused"]
    assert refusal["exit_code"] == ExitCode.VERIFICATION_REFUSED
    assert "Result:      REFUSED" in exchange.lines(report)
    assert any(refusal["reference"] in line for line in exchange.lines(report))
    return dict(refusal)


# -- the report ---------------------------------------------------------------------------------


def test_a_sound_bundle_is_reported_with_who_signed_it_and_what_was_checked(
    box: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle()
    report = verified(box, bundle.folder)
    assert (report["ok"], report["refused"]) == (True, [])
    (key,) = report["key"]
    assert (key["name"], len(key["id"])) == ("release-1", 64)
    assert report["manifest"] == bundle.made.bundle
    assert report["root"] == trusting.fingerprint(supplier.root.read_bytes())
    assert report["releases"] == [bundle.release.id]
    told = "\n".join(report["checked"])
    for fact in (
        "roots 1 to 1",
        "revocations: there are none",
        "bundle.json: signed by release-1",
        "bundle.json.sig: signed by release-1",
        "sequence 1:",
        "every byte hashed",
        "model small: 2 files, data only",
        f"release {bundle.release.id[:12]} for local: complete",
    ):
        assert fact in told
    assert report["content"]["ok"]
    assert report["content"]["files"] == sum(1 for p in bundle.folder.rglob("*") if p.is_file()) - 3


def test_the_report_reads_as_people_file_it(box: SmallSite, supplier: Supplier) -> None:
    report = verified(box, supplier.bundle().folder)
    lines = list(exchange.lines(report))
    assert lines[0] == f"Bundle:      {supplier.folder / 'bundle'}"
    assert lines[1] == f"Checked:     {report['checked_at']} on {report['checked_on']}"
    assert lines[-1] == "Result:      accepted"
    assert sum(line.startswith("  ok ") for line in lines) == len(report["checked"])
    assert any(re.match(r"Key:         release-1 [0-9a-f]{64}$", line) for line in lines)


def test_the_moment_is_told_in_utc(box: SmallSite, supplier: Supplier) -> None:
    assert verified(box, supplier.bundle().folder)["checked_at"].endswith("+00:00")


def _flip(bundle: SmallBundle) -> None:
    path = bundle.of(b"a driver")
    path.write_bytes(b"a drivel")


def _swap(bundle: SmallBundle) -> None:
    one, two = bundle.of(b"one"), bundle.of(b"two")
    one.write_bytes(b"two")
    two.write_bytes(b"one")


def _unsign(bundle: SmallBundle) -> None:
    manifest = json.loads((bundle.folder / MANIFEST).read_bytes())
    manifest["signatures"] = []
    (bundle.folder / MANIFEST).write_bytes(digest.canonical_json(manifest))


REFUSED: dict[str, tuple[Callable[[SmallBundle], None], str]] = {
    "unsigned": (_unsign, "bundle-unsigned"),
    "flipped": (_flip, "bundle-file-differs"),
    "swapped": (_swap, "bundle-file-differs"),
    "missing": (lambda b: b.of(b"a driver").unlink(), "bundle-file-missing"),
    "truncated": (lambda b: _write(b.of(b"a driver"), b"a"), "bundle-file-size-differs"),
    "extra": (lambda b: _put(b.folder), "bundle-file-unexpected"),
    "index": (lambda b: _write(b.blob(b.description.index.sha256), b"{}"), "bundle-blob-damaged"),
    "head": (lambda b: _write(b.folder / MANIFEST, b"{}"), "bundle-malformed"),
}


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _put(folder: Path) -> None:
    put(folder, b"nobody asked for it")


@pytest.mark.parametrize("case", REFUSED)
def test_whatever_is_wrong_is_in_the_report(box: SmallSite, supplier: Supplier, case: str) -> None:
    bundle = supplier.bundle(parts=Parts(trees={"app/one.py": b"one", "app/two.py": b"two"}))
    spoil, reference = REFUSED[case]
    spoil(bundle)
    assert refused(box, bundle.folder)["reference"] == reference


def test_a_stranger_is_refused_and_the_fingerprint_is_told(
    site: SmallSite, supplier: Supplier
) -> None:
    refusal = refused(site, supplier.bundle().folder)
    assert refusal["reference"] == "root-not-trusted"
    assert trusting.fingerprint(supplier.root.read_bytes()) in refusal["context"]
    assert not site.root.exists()


def test_no_box_is_needed_to_verify(site: SmallSite, supplier: Supplier) -> None:
    assert verified(site, supplier.bundle().folder, roots=(supplier.root,))["ok"]
    assert not site.root.exists()


def test_an_unsigned_bundle_is_checked_when_somebody_says_so_and_that_is_told(
    site: SmallSite, supplier: Supplier
) -> None:
    report = verified(site, supplier.bundle(signed=False).folder, allow_unsigned=True)
    assert (report["ok"], report["key"]) == (True, None)
    assert "you allowed it" in report["notices"][0]
    assert any(line.startswith("  note ") for line in exchange.lines(report))
    assert not any("signed by" in fact for fact in report["checked"])


def test_a_revoked_object_is_refused(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    data = trusting.revoke(supplier.keys, created=today(), blobs=[DRIVER])
    trusting.apply(box.trust, data)
    assert refused(box, bundle.folder)["context"] == DRIVER


def test_a_model_that_is_more_than_data_is_refused(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle(parts=Parts(model={"config.json": b'{"auto_map": {}}'}))
    refusal = refused(box, bundle.folder)
    assert refusal["reference"] == "model-refused"
    assert "config.json" in refusal["context"]


def test_a_release_that_is_not_complete_is_refused(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    wheel = bundle.release.wheels[0].files[0].sha256
    less = tuple(item for item in bundle.index.carried if item.sha256 != wheel)
    supplier.lie(bundle, index=indexes.dump(bundle.index.model_copy(update={"carried": less})))
    bundle.blob(wheel).unlink()
    assert refused(box, bundle.folder)["reference"] == "index-incomplete"


def test_it_does_not_matter_what_machine_verifies(box: SmallSite, supplier: Supplier) -> None:
    """Whoever checks bundles need not have the Python or the processor of a box."""
    other = supplier.bundle("other", Parts(pythons=("3.99",)))
    both = supplier.bundle("both", Parts(architectures=("x86_64", "aarch64")))
    assert verified(box, other.folder)["ok"]
    assert verified(box, both.folder)["ok"]


def test_missing_volumes_are_named(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle(parts=SPREAD, volume_bytes=VOLUME)
    report = verified(box, bundle.folders[0], bundle.folders[2])
    assert report["refused"][0]["reference"] == "bundle-volume-missing"
    assert report["content"]["missing_volumes"][0].startswith(f"volume 2 of {len(bundle.folders)}")
    assert verified(box, *bundle.folders)["ok"]
    assert verified(box, supplier.folder / "bundle")["ok"]


def test_a_delta_is_verified_without_what_it_leaves_out(box: SmallSite, supplier: Supplier) -> None:
    whole = supplier.bundle("whole")
    held = frozenset(whole.gathered.needed())
    delta = supplier.bundle("delta", Parts(sequence=2, file=b"a newer driver", held=held))
    assert verified(box, delta.folder)["ok"]


def test_media_without_a_bundle_are_wrong_usage_not_a_refusal(box: SmallSite, place: Path) -> None:
    with pytest.raises(BadUsage) as caught:
        exchange.verify(box.place, [place], Terms())
    assert caught.value.reference == "bundle-not-found"


# -- trust --------------------------------------------------------------------------------------


def note(supplier: Supplier) -> str:
    return trusting.fingerprint(supplier.root.read_bytes())


@pytest.mark.parametrize(
    "typed",
    [
        lambda text: text[:9],
        lambda text: text,
        lambda text: text.replace(" ", "").upper(),
        lambda text: f"  {text[:19]} ",
        lambda text: text.replace(" ", "\t") + "\n",
    ],
    ids=range(5),
)
def test_who_types_what_the_note_says_trusts(
    site: SmallSite, supplier: Supplier, typed: Callable[[str], str]
) -> None:
    bundle = supplier.bundle()
    assert exchange.trust_by_note(site.place, [bundle.folder], typed(note(supplier)), 8)
    assert [chain.fingerprint for chain in exchange.trust_list(site.place)] == [note(supplier)]
    assert verified(site, bundle.folder)["ok"]


@pytest.mark.parametrize(
    "typed",
    [
        lambda text: "",
        lambda text: text[:8],
        lambda text: text[5:],
        lambda text: text + "0",
        lambda text: ("1" if text[0] == "0" else "0") + text[1:],
        lambda text: "yes",
        lambda text: " " * 20,
    ],
    ids=range(7),
)
def test_anything_else_trusts_nobody_and_makes_no_box(
    site: SmallSite, supplier: Supplier, typed: Callable[[str], str]
) -> None:
    bundle = supplier.bundle()
    assert not exchange.trust_by_note(site.place, [bundle.folder], typed(note(supplier)), 8)
    assert not site.root.exists()


def test_a_bundle_without_roots_cannot_be_trusted_by_a_note(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle(signed=False)
    assert not exchange.trust_by_note(site.place, [bundle.folder], note(supplier), 8)


def test_a_root_and_a_list_are_taken_in_by_hand(site: SmallSite, supplier: Supplier) -> None:
    assert exchange.trust_add(site.place, supplier.root).fingerprint == note(supplier)
    data = trusting.revoke(supplier.keys, created=today(), min_sequence=2)
    done = exchange.trust_apply(site.place, supplier.keys / "revoked.json")
    assert (done.kind, done.version, done.changed) == ("revocations", 1, True)
    (chain,) = exchange.trust_list(site.place)
    assert site.trust.revocations(chain.name) == data
    assert not exchange.trust_apply(site.place, supplier.keys / "revoked.json").changed


@pytest.mark.parametrize("change", [exchange.trust_add, exchange.trust_apply])
def test_a_file_that_cannot_be_read_is_wrong_usage(
    box: SmallSite, place: Path, change: Callable[..., object]
) -> None:
    for path in (place / "gone", place):
        with pytest.raises(BadUsage) as caught:
            change(box.place, path)
        assert caught.value.reference == "file-unreadable"
        assert ends_with_a_command(caught.value)


@pytest.mark.parametrize("change", [exchange.trust_add, exchange.trust_apply])
def test_a_file_without_end_is_refused(box: SmallSite, change: Callable[..., object]) -> None:
    with pytest.raises(AiboxError) as caught:
        change(box.place, Path("/dev/zero"))
    assert caught.value.reference.endswith("-too-large")


# -- what a box holds ---------------------------------------------------------------------------


def installed(box: SmallSite, supplier: Supplier, name: str = "one", **parts: Any) -> SmallBundle:
    bundle = supplier.bundle(name, Parts(**parts))
    box.serves(box.stage(bundle.folder))
    return bundle


def test_a_box_says_what_it_holds_and_signs_it(box: SmallSite, supplier: Supplier) -> None:
    one = installed(box, supplier)
    two = installed(box, supplier, "two", sequence=2, file=b"a newer driver")
    held = verify_have(exchange.have(box.place))
    wanted = {**one.gathered.needed(), **two.gathered.needed()}
    assert held.blobs == {name: blob.size for name, blob in wanted.items()}
    assert held.releases == tuple(sorted((one.release.id, two.release.id)))
    assert (held.architecture, held.python) == (MACHINE, PYTHON)


def test_damaged_blobs_are_left_out_so_that_they_come_again(
    box: SmallSite, supplier: Supplier
) -> None:
    bundle = installed(box, supplier)
    layout = box.store.layout
    blob = layout.blob(DRIVER)
    blob.chmod(0o644)
    blob.write_bytes(b"a drivel")
    gone = bundle.release.models[0].files[0].sha256 or ""
    layout.blob(gone).unlink()
    held = verify_have(exchange.have(box.place))
    assert held.blobs.keys() == bundle.gathered.needed().keys() - {DRIVER, gone}
    delta = supplier.bundle("delta", Parts(sequence=2, held=frozenset(held.blobs)))
    assert {item.sha256 for item in delta.index.carried} == {DRIVER, gone}
    number = box.stage(delta.folder)
    assert box.store.damage(number, deep=True) == ()


def test_where_nothing_is_installed_nothing_is_held(box: SmallSite) -> None:
    with pytest.raises(BadUsage) as caught:
        exchange.have(box.place)
    assert caught.value.reference == "no-box"


# -- volumes ------------------------------------------------------------------------------------


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same, byte for byte."""
    names, others = (sorted(p.relative_to(at) for p in at.rglob("*")) for at in (one, other))
    return names == others and all(
        filecmp.cmp(one / name, other / name, shallow=False)
        for name in names
        if (one / name).is_file()
    )


@pytest.mark.parametrize("signed", [True, False])
def test_a_bundle_is_divided_and_joined_without_keys_and_trust(
    site: SmallSite, supplier: Supplier, place: Path, signed: bool
) -> None:
    bundle = supplier.bundle(parts=SPREAD, signed=signed)
    shutil.rmtree(supplier.keys)
    parts = exchange.split(site.place, [bundle.folder], place / "parts", "3200kB")
    assert len(parts) > 2
    (joined,) = exchange.split(site.place, list(reversed(parts)), place / "joined", None)
    assert same(bundle.folder, joined)
    assert joined.stat().st_mtime == bundle.folder.stat().st_mtime
    assert not site.root.exists()


def test_an_old_or_expired_bundle_can_still_be_divided(
    box: SmallSite, supplier: Supplier, place: Path
) -> None:
    box.take_in(supplier.bundle("new", Parts(sequence=5)))
    old = supplier.bundle("old", SPREAD.but(date=today() - datetime.timedelta(days=1500)))
    assert len(exchange.split(box.place, [old.folder], place / "parts", "3200kB")) > 2


def test_a_damaged_bundle_is_not_divided(box: SmallSite, supplier: Supplier, place: Path) -> None:
    bundle = supplier.bundle()
    _flip(bundle)
    with pytest.raises(AiboxError) as caught:
        exchange.split(box.place, [bundle.folder], place / "parts", "20MB")
    assert caught.value.exit_code == ExitCode.VERIFICATION_REFUSED
    assert not (place / "parts").exists()


def test_volumes_that_are_not_all_there_are_not_joined(
    box: SmallSite, supplier: Supplier, place: Path
) -> None:
    bundle = supplier.bundle(parts=SPREAD, volume_bytes=VOLUME)
    with pytest.raises(AiboxError) as caught:
        exchange.split(box.place, bundle.folders[:-1], place / "joined", None)
    assert caught.value.exit_code == ExitCode.VERIFICATION_REFUSED
    assert f"volume {len(bundle.folders)} of" in str(caught.value)
    assert not (place / "joined").exists()


def test_a_size_that_is_none_is_wrong_usage(
    box: SmallSite, supplier: Supplier, place: Path
) -> None:
    with pytest.raises(BadUsage) as caught:
        exchange.split(box.place, [supplier.bundle().folder], place / "parts", "25")
    assert caught.value.reference == "size-invalid"
