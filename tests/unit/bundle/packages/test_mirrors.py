"""Addresses: apt's for the distribution, the packager's file for the rest, errors for none."""

from __future__ import annotations

import pytest

from aibox.bundle.packages.mirrors import COMMAND, ArchiveMirror, Mirrors, MirrorsFile
from aibox.bundle.packages.sources import Source
from aibox.bundle.packages.targets import target
from aibox.errors import BadUsage
from aibox.pins import Redistribution
from aibox.schema import parse_toml

TRIXIE = target("debian-13")
OF_APT = (
    Source("http://a.example/debian", "bookworm", ("main",)),
    Source("http://a.example/debian-security", "bookworm-security", ("main",)),
)
FILE = """
version = 1
[[archive]]
label = "docker"
targets = ["debian-13", "debian-12"]
address = "https://mirror.example/docker"
suites = ["trixie"]
components = ["stable"]
keyring = "/etc/apt/keyrings/docker.asc"
"""


def read(text: str) -> MirrorsFile:
    return parse_toml(
        text, MirrorsFile, what="mirrors", version=1, command=COMMAND, source="mirrors.toml"
    )


def test_the_packagers_apt_tells_where_another_release_is() -> None:
    release, security = Mirrors(configured=OF_APT).archives(TRIXIE, "amd64")
    assert (release.label, release.address) == ("debian", "http://a.example/debian")
    assert release.suites == ("trixie", "trixie-updates")
    assert "non-free-firmware" in release.components
    assert release.keyring.endswith("/debian-archive-keyring.gpg")
    assert security.address == "http://a.example/debian-security"
    assert security.suites == ("trixie-security",)


def test_a_named_archive_comes_besides() -> None:
    mirrors = Mirrors(read(FILE).archive, OF_APT)
    labels = [item.label for item in mirrors.archives(TRIXIE, "amd64")]
    assert labels == ["debian", "debian-security", "docker"]


def test_a_named_archive_is_for_the_operator_unless_it_says_more() -> None:
    assert read(FILE).archive[0].redistribution is Redistribution.OPERATOR_ONLY


def test_a_named_archive_of_the_distribution_takes_the_place_of_apts() -> None:
    own = read(FILE.replace('"docker"', '"debian"')).archive
    first, *_ = sorted(Mirrors(own, OF_APT).archives(TRIXIE, "amd64"), key=lambda item: item.label)
    assert first.address == "https://mirror.example/docker"


def test_a_named_archive_serves_only_what_it_is_named_for() -> None:
    named = read(FILE + 'architectures = ["arm64"]\n').archive
    assert "docker" not in [a.label for a in Mirrors(named, OF_APT).archives(TRIXIE, "amd64")]
    assert "docker" in [a.label for a in Mirrors(named, OF_APT).archives(TRIXIE, "arm64")]


@pytest.mark.parametrize(
    ("system", "label"),
    [("debian-13", "debian"), ("ubuntu-24.04", "ubuntu"), ("rocky-9", "rocky-9")],
)
def test_an_archive_without_address_is_named(system: str, label: str) -> None:
    with pytest.raises(BadUsage, match="is to be had") as refusal:
        Mirrors().archives(target(system), "amd64")
    assert refusal.value.reference == "archive-address-unknown"
    assert label in refusal.value.message
    assert refusal.value.hint.endswith(COMMAND)


def test_debians_addresses_do_not_serve_ubuntu() -> None:
    with pytest.raises(BadUsage):
        Mirrors(configured=OF_APT).archives(target("ubuntu-22.04"), "amd64")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('address = "https:', 'address = "ftp:'), "address"),
        (('address = "https://mirror', 'address = "https://a b'), "address"),
        (('keyring = "/etc', 'keyring = "etc'), "keyring"),
        (('suites = ["trixie"]', 'suites = ["-o Dir"]'), "suites"),
        (('suites = ["trixie"]', 'suites = ["./"]'), "no components"),
        (('suites = ["trixie"]', ""), "components need suites"),
        (('components = ["stable"]', ""), "suites need components"),
        (('components = ["stable"]', 'components = ["a\\nb"]'), "components"),
        (("version = 1", "version = 2"), "version 2"),
        (('label = "docker"', 'label = "docker"\ntrusted = true'), "trusted"),
    ],
)
def test_a_file_that_is_not_right_says_where(change: tuple[str, str], said: str) -> None:
    with pytest.raises(BadUsage) as refusal:
        read(FILE.replace(*change))
    assert said in refusal.value.message


def test_a_flat_archive_has_a_suite_with_a_slash_and_nothing_else() -> None:
    text = FILE.replace('suites = ["trixie"]', 'suites = ["./"]')
    flat = read(text.replace('components = ["stable"]', "")).archive[0]
    assert isinstance(flat, ArchiveMirror)
