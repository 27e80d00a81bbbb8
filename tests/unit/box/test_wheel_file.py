from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from aibox.box.wheel_file import contents, merged
from aibox.errors import VerificationRefused
from wheel_maker import make_wheel

MODULE = {"demo/__init__.py": b"VALUE = 1\n"}


def test_what_a_wheel_records_is_what_it_installs(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        MODULE
        | {
            "demo-1.0.data/purelib/demo/more.py": b"",
            "demo-1.0.data/scripts/demo": b"#!python\n",
            "demo-1.0.data/data/share/man/demo.1": b"",
        },
    )
    assert sorted(contents(wheel)) == [
        "demo-1.0.dist-info/METADATA",
        "demo-1.0.dist-info/WHEEL",
        "demo/__init__.py",
        "demo/more.py",
    ]
    assert contents(wheel)["demo/__init__.py"].size == 10


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("stealer.pth", "every start"),
        ("demo/inner.pth", "every start"),
        ("demo-1.0.data/purelib/stealer.pth", "every start"),
        ("sitecustomize.py", "every start"),
        ("usercustomize/__init__.py", "every start"),
        ("ssl.py", "standard module"),
        ("json/__init__.py", "standard module"),
        ("../escape.py", "leaves its folder"),
        ("/etc/escape.py", "leaves its folder"),
        ("demo/..\\escape.py", "leaves its folder"),
        ("demo-1.0.data/startup/run.py", "unknown purpose"),
    ],
)
def test_files_that_would_do_harm_are_refused_by_name(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(VerificationRefused, match=why):
        contents(make_wheel(tmp_path, MODULE | {name: b"import os\n"}))


def test_a_file_behind_the_back_of_the_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationRefused, match=r"demo/extra\.py"):
        contents(make_wheel(tmp_path, MODULE, unrecorded={"demo/extra.py": b""}))


def test_a_file_the_record_names_but_the_wheel_lacks_is_refused(tmp_path: Path) -> None:
    whole = make_wheel(tmp_path, MODULE)
    lacking = tmp_path / "demo-2.0-py3-none-any.whl"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(lacking, "w") as new:
        for name in old.namelist():
            if not name.startswith("demo/"):
                new.writestr(name, old.read(name))
    with pytest.raises(VerificationRefused, match=r"demo/__init__\.py"):
        contents(lacking)


@pytest.mark.parametrize("name", ["demo-1.0.tar.gz", "demo.whl", "demo-1.0-py3-none-any.whl"])
def test_what_is_not_a_wheel_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"setup.py and such")
    with pytest.raises(VerificationRefused):
        contents(tmp_path / name)


def test_a_digest_other_than_sha256_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, MODULE)
    with zipfile.ZipFile(wheel) as old:
        files = {name: old.read(name) for name in old.namelist()}
    record = files["demo-1.0.dist-info/RECORD"].replace(b"sha256=", b"md5=")
    with zipfile.ZipFile(wheel, "w") as new:
        for name, data in (files | {"demo-1.0.dist-info/RECORD": record}).items():
            new.writestr(name, data)
    with pytest.raises(VerificationRefused, match="without sha256"):
        contents(wheel)


def test_two_packages_may_share_a_file_but_not_disagree_about_it(tmp_path: Path) -> None:
    shared, other = {"space/__init__.py": b""}, {"space/__init__.py": b"VALUE = 2\n"}
    first = make_wheel(tmp_path, shared, name="first")
    second = make_wheel(tmp_path, shared, name="second")
    third = make_wheel(tmp_path, other, name="third")
    assert "space/__init__.py" in merged([first, second])
    with pytest.raises(VerificationRefused, match="another wheel"):
        merged([first, third])
