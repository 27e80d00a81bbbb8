"""Names from outside never become a path unchecked."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.box.layout import Layout, relative
from aibox.errors import VerificationRefused

LAYOUT = Layout(Path("/box"))


def test_a_blob_lies_below_the_first_two_digits_of_its_digest() -> None:
    assert LAYOUT.blob("ab" * 32) == Path("/box/blobs/sha256/ab") / ("ab" * 32)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "../" + "a" * 61,
        "ａ" * 64,
        "a" * 63 + "\n",
        "a" * 63 + "/",
    ],
)
def test_what_is_no_digest_is_refused(name: str) -> None:
    with pytest.raises(VerificationRefused, match="not a SHA-256"):
        LAYOUT.blob(name)


@given(st.text(max_size=80))
def test_no_name_leads_out_of_the_blobs(name: str) -> None:
    try:
        path = LAYOUT.blob(name)
    except VerificationRefused:
        return
    assert path.parent.parent == LAYOUT.blobs


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", "./a", "a\\b", "a\0"]
)
def test_a_path_that_leads_outside_is_refused(path: str) -> None:
    with pytest.raises(VerificationRefused) as refusal:
        relative(path)
    assert refusal.value.reference == "unsafe-path"


def test_korean_names_with_spaces_are_paths_like_any_other() -> None:
    assert relative("documents/ko/설치 안내.md") == PurePosixPath("documents/ko/설치 안내.md")
