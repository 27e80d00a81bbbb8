"""The command line as a bundle carries it: what starts it lies open, the rest are blobs.

Open are the files that run before anything of ours could be asked whether they may::

    aibox launcher/*      the launcher, the same as in a checkout
    program.txt           the program for a reader without a JSON parser (sh); read by launcher/
    bootstrap.sha256      the digests of the above, for `sha256sum -c`

All of them are named in the signed manifest, so that whoever received a bundle can check them with
ssh-keygen and sha256sum alone. `program.txt` is UTF-8, one fact in a line, `file` lines last::

    aibox-program 1
    python VERSION ARCHITECTURE                  the wheels fit Python VERSION there
    interpreter ARCHITECTURE SHA256 BYTES        a tar whose bin/python3 runs there
    file MODE SHA256 BYTES PATH                  mode 644 or 755, path below the program's folder

Every file of the listing is a blob, the open ones too: unpacking reads nothing but blobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aibox import digest
from aibox.bundle.manifest import ProgramFile, ProgramListing
from aibox.pins import Blob

TEXT = "program.txt"
SUMS = "bootstrap.sha256"
LAUNCHER = "aibox"
LAUNCHER_PARTS = "launcher/"
WHEELS = "bundled-wheels/"

_ID_DIGITS = 16
_FORMAT = 1

Files = Mapping[str, tuple[bytes, bool]]
"""Path -> (bytes, whether it is executable)."""


def listing(
    files: Files, wheels: Mapping[str, Blob], interpreters: Mapping[str, Blob]
) -> ProgramListing:
    """The program of these files.

    Args:
        files: the project's own files by path.
        wheels: the command line's packages by file name.
        interpreters: a tar per architecture (`x86_64`), where there is one.
    """
    return ProgramListing(
        format=_FORMAT,
        files=tuple(
            ProgramFile(
                path=path, executable=executable, sha256=digest.of_bytes(data), size=len(data)
            )
            for path, (data, executable) in sorted(files.items())
        ),
        wheels=tuple(
            ProgramFile(path=WHEELS + name, sha256=wheel.sha256, size=wheel.size)
            for name, wheel in sorted(wheels.items())
        ),
        interpreters=dict(sorted(interpreters.items())),
    )


def digests(program: ProgramListing) -> set[str]:
    """Every object of the program, the interpreters included."""
    files = {file.sha256 for file in (*program.files, *program.wheels)}
    return files | {tar.sha256 for tar in program.interpreters.values()}


def open_files(files: Files) -> Files:
    """Those of the program's files that lie open in a bundle."""
    return {
        path: file
        for path, file in files.items()
        if path == LAUNCHER or path.startswith(LAUNCHER_PARTS)
    }


def program_text(
    program: ProgramListing, pythons: Iterable[str], architectures: Iterable[str]
) -> bytes:
    """program.txt. `pythons` (`3.11`) and `architectures` are what the wheels fit, all with all."""
    fitting = [(python, machine) for machine in architectures for python in pythons]
    lines = [
        f"aibox-program {_FORMAT}",
        *(f"python {python} {machine}" for python, machine in fitting),
        *(
            f"interpreter {machine} {tar.sha256} {tar.size}"
            for machine, tar in program.interpreters.items()
        ),
        *map(_file_line, sorted((*program.wheels, *program.files), key=_launcher_last)),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def program_id(text: bytes) -> str:
    """The name of the program's folder in a box, by its program.txt.

    Shortened, to keep paths short. Nothing relies on it: the whole text is compared.
    """
    return digest.of_bytes(text)[:_ID_DIGITS]


def bootstrap_sums(files: Mapping[str, bytes]) -> bytes:
    """bootstrap.sha256 over these files, in the form of `sha256sum -c`."""
    return "".join(
        f"{digest.of_bytes(data)}  {path}\n" for path, data in sorted(files.items())
    ).encode()


def first_steps(
    files: Files, program: ProgramListing, pythons: Iterable[str], architectures: Iterable[str]
) -> Files:
    """Everything that lies open for the first steps of a bundle; all of it goes into `targets`."""
    text = program_text(program, pythons, architectures)
    checked = {**open_files(files), TEXT: (text, False)}
    sums = bootstrap_sums({path: data for path, (data, _) in checked.items()})
    return {**checked, SUMS: (sums, False)}


def _file_line(file: ProgramFile) -> str:
    mode = "755" if file.executable else "644"
    return f"file {mode} {file.sha256} {file.size} {file.path}"


def _launcher_last(file: ProgramFile) -> tuple[bool, str]:
    """A folder that can be started holds everything else already."""
    return file.path == LAUNCHER, file.path
