"""Sizes: decimal and binary are never mixed up, and what is no size is refused with the units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle.sizes import parse_size, show_size
from aibox.errors import BadUsage


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("25GB", 25 * 10**9),
        ("25GiB", 25 * 2**30),
        ("4.7GB", 4_700_000_000),
        ("650 MB", 650 * 10**6),
        (" 25gb ", 25 * 10**9),
        ("25gib", 25 * 2**30),
        ("1TB", 10**12),
        ("1TiB", 2**40),
        ("512KiB", 512 * 1024),
        ("3kB", 3000),
        ("700B", 700),
        ("0.1GB", 10**8),
        ("1.23456789KB", 1234),
    ],
)
def test_sizes_are_read_as_written(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "25", "GB", "-1GB", "0GB", "0.0001B", "25 G B", "25PB", "1e9B", "25GB5", "٢GB", "1" * 400],
)
def test_what_is_no_size_is_refused_with_the_units(text: str) -> None:
    with pytest.raises(BadUsage) as refusal:
        parse_size(text)
    assert refusal.value.reference == "size-invalid"
    assert "GiB" in refusal.value.context
    assert "10^9 bytes" in refusal.value.hint


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        assert parse_size(text) > 0
    except BadUsage as refusal:
        assert refusal.reference == "size-invalid"


@given(st.integers(1, 10**6), st.sampled_from([("B", 1), ("MB", 10**6), ("MiB", 2**20)]))
def test_whole_numbers_are_exact(number: int, unit: tuple[str, int]) -> None:
    assert parse_size(f"{number}{unit[0]}") == number * unit[1]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (3_100_000_000, "3.1 GB"), (64_000, "64.0 kB")],
)
def test_sizes_are_shown_in_decimal_units(size: int, text: str) -> None:
    assert show_size(size) == text
