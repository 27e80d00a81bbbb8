"""The tar of the bundled Python: members that are refused, bytes that are always the same.

The real one runs in tests/e2e/test_interpreter.py.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from aibox.bundle.build import interpreter
from aibox.bundle.packages.python_folder import EXPECTED
from aibox.errors import VerificationRefused
from elf_maker import make_elf
from package_archives import Said, file_of, pinned
from package_maker import make_deb, member, needs_apt

pytestmark = needs_apt

LOADER = "ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
ENSUREPIP = b"_WHEEL_PKG_DIR = sysconfig.get_config_var('WHEEL_PKG_DIR')\n"


@pytest.fixture
def debs(place: Path) -> list[Path]:
    """Packages of the right shape around the smallest libraries."""
    return [
        make_deb(
            place,
            "python3.11",
            files={
                "usr/bin/python3.11": make_elf(needed=("libc.so.6",), loader=f"/lib64/{LOADER}"),
                "usr/lib/python3.11/os.py": b"# os",
                "usr/lib/python3.11/ensurepip/__init__.py": ENSUREPIP,
                "usr/lib/python3.11/test/test_os.py": b"# no",
            },
            members=[
                (
                    member(
                        "./usr/lib/python3.11/sitecustomize.py",
                        type=tarfile.SYMTYPE,
                        linkname="/etc/python3.11/sitecustomize.py",
                    ),
                    b"",
                )
            ],
        ),
        make_deb(
            place,
            "libraries",
            files={f"{LIBRARIES}/{name}": make_elf(soname=name) for name in (*EXPECTED, LOADER)},
        ),
    ]


def made(debs: list[Path], output: Path) -> bytes:
    interpreter.make(pinned(debs, target="debian-12"), file_of(debs), output, Said())
    return output.read_bytes()


def test_it_is_regular_files_without_owner_or_time(debs: list[Path], place: Path) -> None:
    made(debs, place / "python.tar")
    with tarfile.open(place / "python.tar") as archive:
        members = archive.getmembers()
    assert [item.name for item in members] == sorted(item.name for item in members)
    assert all(item.isreg() for item in members)
    assert {(item.uid, item.gid, item.uname, item.mtime) for item in members} == {(0, 0, "", 0)}
    assert {item.mode for item in members} == {0o755, 0o644}


def test_the_same_packages_give_the_same_bytes(debs: list[Path], place: Path) -> None:
    assert made(debs, place / "a.tar") == made(debs[::-1], place / "b.tar")


@pytest.mark.parametrize(
    "header",
    [
        member(f"./{LIBRARIES}/evil.so.1", mode=0o4755),
        member(f"./{LIBRARIES}/evil.so.1", type=tarfile.LNKTYPE, linkname="/etc/shadow"),
        member(f"./{LIBRARIES}/evil.so.1", type=tarfile.CHRTYPE),
        member("./usr/lib/python3.11/../../../../etc/x.py"),
    ],
)
def test_a_member_that_has_no_business_there_is_refused(
    debs: list[Path], place: Path, header: tarfile.TarInfo
) -> None:
    evil = make_deb(place, "evil", members=[(header, b"x" * header.isreg())])
    with pytest.raises(VerificationRefused) as refusal:
        made([*debs, evil], place / "python.tar")
    assert refusal.value.reference == "deb-damaged"
    assert not (place / "python.tar").exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "./root/.ssh/keys"])
def test_members_with_no_place_in_it_stay_behind(debs: list[Path], place: Path, name: str) -> None:
    other = make_deb(place, "other", members=[(member(name), b"x")])
    assert made([*debs, other], place / "a.tar") == made(debs, place / "b.tar")
