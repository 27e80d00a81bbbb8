"""Builds of Python packages: only those for supported hosts, and no address."""

from __future__ import annotations

import pytest
import tomli_w

from aibox.bundle.build.pylock import parse
from aibox.errors import Failed
from small_project import pylock


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        ("x-1-py3-none-any.whl", True),
        ("x-1-py2.py3-none-any.whl", True),
        ("x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("x-1-cp38-abi3-manylinux_2_28_aarch64.whl", True),
        ("x-1-py3-none-manylinux_2_17_x86_64.whl", True),
        ("x-1-cp310-cp310-manylinux_2_17_x86_64.whl", False),
        ("x-1-cp313-cp313t-manylinux_2_17_x86_64.whl", False),
        ("x-1-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("x-1-cp311-cp311-macosx_11_0_arm64.whl", False),
        ("x-1-cp311-cp311-win_amd64.whl", False),
        ("x-1-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl", False),
    ],
)
def test_only_builds_for_supported_hosts_are_locked(filename: str, kept: bool) -> None:
    text = pylock(("x", "1", "one")).replace("x-1-py3-none-any.whl", filename)
    if kept:
        assert parse(text)[0].files[0].filename == filename
    else:
        with pytest.raises(Failed, match="has no wheel for Linux"):
            parse(text)


def test_a_package_only_other_systems_need_is_left_out() -> None:
    text = pylock(("x", "1", "one")) + "marker = \"sys_platform == 'win32'\"\n"
    assert parse(text) == ()


def test_each_interpreter_and_machine_has_one_build_the_widest() -> None:
    names = [
        "demo-1.0-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "demo-1.0-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "demo-1.0-cp311-abi3-manylinux_2_34_x86_64.whl",
        "demo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "demo-1.0-cp312-cp312-musllinux_1_2_x86_64.whl",
        "demo-1.0-py3-none-any.whl",
    ]
    files = [
        {"name": name, "size": 1, "hashes": {"sha256": f"{number:064x}"}}
        for number, name in enumerate(names)
    ]
    package = {"name": "demo", "version": "1.0", "wheels": files}
    (wheel,) = parse(tomli_w.dumps({"packages": [package]}))
    assert [file.filename for file in wheel.files] == [
        "demo-1.0-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "demo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "demo-1.0-py3-none-any.whl",
    ]
