"""What an engine compiled, carried to another box: whole, where it fits, and nothing but files."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.box import compiled
from aibox.box.filesystem import Filesystem
from aibox.errors import Failed

FOLDER = "chat-0123456789abcdef"
HERE = ("NVIDIA A100 80GB", "processor 00")


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


class Boxes:
    """One that compiled, and one that has not yet."""

    def __init__(self, folder: Path) -> None:
        self.made = folder / "one/cache" / FOLDER
        self.made.mkdir(parents=True)
        self.archive = folder / "compiled.tar"
        self.staging = folder / "other/staging"
        self.staging.mkdir(parents=True)
        self.target = folder / "other/cache" / FOLDER

    def place(self, hardware: tuple[str, ...] = HERE) -> str:
        return compiled.place(Filesystem(), self.archive, self.target, self.staging, hardware)

    def nothing_is_left(self) -> bool:
        return not self.target.exists() and not list(self.staging.iterdir())


@pytest.fixture
def boxes(tmp_path: Path) -> Boxes:
    return Boxes(tmp_path)


def label(folder: str = FOLDER, hardware: tuple[str, ...] = HERE, version: int = 1) -> bytes:
    return json.dumps({"version": version, "folder": folder, "hardware": hardware}).encode()


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes], head: bytes | None = None) -> None:
    with tarfile.open(path, "w") as made:
        for member, data in ((named(compiled.LABEL), label() if head is None else head), *members):
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))


def named(name: str, kind: bytes = tarfile.REGTYPE, leads_to: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, leads_to
    return member


NAMES = st.text("abc.", min_size=1, max_size=6).filter(lambda name: name.strip("."))
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "d/" * (len(parts) - 1) + parts[0]),
    st.binary(max_size=50),
    max_size=6,
)


@given(TREES)
def test_it_arrives_as_it_was_and_twice_the_same(tree: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        boxes = Boxes(Path(folder))
        for name, data in tree.items():
            if (boxes.made / name).is_dir():
                continue
            (boxes.made / name).parent.mkdir(parents=True, exist_ok=True)
            (boxes.made / name).write_bytes(data)
        compiled.pack(boxes.made, HERE, boxes.archive)
        compiled.pack(boxes.made, HERE, boxes.archive.with_name("again.tar"))
        assert boxes.archive.read_bytes() == boxes.archive.with_name("again.tar").read_bytes()
        assert boxes.place() == ""
        assert content(boxes.target) == content(boxes.made)
        assert not list(boxes.staging.iterdir())


def test_links_and_notes_of_ours_stay_behind(boxes: Boxes) -> None:
    (boxes.made / "kernel.so").write_bytes(b"x")
    (boxes.made / "stalls.json").write_bytes(b"[1]")
    (boxes.made / "link").symlink_to("/etc/passwd")
    assert compiled.pack(boxes.made, HERE, boxes.archive) == 1
    assert boxes.place() == ""
    assert content(boxes.target) == {"kernel.so": b"x"}


def test_a_folder_that_was_given_and_not_used_is_filled(boxes: Boxes) -> None:
    (boxes.made / "kernel.so").write_bytes(b"x")
    compiled.pack(boxes.made, HERE, boxes.archive)
    boxes.target.mkdir(parents=True)
    assert boxes.place() == ""
    assert content(boxes.target) == {"kernel.so": b"x"}


def test_what_was_compiled_here_stays(boxes: Boxes) -> None:
    compiled.pack(boxes.made, HERE, boxes.archive)
    boxes.target.mkdir(parents=True)
    (boxes.target / "own").write_bytes(b"mine")
    assert boxes.place() == ""
    assert content(boxes.target) == {"own": b"mine"}


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (label(folder="chat-fedcba9876543210"), "another image, model or arguments"),
        (label(hardware=("NVIDIA L40S", "processor 00")), "it was made on NVIDIA L40S"),
        (label(hardware=("NVIDIA A100 80GB", "processor 01")), "here is NVIDIA A100 80GB"),
        (label(version=2), "version 2"),
        (b"{}", "does not say what it was made for"),
        (b"\xff", "does not say what it was made for"),
    ],
)
def test_what_does_not_fit_is_not_taken_and_the_reason_told(
    boxes: Boxes, head: bytes, reason: str
) -> None:
    archive(boxes.archive, (named("kernel.so"), b"x"), head=head)
    assert reason in boxes.place()
    assert boxes.nothing_is_left()


@pytest.mark.parametrize(
    "member",
    [
        named("../out"),
        named("/etc/out"),
        named("a/../../out"),
        named("link", tarfile.SYMTYPE, "/etc/passwd"),
        named("link", tarfile.LNKTYPE, compiled.LABEL),
        named("device", tarfile.CHRTYPE),
        named("pipe", tarfile.FIFOTYPE),
        named("x" * 600),
    ],
)
def test_nothing_but_plain_files_below_the_folder(boxes: Boxes, member: tarfile.TarInfo) -> None:
    archive(boxes.archive, (named("kernel.so"), b"x"), (member, b""))
    assert "is no archive of ours" in boxes.place()
    assert boxes.nothing_is_left()
    assert not (boxes.target.parent / "out").exists()


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("harm", [_cut, lambda _: b"", lambda _: b"no archive" * 100])
def test_a_damaged_archive_leaves_nothing(boxes: Boxes, harm: Callable[[bytes], bytes]) -> None:
    (boxes.made / "kernel.so").write_bytes(bytes(100_000))
    compiled.pack(boxes.made, HERE, boxes.archive)
    boxes.archive.write_bytes(harm(boxes.archive.read_bytes()))
    assert boxes.place()
    assert boxes.nothing_is_left()


def test_too_much_is_refused(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST_BYTES", 10)
    archive(boxes.archive, (named("kernel.so"), bytes(11)))
    assert "larger than anything" in boxes.place()
    assert boxes.nothing_is_left()


def test_a_file_that_is_there_is_never_written_over(boxes: Boxes) -> None:
    boxes.archive.write_bytes(b"mine")
    with pytest.raises(Failed) as failed:
        compiled.pack(boxes.made, HERE, boxes.archive)
    assert failed.value.reference == "compiled-not-written"
    assert boxes.archive.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["a.tar/below a file", "x" * 300])
def test_a_place_where_no_file_can_be_is_told(boxes: Boxes, name: str) -> None:
    boxes.archive.with_name("a.tar").write_bytes(b"mine")
    with pytest.raises(Failed) as failed:
        compiled.pack(boxes.made, HERE, boxes.archive.with_name("a.tar").parent / name)
    assert failed.value.reference == "compiled-not-written"


def test_the_processor_is_one_digest() -> None:
    assert compiled.processor() == compiled.processor()
    assert len(compiled.processor()) == len("processor ") + 16
