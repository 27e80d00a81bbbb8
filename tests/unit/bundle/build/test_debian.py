"""Closures by the real apt, from small archives on disk that a key of the test signs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from aibox.bundle.build import archive_files, debian
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.package_key import PackageKey
from aibox.bundle.packages.mirrors import ArchiveMirror, Mirrors
from aibox.errors import AiboxError, BadUsage, Failed, VerificationRefused
from aibox.pins import PackageFormat, PackageSet, Redistribution
from aibox.profile import PackagesWish
from package_archives import DATE, Said, a_key, copied, overwrite, publish, sha256
from package_maker import make_deb, needs_apt

pytestmark = needs_apt

KERNEL = "6.12.9+deb13-amd64"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PackageKey:
    return a_key(tmp_path_factory.mktemp("signing"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, key: PackageKey) -> Mirrors:
    """What Debian has: an essential package, a kernel's headers, an engine."""
    place = tmp_path_factory.mktemp("archives")
    debs = place / "debs"
    debs.mkdir()
    own = [
        make_deb(debs, "essence", fields={"Essential": "yes", "Depends": "libessence"}),
        make_deb(debs, "libessence"),
        make_deb(debs, "apt", fields={"Depends": "libessence (>= 1.0)"}),
        make_deb(debs, "mount"),
        make_deb(
            debs,
            "engine",
            "1:26.1+dfsg1-9",
            architecture="amd64",
            fields={"Depends": "engine-cli (= 1:26.1+dfsg1-9), libessence", "Recommends": "advice"},
        ),
        make_deb(debs, "engine-cli", "1:26.1+dfsg1-9", architecture="amd64"),
        make_deb(debs, "advice"),
        make_deb(debs, "picky", fields={"Depends": "nobody-has-this"}),
        make_deb(debs, f"linux-headers-{KERNEL}", architecture="amd64"),
    ]
    safe = [make_deb(debs, "libessence", "1.1")]
    return Mirrors(
        (
            publish(place / "debian", own, key),
            publish(place / "security", safe, key, label="debian-security"),
        )
    )


@pytest.fixture
def mirrors(shared: Mirrors, place: Path) -> Mirrors:
    """The same, this test's own to spoil."""
    return Mirrors(copied(shared.named, place))


def wish(*wanted: str, kernels: tuple[str, ...] = ()) -> PackagesWish:
    return PackagesWish(
        name="container-engine",
        format=PackageFormat.DEB,
        target="debian-13",
        wanted=wanted,
        kernels=kernels,
    )


def resolved(mirrors: Mirrors, wanted: PackagesWish, *, base: bool = False) -> PackageSet:
    return debian.resolve(wanted, "amd64", mirrors, Said(), base=base)


def names(pins: PackageSet) -> list[str]:
    return [package.name for package in pins.packages]


def test_a_closure_is_what_is_depended_on_and_nothing_recommended(mirrors: Mirrors) -> None:
    pins = resolved(mirrors, wish("engine"))
    assert names(pins) == ["engine", "engine-cli", "libessence"]


def test_the_packages_of_this_machine_are_not_thought_to_be_there(mirrors: Mirrors) -> None:
    assert "apt" in names(resolved(mirrors, wish("apt")))


def test_with_its_base_a_closure_is_complete_on_an_empty_disk(mirrors: Mirrors) -> None:
    pins = resolved(mirrors, wish("engine-cli"), base=True)
    assert names(pins) == ["apt", "engine-cli", "essence", "libessence", "mount"]


def test_each_package_says_which_bytes_of_which_archive_it_is(
    mirrors: Mirrors, place: Path
) -> None:
    engine, _, library = resolved(mirrors, wish("engine")).packages
    assert (engine.version, engine.architecture) == ("1:26.1+dfsg1-9", "amd64")
    assert engine.path == "pool/engine_1%3a26.1+dfsg1-9_amd64.deb"
    assert engine.size == (place / "debian" / engine.path).stat().st_size
    assert (library.version, library.archive) == ("1.1", "debian-security")


