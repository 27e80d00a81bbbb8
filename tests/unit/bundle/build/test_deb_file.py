"""Packages as files: what they say of themselves, and members that have no business in them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from aibox.bundle.build import deb_file
from aibox.errors import VerificationRefused
from package_archives import file_of, pinned
from package_maker import make_deb, member, needs_apt

pytestmark = needs_apt

MIT = b"Format: https://policy.example/copyright-format/1.0/\n\n"
MIT += b"Files: *\nCopyright: somebody\nLicense: MIT\n"


def test_the_control_file_is_read_as_it_stands(place: Path) -> None:
    deb = make_deb(place, "engine", "1:2.0", fields={"Depends": "a (>= 1), b | c"})
    control = deb_file.control(deb)
    assert (control.get("Package"), control.get("Version")) == ("engine", "1:2.0")
    assert control.get("depends") == "a (>= 1), b | c"


def test_files_come_in_order_with_their_bytes(place: Path) -> None:
    deb = make_deb(place, "engine", files={"usr/a": b"1", "usr/b": b"22"})
    assert [(item.name, read()) for item, read in deb_file.members(deb)] == [
        ("./usr/a", b"1"),
        ("./usr/b", b"22"),
    ]


def test_whoever_stops_early_leaves_no_process_behind(place: Path) -> None:
    deb = make_deb(place, "engine", files={f"usr/{n}": bytes(100_000) for n in range(50)})
    for item, _ in deb_file.members(deb):
        assert item.name == "./usr/0"
        break


@pytest.mark.parametrize("length", [0, 7, 60, 200, -300, -1])
def test_a_truncated_package_is_refused(place: Path, length: int) -> None:
    files = {"usr/a": bytes(range(256)) * 400}
    deb = make_deb(place, "engine", files=files)
    deb.write_bytes(deb.read_bytes()[:length])
    with pytest.raises(VerificationRefused) as refusal:
        deb_file.control(deb)
        list(deb_file.members(deb))
    assert refusal.value.reference == "deb-damaged"


def test_other_bytes_than_a_package_are_refused(place: Path) -> None:
    (place / "x.deb").write_bytes(b"!<arch>\nnonsense" * 100)
    with pytest.raises(VerificationRefused):
        list(deb_file.members(place / "x.deb"))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (member("../../etc/passwd"), "leaves"),
        (member("./usr/../../x"), "leaves"),
        (member("/etc/passwd"), "leaves"),
        (member("./usr/bin/su", mode=0o4755), "setuid"),
        (member("./usr/bin/wall", mode=0o2755), "setuid"),
        (member("./dev/sda", type=tarfile.BLKTYPE), "neither"),
        (member("./dev/tty", type=tarfile.CHRTYPE), "neither"),
        (member("./pipe", type=tarfile.FIFOTYPE), "neither"),
        (member("./hard", type=tarfile.LNKTYPE, linkname="/etc/shadow"), "neither"),
        (member("./a/soft", type=tarfile.SYMTYPE, linkname="../../etc/shadow"), "points out"),
        (member("./soft", type=tarfile.SYMTYPE, linkname="/etc/shadow"), "points out"),
    ],
)
def test_a_member_that_reaches_out_is_a_hazard(header: tarfile.TarInfo, reason: str) -> None:
    assert reason in deb_file.hazard(header)


@pytest.mark.parametrize(
    "header",
    [
        member("./usr/lib/a.so"),
        member("./usr/bin/tool", mode=0o755),
        member("./usr", type=tarfile.DIRTYPE, mode=0o755),
        member("./var/local", type=tarfile.DIRTYPE, mode=0o2775),
        member("./usr/bin/a", type=tarfile.SYMTYPE, linkname="../lib/a"),
        member("./usr/lib/..data"),
    ],
)
def test_what_stays_below_the_folder_is_none(header: tarfile.TarInfo) -> None:
    assert deb_file.hazard(header) == ""


def test_licences_are_read_from_the_packages_themselves(place: Path) -> None:
    debs = [
        make_deb(place, "one", files={"usr/share/doc/one/copyright": MIT}),
        make_deb(place, "prose", files={"usr/share/doc/prose/copyright": b"Do as you like."}),
        make_deb(place, "silent"),
        make_deb(place, "linked", members=[(_link("usr/share/doc/linked", "one"), b"")]),
        make_deb(
            place,
            "file-linked",
            members=[(_link("usr/share/doc/file-linked/copyright", "../one/copyright"), b"")],
        ),
    ]
    pins = pinned(debs)
    heard: list[object] = []
    found = deb_file.licences(pins, file_of(debs), heard.append)
    assert {item.name: found[item.sha256] for item in pins.packages} == {
        "one": "MIT",
        "prose": "unknown",
        "silent": "unknown",
        "linked": "MIT",
        "file-linked": "MIT",
    }
    assert heard


def test_links_in_a_circle_end_as_unknown(place: Path) -> None:
    debs = [
        make_deb(place, "a", members=[(_link("usr/share/doc/a", "b"), b"")]),
        make_deb(place, "b", members=[(_link("usr/share/doc/b", "a"), b"")]),
    ]
    found = deb_file.licences(pinned(debs), file_of(debs), lambda _: None)
    assert set(found.values()) == {"unknown"}


def _link(path: str, target: str) -> tarfile.TarInfo:
    return member(f"./{path}", type=tarfile.SYMTYPE, linkname=target)
