"""The relocatable Python: what is taken, what must be there, how its files are laid out."""

from __future__ import annotations

import pytest

from aibox.bundle.packages import python_folder
from aibox.bundle.packages.python_folder import EXPECTED, assemble, place, wish
from aibox.errors import Failed
from elf_maker import make_elf

LOADER = "ld-linux-x86-64.so.2"
SSL = ("libssl.so.3", "libcrypto.so.3")
ENSUREPIP = b"import os\n_WHEEL_PKG_DIR = sysconfig.get_config_var('WHEEL_PKG_DIR')\n"


def taken() -> dict[str, bytes]:
    libraries = {
        f"lib/shared/{name}": make_elf(soname=name)
        for name in (*EXPECTED, LOADER, "libunused.so.1")
    }
    return {
        **libraries,
        "lib/shared/libssl.so.3.0": make_elf(soname="libssl.so.3", needed=("libcrypto.so.3",)),
        "lib/shared/libcrypto.so.3": make_elf(soname="libcrypto.so.3", needed=("libz.so.1",)),
        "libexec/python3.11": make_elf(needed=("libc.so.6",), loader=f"/lib64/{LOADER}"),
        "lib/python3.11/lib-dynload/_ssl.so": make_elf(needed=("libssl.so.3",)),
        "lib/python3.11/os.py": b"# os",
        "lib/python3.11/ensurepip/__init__.py": ENSUREPIP,
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("usr/bin/python3.11", "libexec/python3.11"),
        ("usr/lib/python3.11/os.py", "lib/python3.11/os.py"),
        ("usr/lib/x86_64-linux-gnu/libssl.so.3", "lib/shared/libssl.so.3"),
        ("lib/x86_64-linux-gnu/libc.so.6", "lib/shared/libc.so.6"),
        (
            "usr/share/python-wheels/pip-1-py3-none-any.whl",
            "lib/python3.11/ensurepip/_bundled/pip-1-py3-none-any.whl",
        ),
        ("usr/share/doc/libc6/copyright", "share/doc/libc6/copyright"),
        ("usr/share/doc/x/examples/copyright", None),
        ("usr/lib/python3.11/test/support/__init__.py", None),
        ("usr/lib/python3.11/__pycache__/os.cpython-311.pyc", None),
        ("usr/lib/python3.11/sitecustomize.py", None),
        ("usr/lib/python3.11/lib-dynload/readline.cpython-311.so", None),
        ("usr/lib/python3.11/lib-dynload/_testcapi.cpython-311.so", None),
        ("usr/bin/perl", None),
        ("etc/passwd", None),
    ],
)
def test_what_is_needed_has_a_place(path: str, expected: str | None) -> None:
    assert place(path) == expected


def test_libraries_are_those_that_are_needed_by_the_names_they_are_asked_for() -> None:
    folder = assemble(taken(), "amd64")
    shared = {path for path in folder if path.startswith("lib/shared/")}
    assert shared == {f"lib/shared/{name}" for name in (*EXPECTED, LOADER, *SSL)}


def test_what_is_started_is_executable_and_nothing_else() -> None:
    folder = assemble(taken(), "amd64")
    assert {path for path, entry in folder.items() if entry.executable} == {
        *(f"bin/{name}" for name in ("python", "python3", "python3.11")),
        "libexec/python3.11",
        f"lib/shared/{LOADER}",
        "lib/python3.11/lib-dynload/_ssl.so",
    }
    assert LOADER in folder["bin/python3"].data.decode()
    assert "@" not in folder["bin/python3"].data.decode().replace('"$@"', "")


def test_ensurepip_takes_the_wheels_beside_it() -> None:
    data = assemble(taken(), "amd64")["lib/python3.11/ensurepip/__init__.py"].data
    assert b"os.path.dirname(__file__)" in data
    assert b"sysconfig" not in data


def without(path: str) -> dict[str, bytes]:
    return {name: data for name, data in taken().items() if name != path}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (without("lib/shared/libssl.so.3.0"), "libssl.so.3"),
        (without("lib/shared/libz.so.1"), "libz.so.1"),
        (without("lib/shared/libcrypto.so.3"), "libcrypto.so.3"),
        (without(f"lib/shared/{LOADER}"), LOADER),
        (without("libexec/python3.11"), "not those of python3.11"),
        (without("lib/python3.11/ensurepip/__init__.py"), "not those of python3.11"),
        (taken() | {"lib/python3.11/ensurepip/__init__.py": b"other"}, "ensurepip"),
        (taken() | {"lib/shared/libz.so.1": b"\x7fELF damaged"}, "damaged"),
        (taken() | {"lib/shared/libz.so.1": make_elf(machine=183)}, "arm64"),
    ],
)
def test_what_lacks_is_named_before_anybody_travels(files: dict[str, bytes], said: str) -> None:
    with pytest.raises(Failed) as refusal:
        assemble(files, "amd64")
    assert refusal.value.reference == "interpreter-incomplete"
    assert said in refusal.value.context


@pytest.mark.parametrize(
    ("architecture", "name"), [("amd64", "interpreter-x86-64"), ("arm64", "interpreter-aarch64")]
)
def test_there_is_a_wish_for_each_architecture(architecture: str, name: str) -> None:
    assert wish(architecture).name == name
    assert wish(architecture).target == python_folder.TARGET