def test_a_lock_names_no_address_and_who_signed(
    mirrors: Mirrors, key: PackageKey, place: Path
) -> None:
    pins = resolved(mirrors, wish("engine"))
    assert str(place) not in pins.model_dump_json()
    assert [(item.label, item.suite, item.signed_by) for item in pins.archives] == [
        ("debian", "trixie", (key.fingerprint,)),
        ("debian-security", "trixie", (key.fingerprint,)),
    ]


def test_headers_of_every_kernel_come_along(mirrors: Mirrors) -> None:
    pins = resolved(mirrors, wish("engine-cli", kernels=(KERNEL,)))
    assert f"linux-headers-{KERNEL}" in names(pins)
    assert pins.kernels == (KERNEL,)


def test_an_armoured_keyring_serves_too(mirrors: Mirrors, key: PackageKey, place: Path) -> None:
    path = place / "armoured.asc"
    path.write_bytes(key.armoured)
    archives = [item.model_copy(update={"keyring": str(path)}) for item in mirrors.named]
    pins = resolved(Mirrors(tuple(archives)), wish("engine"))
    assert pins.archives[0].signed_by == (key.fingerprint,)


def test_what_may_not_be_handed_on_makes_the_whole_set_so(mirrors: Mirrors) -> None:
    closed = {"redistribution": Redistribution.OPERATOR_ONLY}
    archives = (mirrors.named[0], mirrors.named[1].model_copy(update=closed))
    with_library = resolved(Mirrors(archives), wish("engine"))
    assert with_library.redistribution is Redistribution.OPERATOR_ONLY


@pytest.mark.parametrize(
    ("wanted", "reference", "said"),
    [
        (wish("nosuch"), "package-unknown", "nosuch"),
        (wish("engine=9"), "package-unknown", "engine (version 9)"),
        (wish("picky"), "packages-unsatisfiable", "nobody-has-this"),
        (wish("engine", kernels=("5.1-amd64",)), "kernel-headers-missing", KERNEL),
        (wish("engine", kernels=("../x",)), "kernel-headers-missing", "../x"),
        (wish("-oDebug::x=1"), "package-name-invalid", "-oDebug"),
        (wish("?essential"), "package-name-invalid", "?essential"),
    ],
)
def test_what_cannot_be_had_is_named(
    mirrors: Mirrors, wanted: PackagesWish, reference: str, said: str
) -> None:
    with pytest.raises(AiboxError) as error:
        resolved(mirrors, wanted)
    assert error.value.reference == reference
    assert said in error.value.message + error.value.context


def changed(mirrors: Mirrors, **values: object) -> Mirrors:
    first, *others = mirrors.named
    return dataclasses.replace(mirrors, named=(first.model_copy(update=values), *others))


def test_another_key_than_the_archives_is_refused(mirrors: Mirrors, place: Path) -> None:
    other = place / "other.gpg"
    other.write_bytes(a_key(place / "other-signing").public)
    refuses(changed(mirrors, keyring=str(other)), "archive-signature-refused")


def test_a_keyring_that_is_not_there_is_named(mirrors: Mirrors, place: Path) -> None:
    with pytest.raises(Failed, match="keys that sign") as error:
        resolved(changed(mirrors, keyring=str(place / "nothing.gpg")), wish("engine"))
    assert error.value.reference == "archive-keyring-missing"


def refuses(mirrors: Mirrors, reference: str) -> None:
    with pytest.raises(VerificationRefused) as refusal:
        resolved(mirrors, wish("engine"))
    assert refusal.value.reference == reference


def test_an_index_changed_behind_its_signature_is_refused(mirrors: Mirrors, place: Path) -> None:
    index = place / "debian/dists/trixie/main/binary-amd64/Packages"
    data = index.read_bytes()
    overwrite(index, data.replace(b"SHA256: ", b"SHA256: 0", 1)[:-1])
    refuses(mirrors, "archive-index-refused")


def test_a_release_file_changed_behind_its_signature_is_refused(
    mirrors: Mirrors, place: Path
) -> None:
    release = place / "debian/dists/trixie/InRelease"
    overwrite(release, release.read_bytes().replace(b"Label: aibox", b"Label: other"))
    refuses(mirrors, "archive-signature-refused")


