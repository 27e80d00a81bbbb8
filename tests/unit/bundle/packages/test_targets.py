"""Releases: what is known by name, and who may hand their packages on."""

from __future__ import annotations

import pytest

from aibox.bundle.packages.targets import (
    DEBIAN,
    UBUNTU,
    Distribution,
    redistribution,
    release_version,
    target,
)
from aibox.errors import BadUsage
from aibox.pins import PackageFormat, Redistribution


@pytest.mark.parametrize(
    ("name", "codename"),
    [
        ("debian-12", "bookworm"),
        ("debian-13", "trixie"),
        ("ubuntu-22.04", "jammy"),
        ("ubuntu-24.04", "noble"),
    ],
)
def test_releases_have_codenames(name: str, codename: str) -> None:
    found = target(name)
    assert (found.format, found.codename) == (PackageFormat.DEB, codename)
    assert [suite for _, suites in found.archives for suite in suites] == [
        codename,
        f"{codename}-updates",
        f"{codename}-security",
    ]


@pytest.mark.parametrize("name", ["rhel-9", "rocky-9.4", "fedora-42"])
def test_systems_of_rpm_are_known_by_their_family(name: str) -> None:
    assert target(name).format is PackageFormat.RPM
    assert release_version(name) == name.split("-")[1]


@pytest.mark.parametrize("name", ["debian-99", "windows-11", "rhel", "rocky-9;rm"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadUsage, match="cannot be resolved"):
        target(name)


@pytest.mark.parametrize(
    ("paths", "distribution", "expected"),
    [
        (("pool/main/a/a.deb", "pool/updates/main/b/b.deb"), DEBIAN, Redistribution.ALLOW),
        (("pool/contrib/a/a.deb",), DEBIAN, Redistribution.ALLOW),
        (("pool/main/a/a.deb", "pool/non-free/n/n.deb"), DEBIAN, Redistribution.OPERATOR_ONLY),
        (("pool/updates/non-free/n/n.deb",), DEBIAN, Redistribution.OPERATOR_ONLY),
        (("pool/universe/a/a.deb",), UBUNTU, Redistribution.ALLOW),
        (("pool/restricted/n/n.deb",), UBUNTU, Redistribution.OPERATOR_ONLY),
        (("elsewhere.deb",), DEBIAN, Redistribution.OPERATOR_ONLY),
        ((), DEBIAN, Redistribution.ALLOW),
    ],
)
def test_components_tell_who_may_hand_on(
    paths: tuple[str, ...], distribution: Distribution, expected: Redistribution
) -> None:
    assert redistribution(paths, distribution) is expected
