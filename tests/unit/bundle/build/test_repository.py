"""The repository in a bundle: read by the real apt, the same bytes every time."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

import pytest

from aibox.bundle.build import repository
from aibox.bundle.build.apt import PrivateApt
from aibox.bundle.build.deb_repository import format_date
from aibox.bundle.build.package_key import PackageKey
from aibox.bundle.build.repository_files import Repository
from aibox.bundle.packages.mirrors import ArchiveMirror
from aibox.errors import BadUsage, VerificationRefused
from package_archives import DATE, Said, a_key, file_of, pinned
from package_maker import make_deb, needs_apt

pytestmark = needs_apt


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PackageKey:
    return a_key(tmp_path_factory.mktemp("signing"))


@pytest.fixture
def debs(place: Path) -> list[Path]:
    folder = place / "debs"
    folder.mkdir()
    return [
        make_deb(folder, "engine", "2:1.0~rc1", fields={"Depends": "library"}),
        make_deb(folder, "library", files={"usr/lib/x": b"data"}),
    ]


def made(debs: list[Path], key: PackageKey) -> Repository:
    return repository.make(pinned(debs), file_of(debs), key, DATE, Said())


def test_apt_takes_it_for_an_archive(place: Path, debs: list[Path], key: PackageKey) -> None:
    folder = place / "repository"
    made(debs, key).write(folder, file_of(debs))
    archive = ArchiveMirror(
        label="bundle",
        targets=("debian-13",),
        address=f"file:{folder}",
        suites=("trixie",),
        components=("main",),
        keyring=str(folder / "aibox-packages.gpg"),
    )
    apt = PrivateApt(place / "apt", "amd64", (archive,), Said())
    apt.update()
    found = apt.closure(("engine",), "debian-13")
    assert {item.sha256 for item in found} == {item.sha256 for item in pinned(debs).packages}
    assert apt.signed()[0].signed_by == (key.fingerprint,)


def test_the_same_lock_gives_the_same_bytes_anywhere(
    debs: list[Path], key: PackageKey, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(debs, key)
    monkeypatch.setenv("TZ", "Asia/Seoul")
    monkeypatch.setenv("LC_ALL", "C")
    time.tzset()
    monkeypatch.chdir(place)
    for deb in debs:
        os.utime(deb, (1, 1))
    assert made(debs[::-1], key) == first


def test_packages_stay_the_blobs_they_are(debs: list[Path], key: PackageKey) -> None:
    assert {path: blob.sha256 for path, blob in made(debs, key).pool.items()} == {
        f"pool/{path.name}": item.sha256
        for path, item in zip(debs, pinned(debs).packages, strict=True)
    }


def test_nothing_expires_and_the_date_is_the_locks(debs: list[Path], key: PackageKey) -> None:
    release = made(debs, key).metadata["dists/trixie/Release"].decode()
    assert "Date: Thu, 15 Jan 2026 00:00:00 UTC\n" in release
    assert "Valid-Until" not in release


def test_the_index_ends_each_package_with_an_empty_line(debs: list[Path], key: PackageKey) -> None:
    index = made(debs, key).metadata["dists/trixie/main/binary-amd64/Packages"]
    assert index.count(b"\n\n") == 2
    assert index.endswith(b"\n\n")


@pytest.mark.parametrize("field", ["name", "version", "architecture"])
def test_a_file_that_is_another_package_is_refused(
    debs: list[Path], key: PackageKey, field: str
) -> None:
    pins = pinned(debs)
    wrong = pins.packages[0].model_copy(update={field: "other"})
    pins = pins.model_copy(update={"packages": (wrong, *pins.packages[1:])})
    with pytest.raises(VerificationRefused) as refusal:
        repository.make(pins, file_of(debs), key, DATE, Said())
    assert refusal.value.reference == "deb-other"


def test_two_packages_of_one_file_name_are_refused(debs: list[Path], key: PackageKey) -> None:
    pins = pinned(debs)
    twin = pins.packages[1].model_copy(update={"path": f"other/{debs[0].name}"})
    pins = pins.model_copy(update={"packages": (pins.packages[0], twin)})
    with pytest.raises(BadUsage, match="same file name"):
        repository.make(pins, file_of(debs), key, DATE, Said())


def test_packages_on_another_disk_are_copied(
    debs: list[Path], key: PackageKey, tmp_path: Path
) -> None:
    made(debs, key).write(tmp_path / "repository", file_of(debs))
    written = tmp_path / "repository/pool" / debs[0].name
    assert written.read_bytes() == debs[0].read_bytes()


def test_dates_are_those_of_no_locale() -> None:
    moment = datetime.datetime(2026, 12, 6, 7, 8, 9, tzinfo=datetime.UTC)
    assert format_date(moment) == "Sun, 06 Dec 2026 07:08:09 UTC"
