"""Licences from copyright files: the machine-readable ones, and silence about the rest."""

from __future__ import annotations

import pytest

from aibox.bundle.packages.copyright import licence_of

HEAD = "Format: https://policy.example/copyright-format/1.0/\n"


def stanza(licence: str) -> str:
    return f"\nFiles: *\nCopyright: 2020 somebody\nLicense: {licence}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + stanza("MIT"), "MIT"),
        (HEAD + "License: Apache-2.0\n", "Apache-2.0"),
        (HEAD + stanza("GPL-2+") + stanza("Expat") + stanza("GPL-2+"), "Expat AND GPL-2+"),
        (HEAD + stanza("GPL-2+ or Artistic"), "Artistic AND GPL-2+"),
        (HEAD + stanza("GPL-1, MIT, and BSD"), "BSD AND GPL-1 AND MIT"),
        (HEAD + stanza("GPL-2 with OpenSSL exception"), "GPL-2 with OpenSSL exception"),
        (HEAD + stanza("GPL version 2 or later"), "GPL version 2 or later"),
        (HEAD + stanza("BSD\n Redistribution and use\n .\n are permitted"), "BSD"),
        # The text of a licence is no licence of a file.
        (HEAD + stanza("MIT") + "\nLicense: GPL-3\n see the text\n", "MIT"),
        ("Format: http://dep.example/deps/dep5/\n" + stanza("MIT"), "MIT"),
        (HEAD, "unknown"),
        ("This package was debianised by somebody. License: GPL\n", "unknown"),
        (stanza("MIT"), "unknown"),
        ("", "unknown"),
        ("\x00\xff: x", "unknown"),
    ],
)
def test_licences_are_the_short_names_of_all_files(text: str, expected: str) -> None:
    assert licence_of(text) == expected
