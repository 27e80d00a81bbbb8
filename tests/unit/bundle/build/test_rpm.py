"""Closures by dnf's own library, from small archives that rpmbuild and createrepo_c make."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from aibox.bundle.build import rpm, rpm_repository
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.package_key import PackageKey
from aibox.bundle.packages.mirrors import ArchiveMirror, Mirrors
from aibox.errors import AiboxError, Failed, VerificationRefused
from aibox.pins import PackageFormat, PackageSet
from aibox.profile import PackagesWish
from package_archives import (
    DATE,
    Said,
    a_key,
    copied,
    file_of,
    overwrite,
    pinned_rpms,
    publish_rpms,
    sha256,
)
from package_maker import make_rpm, needs_dnf

pytestmark = needs_dnf

_GPG = ("--define", "__gpg /usr/bin/gpg")
KERNEL = "5.14.0-503.el9.noarch"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PackageKey:
    return a_key(tmp_path_factory.mktemp("signing"))


@pytest.fixture(scope="module")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("rpms")
    return [
        make_rpm(folder, "engine", requires=["library >= 1.0"], recommends=["other"]),
        make_rpm(folder, "library"),
        make_rpm(folder, "picky", requires=["nobody-has-this"]),
        make_rpm(folder, "other"),
        make_rpm(folder, "kernel-devel", "5.14.0", release="503.el9"),
    ]


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, key: PackageKey, rpms: list[Path]
) -> ArchiveMirror:
    return publish_rpms(tmp_path_factory.mktemp("archive") / "base", rpms, key)


@pytest.fixture
def mirrors(shared: ArchiveMirror, place: Path) -> Mirrors:
    return Mirrors(copied((shared,), place))


def resolved(mirrors: Mirrors, *wanted: str, kernels: tuple[str, ...] = ()) -> PackageSet:
    wish = PackagesWish(
        name="engine",
        format=PackageFormat.RPM,
        target="rocky-9",
        wanted=wanted,
        kernels=kernels,
    )
    return rpm.resolve(wish, "x86_64", mirrors, Said())


def changed(mirrors: Mirrors, **values: object) -> Mirrors:
    return Mirrors((mirrors.named[0].model_copy(update=values),))


def test_a_closure_is_what_is_required_and_nothing_recommended(
    mirrors: Mirrors, rpms: list[Path]
) -> None:
    pins = resolved(mirrors, "engine")
    assert [(item.name, item.version, item.architecture) for item in pins.packages] == [
        ("engine", "1.0-1", "noarch"),
        ("library", "1.0-1", "noarch"),
    ]
    assert pins.packages[0].size == rpms[0].stat().st_size
    assert pins.packages[0].sha256 == pinned_rpms(rpms).packages[0].sha256
    assert pins.packages[0].licence == "MIT"


def test_a_lock_names_no_address_and_whose_keys_sign(
    mirrors: Mirrors, key: PackageKey, place: Path
) -> None:
    pins = resolved(mirrors, "engine")
    assert str(place) not in pins.model_dump_json()
    assert pins.archives[0].signed_by == (key.fingerprint,)


def test_headers_of_every_kernel_come_along(mirrors: Mirrors) -> None:
    pins = resolved(mirrors, "library", kernels=(KERNEL,))
    assert [item.name for item in pins.packages] == ["kernel-devel", "library"]


@pytest.mark.parametrize(
    ("wanted", "kernels", "reference", "said"),
    [
        ("nosuch", (), "package-unknown", "nosuch"),
        ("picky", (), "packages-unsatisfiable", "nobody-has-this"),
        ("engine", ("5.1-x86_64",), "kernel-headers-missing", KERNEL),
        ("--nogpgcheck", (), "package-name-invalid", "--nogpgcheck"),
        ("/etc/passwd", (), "package-name-invalid", "/etc/passwd"),
    ],
)
def test_what_cannot_be_had_is_named(
    mirrors: Mirrors, wanted: str, kernels: tuple[str, ...], reference: str, said: str
) -> None:
    with pytest.raises(AiboxError) as error:
        resolved(mirrors, wanted, kernels=kernels)
    assert error.value.reference == reference
    assert said in error.value.message + error.value.context


def test_an_index_of_another_key_is_refused(mirrors: Mirrors, place: Path) -> None:
    path = place / "other.asc"
    path.write_bytes(a_key(place / "other-signing").armoured)
    with pytest.raises(VerificationRefused) as refusal:
        resolved(changed(mirrors, keyring=str(path)), "engine")
    assert refusal.value.reference == "archive-signature-refused"


def test_an_unsigned_index_is_refused_unless_it_is_known_to_be(
    mirrors: Mirrors, place: Path
) -> None:
    (place / "base/repodata/repomd.xml.asc").unlink()
    with pytest.raises(AiboxError):
        resolved(mirrors, "engine")
    assert resolved(changed(mirrors, signed_index=False), "engine").packages


def test_an_index_changed_behind_its_signature_is_refused(mirrors: Mirrors, place: Path) -> None:
    path = place / "base/repodata/repomd.xml"
    overwrite(path, path.read_bytes().replace(b"<revision>", b"<revision>9"))
    with pytest.raises(VerificationRefused) as refusal:
        resolved(mirrors, "engine")
    assert refusal.value.reference == "archive-signature-refused"


def test_metadata_that_is_not_what_the_index_says_is_refused(mirrors: Mirrors, place: Path) -> None:
    path = place / "base/repodata/primary.xml.gz"
    overwrite(path, bytes(len(path.read_bytes())))
    with pytest.raises(AiboxError) as error:
        resolved(mirrors, "engine")
    assert error.value.reference in ("archive-index-refused", "archive-unreachable")


def test_an_archive_that_is_not_there_is_no_silent_gap(mirrors: Mirrors) -> None:
    with pytest.raises(Failed) as error:
        resolved(changed(mirrors, address="file:///nowhere/at/all"), "engine")
    assert error.value.reference == "archive-unreachable"


def test_files_come_into_the_cache_by_their_digests(mirrors: Mirrors, place: Path) -> None:
    pins, cache = resolved(mirrors, "engine"), BlobCache(place / "cache")
    rpm.fetch(pins, cache, mirrors, Said())
    assert all(cache.find(item.sha256, item.size) for item in pins.packages)


def test_packages_without_signature_are_refused_where_the_index_has_none(
    mirrors: Mirrors, place: Path
) -> None:
    unsigned = changed(mirrors, signed_index=False)
    with pytest.raises(VerificationRefused) as refusal:
        rpm.fetch(resolved(unsigned, "engine"), BlobCache(place / "cache"), unsigned, Said())
    assert refusal.value.reference == "package-signature-refused"


def test_the_same_lock_gives_the_same_repository(
    rpms: list[Path], key: PackageKey, place: Path
) -> None:
    first = rpm_repository.make(pinned_rpms(rpms), file_of(rpms), key, DATE, Said())
    for path in rpms:
        (place / path.name).write_bytes(path.read_bytes())
    others = [place / path.name for path in rpms][::-1]
    again = rpm_repository.make(pinned_rpms(others), file_of(others), key, DATE, Said())
    assert again == first
    # The time of the copies is the lock's date, not that of the copying.
    index = gzip.decompress(first.metadata["repodata/primary.xml.gz"])
    assert index.count(b'<time file="1768435200"') == len(rpms)
    assert "repodata/repomd.xml.asc" in first.metadata


def test_dnf_of_another_generation_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "dnf").write_bytes(b"\x7fELF")
    (place / "dnf").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    with pytest.raises(Failed) as error:
        rpm.dnf_python()
    assert error.value.reference == "dnf-unsuited"


def test_signed_packages_pass(mirrors: Mirrors, key: PackageKey, place: Path) -> None:
    """With the real rpmsign, where there is one."""
    unsigned = changed(mirrors, signed_index=False)
    pins = resolved(unsigned, "library")
    path = place / "base" / pins.packages[0].path
    _sign(path, key, place)
    signed = pins.packages[0].model_copy(
        update={"sha256": sha256(path), "size": path.stat().st_size}
    )
    pins = pins.model_copy(update={"packages": (signed,)})
    rpm.fetch(pins, BlobCache(place / "cache"), unsigned, Said())


def _sign(path: Path, key: PackageKey, place: Path) -> None:
    home = place / "gnupg"
    home.mkdir(mode=0o700)
    environment = {"GNUPGHOME": str(home), "PATH": "/usr/bin:/bin", "HOME": str(place)}
    subprocess.run(
        ["gpg", "--batch", "--quiet", "--import", str(key.secret)], env=environment, check=True
    )
    subprocess.run(
        ["rpmsign", "--define", f"_gpg_name {key.fingerprint}", *_GPG, "--addsign", str(path)],
        env=environment,
        check=True,
        capture_output=True,
    )
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)
