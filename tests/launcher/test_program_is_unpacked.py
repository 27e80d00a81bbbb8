"""launcher/unpack_program.py: killed, doubled, deceived, without room, and right the next time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import unpack_program
from bundle_doubles import REPOSITORY, write_bundle
from medium import Medium
from program_text import FIRST_LINE, ProgramFile, parse
from refusal import Refused
from wheel_maker import make_wheel

BIG = "stacks/big file.bin"
FILES = {
    "aibox": (b"#!/bin/sh\n", True),
    "models.lock": (b"version = 1\n", False),
    "docs/manual/ko/설치 안내.md": ("설치\n".encode(), False),
    "stacks/empty": (b"", False),
    BIG: (bytes(range(256)) * 20_000, False),
}


class Unpacking:
    """A bundle, and the folder that its program goes to."""

    def __init__(self, base: Path) -> None:
        self.bundle, self.folder = base / "bundle", base / "box" / "program"
        self.folder.mkdir(parents=True)
        write_bundle(self.bundle, FILES, [make_wheel(base, {"tiny.py": b""}, name="tiny")])
        self.text = (self.bundle / "program.txt").read_bytes()
        self.digest = hashlib.sha256(self.text).hexdigest()

    def __call__(self) -> int:
        return unpack_program.main(self.bundle, self.folder, self.digest)

    def files(self) -> tuple[ProgramFile, ...]:
        return parse(self.text)

    def blob(self, path: str) -> Path:
        (digest,) = (file.sha256 for file in self.files() if file.path == path)
        return self.bundle / "blobs" / "sha256" / digest

    def start(self, before: str = "", **options: object) -> subprocess.Popen[bytes]:
        """In a process of its own; `before` is Python that runs first."""
        call = f"unpack_program.main(Path({str(self.bundle)!r}), Path({str(self.folder)!r}), "
        script = (
            f"import os, signal, sys\nfrom pathlib import Path\nimport unpack_program\n{before}\n"
            f"sys.exit({call}{self.digest!r}))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "launcher")},
            stderr=subprocess.DEVNULL,
            **options,  # type: ignore[call-overload]
        )

    def is_right(self) -> bool:
        """Everything is there with its bytes and mode, and nothing else."""
        found = {
            str(path.relative_to(self.folder)): path
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        found.pop("program.lock", None)
        stamp = found.pop("program.txt")
        return stamp.read_bytes() == self.text and {
            name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mode & 0o7777)
            for name, path in found.items()
        } == {file.path: (file.sha256, file.mode) for file in self.files()}


@pytest.fixture
def unpack(tmp_path: Path) -> Unpacking:
    return Unpacking(tmp_path)


def test_everything_is_there_afterwards(unpack: Unpacking) -> None:
    assert unpack() == 0
    assert unpack.is_right()


def test_the_launcher_comes_last(unpack: Unpacking) -> None:
    assert unpack.files()[-1].path == "aibox"


KILL_AT_RENAME = """
real, left = Path.rename, [{count}]
def rename(*arguments):
    left[0] -= 1
    if left[0] == 0 and {early}: os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments)
    if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)
