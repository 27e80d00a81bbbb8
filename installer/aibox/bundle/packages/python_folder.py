"""A relocatable Python put together from a distribution's own packages.

::

    bin/python3 …         starts the loader below with the library folder below
    libexec/python3.11    the interpreter
    lib/shared/           the dynamic loader and every library that anything here needs
    lib/python3.11/       the standard library; pip and setuptools as ensurepip wants them
    share/doc/            the copyright file of every package

Nothing here touches a disk: members of packages go in, files of the folder come out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aibox.bundle.packages import elf
from aibox.errors import Failed, Fault
from aibox.pins import PackageFormat
from aibox.profile import PackagesWish

VERSION = "3.11"
PYTHON = f"python{VERSION}"
NAMES = ("python", "python3", PYTHON)
SHARED = "lib/shared"
LIBRARY = f"lib/{PYTHON}"
START = Path(__file__).with_name("python_start.sh")
AGAIN = "./aibox lock"

# The release whose Python is the oldest that this program runs on; wheels for hosts expect the
# C++ library and its like of any system (the manylinux standards).
TARGET = "debian-12"
WANTED = (f"{PYTHON}-venv", "libstdc++6")
EXPECTED = (
    *("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1"),
    *("libresolv.so.2", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", "libexpat.so.1"),
)
ARCHITECTURES = {"amd64": "x86-64", "arm64": "aarch64"}

_LEFT_OUT = frozenset(
    {"test", "idlelib", "turtledemo", "lib2to3", "tkinter", "pydoc_data", "__pycache__"}
)
# Tests of the interpreter itself, and modules for terminals, old databases, sound cards and NIS,
# whose libraries would have to come along.
_LEFT_OUT_MODULES = (
    *("_test", "_xxtest", "xxlimited", "_ctypes_test", "_xxsubinterpreters"),
    *("readline", "_curses", "_dbm", "_gdbm", "nis", "ossaudiodev"),
)
_LIBRARIES = ("lib/", "usr/lib/", "lib64/", "usr/lib64/")
_WHEELS = "usr/share/python-wheels/"
_COPYRIGHT = re.compile(r"usr/share/doc/[^/]+/copyright")
_ENSUREPIP = f"{LIBRARY}/ensurepip/__init__.py"
_WHEEL_FOLDER = (
    b"_WHEEL_PKG_DIR = sysconfig.get_config_var('WHEEL_PKG_DIR')",
    b"_WHEEL_PKG_DIR = os.path.join(os.path.dirname(__file__), '_bundled')",
)


@dataclass(frozen=True)
class Entry:
    """A file of the folder."""

    data: bytes
    executable: bool = False


def wish(architecture: str) -> PackagesWish:
    """What to resolve for it (`amd64`, `arm64`); only dependencies, no base system."""
    return PackagesWish(
        name=f"interpreter-{ARCHITECTURES[architecture]}",
        format=PackageFormat.DEB,
        target=TARGET,
        wanted=WANTED,
    )


def place(path: str) -> str | None:
    """Where a file of a package goes in the folder, or None when it stays behind."""
    if path == f"usr/bin/{PYTHON}":
        return f"libexec/{PYTHON}"
    if path.startswith(_WHEELS):
        return f"{LIBRARY}/ensurepip/_bundled/{PurePosixPath(path).name}"
    if _COPYRIGHT.fullmatch(path):
        return path.removeprefix("usr/")
    if path.startswith(f"usr/{LIBRARY}/"):
        return _library_place(path.removeprefix("usr/"))
    name = PurePosixPath(path).name
    if path.startswith(_LIBRARIES) and (".so." in name or name.endswith(".so")):
        return f"{SHARED}/{name}"
    return None


def _library_place(path: str) -> str | None:
    parts = path.split("/")
    if _LEFT_OUT & set(parts) or parts[-1] == "sitecustomize.py":
        return None
    if parts[2] == "lib-dynload" and parts[-1].startswith(_LEFT_OUT_MODULES):
        return None
    return path


def assemble(taken: Mapping[str, bytes], architecture: str) -> dict[str, Entry]:
    """The folder from the files that `place` chose; libraries under the names they are asked for.

    Raises `Failed` (`interpreter-incomplete`) when anything needs a library that is not there, or
    the packages are not those of `wish`.
    """
    libraries = _by_soname(taken, architecture)
    programs = {path: data for path, data in taken.items() if not path.startswith(f"{SHARED}/")}
    binaries = {path: _elf(path, data) for path, data in programs.items() if data[:4] == elf.MAGIC}
    python = binaries.get(f"libexec/{PYTHON}")
    if python is None or not python.loader or _ENSUREPIP not in programs:
        raise _incomplete(f"the packages are not those of {PYTHON} with its venv")
    loader = PurePosixPath(python.loader).name
    wanted = {loader, *EXPECTED, *(name for item in binaries.values() for name in item.needed)}
    folder = {path: Entry(data, path in binaries) for path, data in programs.items()}
    for soname, data in _closure(wanted, libraries).items():
        folder[f"{SHARED}/{soname}"] = Entry(data, executable=soname == loader)
    folder[_ENSUREPIP] = Entry(_with_own_wheels(programs[_ENSUREPIP]))
    start = (
        START.read_text(encoding="utf-8").replace("@PYTHON@", PYTHON).replace("@LOADER@", loader)
    )
    return folder | {f"bin/{name}": Entry(start.encode(), executable=True) for name in NAMES}


def _by_soname(taken: Mapping[str, bytes], architecture: str) -> dict[str, bytes]:
    found = {}
    for path, data in taken.items():
        if path.startswith(f"{SHARED}/") and data[:4] == elf.MAGIC:
            library = _elf(path, data)
            if library.architecture != architecture:
                raise _incomplete(f"{path} is for {library.architecture}, not {architecture}")
            found[library.soname or PurePosixPath(path).name] = data
    return found


def _closure(wanted: Collection[str], libraries: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every wanted library and all that they need in turn, by the name it is asked for."""
    found: dict[str, bytes] = {}
    ahead = sorted(wanted)
    while ahead:
        name = ahead.pop()
        if name in found:
            continue
        if name not in libraries:
            raise _incomplete(f"no package has {name}")
        found[name] = libraries[name]
        ahead += _elf(name, libraries[name]).needed
    return found


def _elf(path: str, data: bytes) -> elf.Elf:
    try:
        return elf.read(data)
    except elf.NotElf as error:
        raise _incomplete(f"{path} is damaged: {error}") from error


def _with_own_wheels(source: bytes) -> bytes:
    """ensurepip of Debian looks for pip's wheel in the system; ours lies beside it."""
    if source.count(_WHEEL_FOLDER[0]) != 1:
        raise _incomplete("its ensurepip is not the one this program knows")
    return source.replace(*_WHEEL_FOLDER)


def _incomplete(facts: str) -> Failed:
    return Failed(
        "interpreter-incomplete",
        "no Python for hosts with an older one can be made from the locked packages",
        context=facts,
        hint=f"resolve the packages of the interpreter anew: {AGAIN}",
        fault=Fault.UPSTREAM,
    )