def test_unsigned_archives_are_refused(mirrors: Mirrors, place: Path) -> None:
    for name in ("InRelease", "Release.gpg"):
        (place / "debian/dists/trixie" / name).unlink()
    refuses(mirrors, "archive-signature-refused")


@pytest.mark.parametrize(
    ("change", "references"),
    [
        ({"suites": ("forky",)}, {"archive-without-release"}),
        ({"address": "file:/nowhere/at/all"}, {"archive-without-release", "archive-unreachable"}),
        ({"address": "http://127.0.0.1:9/debian"}, {"archive-unreachable"}),
    ],
)
def test_an_archive_that_is_not_there_is_no_silent_gap(
    mirrors: Mirrors,
    change: dict[str, object],
    references: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(Failed) as error:
        resolved(changed(mirrors, **change), wish("engine"))
    assert error.value.reference in references


def test_files_come_into_the_cache_by_their_digests(mirrors: Mirrors, place: Path) -> None:
    pins, cache = resolved(mirrors, wish("engine")), BlobCache(place / "cache")
    archive_files.fetch(pins, cache, mirrors, Said())
    assert all(cache.find(item.sha256, item.size) for item in pins.packages)


def test_a_package_that_changed_in_the_archive_is_refused(mirrors: Mirrors, place: Path) -> None:
    pins, cache = resolved(mirrors, wish("engine")), BlobCache(place / "cache")
    path = place / "debian" / pins.packages[0].path
    overwrite(path, bytes(len(path.read_bytes())))
    with pytest.raises(VerificationRefused):
        archive_files.fetch(pins, cache, mirrors, Said())


def test_a_set_of_an_archive_without_address_says_which(mirrors: Mirrors, place: Path) -> None:
    pins = resolved(mirrors, wish("engine"))
    stranger = pins.packages[0].model_copy(update={"archive": "docker"})
    pins = pins.model_copy(update={"packages": (stranger,)})
    with pytest.raises(BadUsage, match="'docker'"):
        archive_files.fetch(pins, BlobCache(place / "cache"), mirrors, Said())


def test_packages_of_another_format_are_refused(mirrors: Mirrors) -> None:
    other = wish("engine").model_copy(update={"format": PackageFormat.RPM})
    with pytest.raises(BadUsage, match="not packages that debian-13"):
        resolved(mirrors, other)


def test_a_flat_archive_is_read_like_any(place: Path, key: PackageKey, mirrors: Mirrors) -> None:
    flat = a_flat_archive(place / "flat", make_deb(place, "third"), key)
    pins = resolved(Mirrors((*mirrors.named, flat)), wish("third"))
    assert pins.packages[0].path == "third_1.0_all.deb"
    assert pins.redistribution is Redistribution.OPERATOR_ONLY
    cache = BlobCache(place / "cache")
    archive_files.fetch(pins, cache, Mirrors((*mirrors.named, flat)), Said())
    assert cache.find(pins.packages[0].sha256, pins.packages[0].size)


def a_flat_archive(folder: Path, deb: Path, key: PackageKey) -> ArchiveMirror:
    """Made like those of vendors: index and package in one folder."""
    made = publish(folder / "made", [deb], key)
    deb.rename(folder / deb.name)
    index = (folder / "made/dists/trixie/main/binary-amd64/Packages").read_text()
    (folder / "Packages").write_text(index.replace("pool/", "./"))
    sums = f" {sha256(folder / 'Packages')} {(folder / 'Packages').stat().st_size} Packages\n"
    release = f"Date: Thu, 15 Jan 2026 00:00:00 UTC\nSHA256:\n{sums}"
    signed = key.sign(release.encode(), DATE, inline=True)
    (folder / "InRelease").write_bytes(signed)
    return made.model_copy(
        update={
            "label": "vendor",
            "address": f"file:{folder}",
            "suites": ("./",),
            "components": (),
            "redistribution": Redistribution.OPERATOR_ONLY,
        }
    )