Path.rename = rename
"""


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
def test_a_kill_at_any_file_is_repaired_by_the_next_run(unpack: Unpacking, early: bool) -> None:
    renames = len(unpack.files()) + 1
    for count in range(1, renames + 1):
        killed = unpack.start(KILL_AT_RENAME.format(count=count, early=early))
        assert killed.wait(60) == -signal.SIGKILL
        whole = (unpack.folder / "program.txt").exists()
        assert whole is (count == renames and not early)
        assert unpack() == 0
        assert unpack.is_right()
        shutil.rmtree(unpack.folder)
        unpack.folder.mkdir()


def test_a_kill_within_a_file_leaves_no_half_a_file_under_its_name(unpack: Unpacking) -> None:
    at_a_block = (
        "import medium\nreal = medium.Medium.blocks\n"
        "def blocks(self, wanted):\n"
        "    for block in real(self, wanted):\n"
        "        yield block\n"
        "        if wanted.size > 5_000_000: os.kill(os.getpid(), signal.SIGKILL)\n"
        "medium.Medium.blocks = blocks\n"
    )
    assert unpack.start(at_a_block).wait(60) == -signal.SIGKILL
    assert (unpack.folder / "program.partial").exists()
    assert not (unpack.folder / BIG).exists()
    assert unpack() == 0
    assert unpack.is_right()


def test_two_at_once_unpack_it_once(unpack: Unpacking) -> None:
    both = [unpack.start(), unpack.start()]
    assert [process.wait(60) for process in both] == [0, 0]
    assert unpack.is_right()


def test_the_second_waits_and_says_for_whom(
    unpack: Unpacking, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = os.open(unpack.folder / "program.lock", os.O_RDWR | os.O_CREAT)
    os.write(held, b"4711")
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr("sole.time.sleep", lambda _: os.close(held))
    assert unpack() == 0
    assert "waiting for process 4711, which unpacks the program" in capsys.readouterr().err


def test_what_is_whole_is_not_looked_at_again(unpack: Unpacking) -> None:
    assert unpack() == 0
    (unpack.folder / BIG).write_bytes(b"changed by somebody")
    assert unpack() == 0
    assert (unpack.folder / BIG).read_bytes() == b"changed by somebody"


def test_the_stamp_of_another_program_is_taken_away_first(unpack: Unpacking) -> None:
    (unpack.folder / "program.txt").write_text("of another one")
    unpack.blob(BIG).unlink()
    assert unpack() == 4
    assert not (unpack.folder / "program.txt").exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [flip, lambda path: path.write_bytes(b""), lambda path: path.chmod(0o777), Path.unlink],
    ids=["flipped", "emptied", "mode", "gone"],
)
def test_without_its_stamp_what_is_damaged_is_replaced_and_the_rest_stays(
    unpack: Unpacking, harm: Callable[[Path], object]
) -> None:
    assert unpack() == 0
    (unpack.folder / "program.txt").unlink()
    sound = (unpack.folder / "models.lock").stat().st_ino
    harm(unpack.folder / BIG)
    assert unpack() == 0
    assert unpack.is_right()
    assert (unpack.folder / "models.lock").stat().st_ino == sound


@pytest.mark.parametrize("path", [file for file in FILES if file != "stacks/empty"])
@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (flip, "context: other bytes"),
        (lambda blob: os.truncate(blob, 1), "context: 1 of {} bytes"),
        (lambda blob: blob.write_bytes(blob.read_bytes() * 2), "context: more than {} bytes"),
    ],
    ids=["flipped", "cut", "longer"],
)
def test_a_blob_that_is_not_what_it_should_be_is_refused(
    unpack: Unpacking,
    capsys: pytest.CaptureFixture[str],
    path: str,
    harm: Callable[[Path], object],
    told: str,
) -> None:
    harm(unpack.blob(path))
    assert unpack() == 4
    said = capsys.readouterr().err
    assert "error[bundle-damaged]" in said
    assert told.format(len(FILES[path][0])) in said
    assert unpack.blob(path).name in said
    assert not (unpack.folder / path).exists()
    assert not (unpack.folder / "program.txt").exists()
    assert not (unpack.folder / "program.partial").exists()
    write_back(unpack, path)
    assert unpack() == 0


def write_back(unpack: Unpacking, path: str) -> None:
    unpack.blob(path).write_bytes(FILES[path][0])


def test_a_text_that_changes_while_it_is_read_is_refused(
    unpack: Unpacking, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(unpack.bundle / "program.txt")
    assert unpack() == 4
    assert "error[bundle-damaged]" in capsys.readouterr().err


@pytest.mark.parametrize("instead", ["nothing", "link", "pipe", "folder"])
def test_a_blob_that_is_no_file_is_missing(
    unpack: Unpacking, capsys: pytest.CaptureFixture[str], instead: str
) -> None:
    blob = unpack.blob(BIG)
    blob.rename(blob.with_name("elsewhere"))
    match instead:
        case "link":
            blob.symlink_to("elsewhere")
        case "pipe":
            os.mkfifo(blob)
        case "folder":
            blob.mkdir()
    assert unpack() == 4
    said = capsys.readouterr().err
    assert "error[bundle-incomplete]: 1 files" in said
    assert BIG in said


def test_the_volume_that_holds_it_is_named_and_can_be_brought_afterwards(
    unpack: Unpacking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = tmp_path / "second volume"
    shutil.copytree(unpack.bundle, second)
    lacking = unpack.blob(BIG).name
    unpack.blob(BIG).unlink()
    (second / "blobs" / "sha256" / unpack.blob("models.lock").name).unlink()
    label = f'{{"volumes": [{{"blobs": []}}, {{"blobs": ["{lacking}"]}}]}}'
    (unpack.bundle / "volume.json").write_text(label)
    assert unpack() == 4
    assert "bring volume 2, and start it from there" in capsys.readouterr().err
    unpack.bundle = second
    assert unpack() == 0
    assert unpack.is_right()


@pytest.mark.parametrize("label", ["", "[]", "{", '{"volumes": 7}', "[" * 100_000])
def test_a_label_that_cannot_be_read_names_no_volume(
    unpack: Unpacking, capsys: pytest.CaptureFixture[str], label: str
) -> None:
    unpack.blob(BIG).unlink()
    (unpack.bundle / "volume.json").write_text(label)
    assert unpack() == 4
    assert "copy the bundle again" in capsys.readouterr().err


def test_a_medium_that_is_pulled_out_is_not_called_damaged(unpack: Unpacking) -> None:
    medium = Medium(unpack.bundle, "sh aibox")
    shutil.rmtree(unpack.bundle)
    with pytest.raises(Refused) as caught:
        list(medium.blocks(unpack.files()[0]))
    assert (caught.value.reference, caught.value.exit_code) == ("medium-unreadable", 1)


def test_a_full_disk_is_told_and_the_next_run_goes_on(unpack: Unpacking) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    assert unpack.start(preexec_fn=little_room).wait(60) == 3
    assert not (unpack.folder / "program.partial").exists()
    assert unpack() == 0
    assert unpack.is_right()


def test_too_little_room_is_told_before_the_first_byte(
    unpack: Unpacking, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room = namedtuple("room", "f_bavail f_frsize")
    monkeypatch.setattr(os, "statvfs", lambda _: room(16 << 20, 1))
    assert unpack() == 3
    assert "error[disk-full]" in capsys.readouterr().err
    assert not (unpack.folder / "models.lock").exists()


def test_a_place_that_cannot_be_written_is_named(
    unpack: Unpacking, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fchmod", read_only)
    assert unpack() == 3
    said = capsys.readouterr().err
    assert "error[program-not-writable]" in said
    assert "AIBOX_HOME=/path/of/the/box sh " in said.splitlines()[-1]


HOSTILE_PATHS = ("/etc/passwd", "../outside", "a/../../b", "a//b", "a/", ".", "a/./b", "a\\b", "")


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    line = f"file 644 {'0' * 64} 1 {path}"
    with pytest.raises(Refused, match="not one that this version can read"):
        parse(f"{FIRST_LINE}\n{line}\n".encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aibox-program 2\n",
        f"{FIRST_LINE}\nfile 4755 {'0' * 64} 1 a\n",
        f"{FIRST_LINE}\nfile 644 {'0' * 63} 1 a\n",
        f"{FIRST_LINE}\nfile 644 {'0' * 64} -1 a\n",
        f"{FIRST_LINE}\nfile 644 {'0' * 64} 1 a\nfile 644 {'1' * 64} 1 a\n",
        f"{FIRST_LINE}\nlink a b\n",
        f"{FIRST_LINE}\n\n",
    ],
)
def test_a_text_that_is_not_as_described_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse(text.encode())


@given(st.binary())
def test_any_bytes_are_read_or_refused(junk: bytes) -> None:
    for text in (junk, FIRST_LINE.encode() + b"\n" + junk):
        try:
            parse(text)
        except Refused as refused:
            assert refused.exit_code == 4
