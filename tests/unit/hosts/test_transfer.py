"""What of a bundle goes to which host, and how the way is told."""

from __future__ import annotations

import pytest

from aibox import receiving
from aibox.bundle.layout import BLOBS
from aibox.bundle.media import Media
from aibox.errors import VerificationRefused
from aibox.hosts import transfer
from aibox.hosts.transfer import Share, of_plan
from aibox.lock import Role
from small_bundle import VOLUME, Supplier
from small_site import SmallSite


def test_a_plan_needs_the_head_the_program_and_the_templates(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle, box = supplier.bundle(), site.trusting(supplier)
    with receiving.receive(box.trust, bundle.folders, receiving.Terms(), box.report) as received:
        made = receiving.release_of(received, "local", "x86_64")
        names = set(of_plan(received, made, "x86_64"))
        templates = {f"{BLOBS}/{item.sha256}" for item in made.of_role(Role.TEMPLATES)}
        others = {f"{BLOBS}/{item.sha256}" for item in made.of_role(Role.DOCUMENTS)}
    assert {"bundle.json", "aibox", "program.txt"} <= names
    assert templates <= names
    assert not others & names
    assert all((bundle.folder / name).is_file() for name in names)


def test_files_come_from_the_volume_that_has_them(supplier: Supplier) -> None:
    bundle = supplier.bundle(volume_bytes=VOLUME)
    with Media.open(bundle.folders) as media:
        blobs = {
            path.name: folder for folder in bundle.folders for path in (folder / BLOBS).iterdir()
        }
        share = Share(media, ["bundle.json", *(f"{BLOBS}/{name}" for name in blobs)])
        found = dict(transfer._by_volume(share))
    assert len(found) == len(bundle.folders) > 1
    assert sum(map(len, found.values())) == len(blobs) + 1
    assert all((folder / name).exists() for folder, names in found.items() for name in names)


def test_what_lies_on_a_volume_that_is_not_here_is_asked_for(supplier: Supplier) -> None:
    bundle = supplier.bundle()
    with (
        Media.open(bundle.folders) as media,
        pytest.raises(VerificationRefused, match="not here"),
    ):
        transfer._by_volume(Share(media, [f"{BLOBS}/{'0' * 64}"]))


def test_the_way_is_told_in_words() -> None:
    told: list[str] = []
    tell = transfer._telling(told.append)
    tell("              0   0%    0.00kB/s    0:00:00  ")
    tell("    104,857,600  27%   26.05MB/s    0:00:03  ")
    tell("sending incremental file list")
    assert told == ["copying: 100.0 MiB, 27 %, 26.05MB/s, 0:00:03 left"]
