"""Where addresses are read: a file that is named, a variable, and apt's folder of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox.bundle.build import mirrors_file
from aibox.errors import BadUsage

FILE = """
version = 1
[[archive]]
label = "docker"
targets = ["debian-13"]
address = "https://mirror.example/docker"
suites = ["trixie"]
components = ["stable"]
keyring = "/etc/apt/keyrings/docker.asc"
"""


@pytest.fixture
def apt(place: Path) -> Path:
    folder = place / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    (folder / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    return folder


def source(apt: Path, name: str, text: str) -> None:
    (apt / "sources.list.d" / name).write_text(text)


def addresses(apt: Path) -> list[str]:
    return [item.address for item in mirrors_file.configured(apt)]


def test_every_file_that_apt_reads_is_read(apt: Path) -> None:
    source(apt, "b.list", "deb http://b.example/x trixie main\n")
    source(apt, "c.sources", "Types: deb\nURIs: http://c.example\nSuites: x\nComponents: main\n")
    source(apt, "d.list.disabled", "deb http://d.example/x trixie main\n")
    assert addresses(apt) == ["http://a.example/debian", "http://b.example/x", "http://c.example"]


def test_the_first_of_a_list_of_mirrors_counts(apt: Path, place: Path) -> None:
    (place / "mirrors").write_text("# ours\n\nhttps://m1.example/debian/ priority:1\nhttp://m2\n")
    source(apt, "m.list", f"deb mirror+file://{place}/mirrors trixie main\n")
    assert addresses(apt)[1] == "https://m1.example/debian"


def test_a_list_of_mirrors_that_is_not_there_is_no_address(apt: Path) -> None:
    source(apt, "m.list", "deb mirror+file:/nowhere trixie main\n")
    assert addresses(apt) == ["http://a.example/debian"]


def test_a_machine_without_apt_has_no_addresses(place: Path) -> None:
    assert mirrors_file.configured(place / "nothing") == ()


def test_bytes_that_are_no_text_break_nothing(apt: Path) -> None:
    (apt / "sources.list.d" / "x.list").write_bytes(b"deb http://\xff\xfe main\n\x00")
    assert addresses(apt)[0] == "http://a.example/debian"


def test_a_named_file_comes_before_the_variable(
    apt: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "a.toml").write_text(FILE)
    (place / "b.toml").write_text("version = 1\n")
    monkeypatch.setenv(mirrors_file.VARIABLE, str(place / "a.toml"))
    assert [item.label for item in mirrors_file.read(apt=apt).named] == ["docker"]
    assert mirrors_file.read(place / "b.toml", apt=apt).named == ()


def test_a_named_file_that_is_not_there_is_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadUsage) as refusal:
        mirrors_file.read(place / "nothing.toml")
    assert refusal.value.reference == "mirrors-missing"
    assert refusal.value.hint.endswith("./aibox lock --mirrors FILE")
