"""What apt's configuration says: both spellings, what is off, whose archive it is."""

from __future__ import annotations

import pytest

from aibox.bundle.packages.sources import Source, parse, serving
from aibox.bundle.packages.targets import DEBIAN, UBUNTU

DEBIAN_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "deb http://mirror.example/debian bookworm main contrib",
            Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        ),
        (
            f"deb [ arch=amd64 signed-by={DEBIAN_KEYS} ] http://a.example/debian/ bookworm main #",
            Source("http://a.example/debian", "bookworm", ("main",), DEBIAN_KEYS),
        ),
        ("deb file:///srv/flat ./", Source("file:///srv/flat", "./")),
        ("deb-src http://mirror.example/debian bookworm main", None),
        ("# deb http://mirror.example/debian bookworm main", None),
        ("deb cdrom:[Debian]/ bookworm main", None),
        ("deb tor+http://mirror.example/debian bookworm main", None),
        ("deb http://mirror.example/debian", None),
        ("deb [signed-by=x", None),
        ("", None),
    ],
)
def test_a_line_is_a_source_or_nothing(line: str, expected: Source | None) -> None:
    assert parse("sources.list", line + "\n") == ((expected,) if expected else ())


def test_a_paragraph_is_a_source_for_every_address_and_suite() -> None:
    text = (
        "# ours\nTypes: deb deb-src\nURIs: http://a.example/debian/ https://b.example/debian\n"
        f"Suites: bookworm bookworm-updates\nComponents: main\n contrib\nSigned-By: {DEBIAN_KEYS}\n"
    )
    found = parse("debian.sources", text)
    assert [(item.address, item.suite) for item in found] == [
        ("http://a.example/debian", "bookworm"),
        ("http://a.example/debian", "bookworm-updates"),
        ("https://b.example/debian", "bookworm"),
        ("https://b.example/debian", "bookworm-updates"),
    ]
    assert {item.components for item in found} == {("main", "contrib")}
    assert {item.keyring for item in found} == {DEBIAN_KEYS}


@pytest.mark.parametrize(
    "text",
    [
        "Types: deb-src\nURIs: http://a.example\nSuites: bookworm\nComponents: main\n",
        "Enabled: no\nTypes: deb\nURIs: http://a.example\nSuites: bookworm\nComponents: main\n",
        "Types: deb\nSuites: bookworm\n",
        "nonsense\n\n: : :\n",
    ],
)
def test_what_is_off_or_says_nothing_is_no_source(text: str) -> None:
    assert parse("x.sources", text) == ()


def test_a_key_in_the_source_itself_keeps_its_empty_lines() -> None:
    block = (
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEX\n -----END PGP PUBLIC KEY BLOCK-----\n"
    )
    text = f"Types: deb\nURIs: http://a.example\nSuites: x\nComponents: main\nSigned-By:\n{block}"
    assert "BLOCK-----\n\nmDMEX\n" in parse("x.sources", text)[0].keyring


def test_the_distributions_archive_is_told_from_others_that_use_its_names() -> None:
    own = Source("http://a.example/debian", "bookworm", ("main",), DEBIAN_KEYS)
    bare = Source("http://b.example/debian", "trixie", ("main",))
    others = (
        Source("http://c.example/engine", "bookworm", ("stable",)),
        Source("http://d.example/tools", "bookworm", ("main",), "/etc/apt/keyrings/tools.gpg"),
        Source("http://e.example/ubuntu", "noble", ("main", "universe")),
        Source("http://f.example/debian", "bookworm-backports", ("main",)),
    )
    assert serving((*others, bare, own), DEBIAN, "") == (own, bare)
    assert [item.address for item in serving(others, UBUNTU, "")] == ["http://e.example/ubuntu"]


@pytest.mark.parametrize("suite", ["bookworm-security", "bullseye/security", "trixie-security/"])
def test_security_updates_are_a_pocket_of_their_own(suite: str) -> None:
    source = Source("http://a.example/debian-security", suite, ("main",))
    assert serving((source,), DEBIAN, "security") == (source,)
    assert serving((source,), DEBIAN, "") == ()
