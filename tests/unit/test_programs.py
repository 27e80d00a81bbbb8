"""The command line in the box: unpacked from what is held, under one name, kept while needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aibox import programs, receiving
from aibox.box import program_link
from aibox.box.filesystem import Filesystem, Kind, Operation
from aibox.box.store import Store
from aibox.bundle import program as listings
from aibox.errors import Failed
from faults import KillWhen, in_a_process
from small_bundle import MACHINE, Parts, SmallBundle, Supplier
from small_site import SmallSite, ends_with_a_command

CHANGED = Parts(sequence=2, program={"launcher/bundle.sh": b"# other parts\n"})


@pytest.fixture
def box(site: SmallSite, supplier: Supplier) -> SmallSite:
    return site.trusting(supplier)


def name_of(bundle: SmallBundle) -> str:
    return listings.program_id((bundle.folder / listings.TEXT).read_bytes())


def ensure(box: SmallSite, bundle: SmallBundle, store: Store | None = None) -> str:
    """Have the bundle's program in the box, whose store holds its objects."""
    with box.receiving(bundle.folder) as received:
        return programs.ensure(
            store or box.store,
            received.program,
            MACHINE,
            receiving.first_steps(received),
            box.report,
        )


def staged(box: SmallSite, supplier: Supplier, name: str, parts: Parts) -> SmallBundle:
    bundle = supplier.bundle(name, parts)
    box.stage(bundle.folder)
    return bundle


def folders(box: SmallSite) -> set[str]:
    path = box.root / program_link.PROGRAMS
    return {entry.name for entry in path.iterdir()} if path.exists() else set()


def nothing_left(box: SmallSite) -> bool:
    layout = box.store.layout
    return [path for path in layout.staging.iterdir() if path != layout.parts] == []


# -- unpacked -----------------------------------------------------------------------------------


def test_the_program_is_unpacked_from_the_store_when_the_medium_is_gone(
    box: SmallSite, supplier: Supplier
) -> None:
    bundle = staged(box, supplier, "one", Parts())
    with box.receiving(bundle.folder) as received:
        listing, steps = received.program, receiving.first_steps(received)
    bundle.folder.rename(box.root.with_name("in a pocket"))
    name = programs.ensure(box.store, listing, MACHINE, steps, box.report)
    folder = box.root / "programs" / name
    for path, (data, executable) in bundle.gathered.program.items():
        assert (folder / path).read_bytes() == data
        assert os.access(folder / path, os.X_OK) is executable
    wheel = listing.wheels[0]
    assert (folder / wheel.path).read_bytes() == bundle.objects[wheel.sha256]
    assert name == listings.program_id(steps[listings.TEXT])
    assert program_link.link(box.root).resolve() == folder / "aibox"
    assert nothing_left(box)
    assert "[program] aibox of a test" in box.said


def test_a_program_that_is_there_is_not_unpacked_again(box: SmallSite, supplier: Supplier) -> None:
    bundle = staged(box, supplier, "one", Parts())
    name = ensure(box, bundle)
    stamp = (box.root / "programs" / name / "aibox").stat().st_mtime_ns
    box.said.clear()
    assert ensure(box, bundle) == name
    assert (box.root / "programs" / name / "aibox").stat().st_mtime_ns == stamp
    assert not any("unpacking" in line for line in box.said)


def test_an_unpacking_that_was_interrupted_is_done_again(
    box: SmallSite, supplier: Supplier
) -> None:
    """The launcher writes program.txt last: a folder without it, or with another, is not whole."""
    bundle = staged(box, supplier, "one", Parts())
    half = box.root / "programs" / name_of(bundle)
    (half / "launcher").mkdir(parents=True)
    (half / "launcher/bundle.sh").write_bytes(b"# half of")
    view = box.store.layout.staging / "program"
    (view / "blobs").mkdir(parents=True)
    ensure(box, bundle)
    assert (half / "launcher/bundle.sh").read_bytes() == b"# parts of it\n"
    (half / listings.TEXT).write_bytes(b"another\n")
    (half / "aibox").unlink()
    ensure(box, bundle)
    assert (half / "aibox").exists()
    assert nothing_left(box)


def test_the_blobs_are_neither_copied_nor_changed(box: SmallSite, supplier: Supplier) -> None:
    bundle = staged(box, supplier, "one", Parts())
    before = {path: path.stat() for path in box.store.layout.blobs.rglob("*") if path.is_file()}
    ensure(box, bundle)
    for path, known in before.items():
        now = path.stat()
        assert (now.st_ino, now.st_nlink, now.st_mode) == (
            known.st_ino,
            known.st_nlink,
            known.st_mode,
        )
        assert now.st_mtime_ns == known.st_mtime_ns


def test_the_interpreter_for_this_machine_comes_along(box: SmallSite, supplier: Supplier) -> None:
    """A double that only unpacks when the interpreter lies beside it."""
    script = b"""\
#!/bin/sh
set -e
view=$(dirname -- "$0")
read -r _ _ sha256 _ <<END
$(grep ^interpreter "$view/program.txt")
END
folder=$AIBOX_HOME/programs/$(sha256sum <"$view/program.txt" | cut -c -16)
mkdir -p "$folder"
cp "$view/blobs/sha256/$sha256" "$view/program.txt" "$folder"
"""
    parts = Parts(interpreter=b"a tar", program={"aibox": script})
    bundle = staged(box, supplier, "one", parts)
    name = ensure(box, bundle)
    tar = bundle.gathered.listing.interpreters[MACHINE].sha256
    assert (box.root / "programs" / name / tar).read_bytes() == b"a tar"


# -- what does not work -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (b"#!/bin/sh\necho 'no Python will do' >&2\nexit 3\n", "no Python will do"),
        (b"#!/bin/sh\nexit 3\n", "it ended with status 3"),
        (b"#!/bin/sh\nexit 0\n", "unpacked nothing"),
    ],
)
def test_a_program_that_does_not_start_here_is_a_failure_and_is_not_meant(
    box: SmallSite, supplier: Supplier, script: bytes, said: str
) -> None:
    first = staged(box, supplier, "one", Parts())
    ensure(box, first)
    broken = staged(box, supplier, "two", Parts(sequence=2, program={"aibox": script}))
    with pytest.raises(Failed) as caught:
        ensure(box, broken)
    assert caught.value.reference == "program-not-unpacked"
    assert said in caught.value.context
    assert ends_with_a_command(caught.value)
    assert program_link.linked(box.root) == name_of(first)
    assert nothing_left(box)


def test_a_kill_before_the_link_is_replaced_leaves_the_one_before(
    box: SmallSite, supplier: Supplier
) -> None:
    first, second = staged(box, supplier, "one", Parts()), staged(box, supplier, "two", CHANGED)
    ensure(box, first)

    def is_link(operation: Operation) -> bool:
        return operation.kind is Kind.RENAME and operation.path == program_link.link(box.root)

    store = Store(box.root, Filesystem(KillWhen(is_link)))
    assert in_a_process(lambda: ensure(box, second, store)) == -9
    assert program_link.linked(box.root) == name_of(first)
    assert ensure(box, second) == name_of(second) == program_link.linked(box.root)


# -- kept while needed --------------------------------------------------------------------------


def environment(box: SmallSite, name: str, interpreter: Path) -> None:
    """An environment whose Python is that one."""
    path = box.root / "environments" / name / "bin/python"
    path.parent.mkdir(parents=True)
    path.symlink_to(interpreter)


def program(box: SmallSite, name: str) -> Path:
    """A folder as the launcher leaves one; its interpreter."""
    python = box.root / "programs" / name / "interpreter/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text("")
    return python


def test_what_nothing_needs_is_removed(place: Path) -> None:
    box = SmallSite(place / "box")
    store = box.begin()
    interpreters = {name: program(box, name) for name in ("linked", "running", "used", "gone")}
    program_link.point_to(Filesystem(), box.root, "linked")
    environment(box, "e1", interpreters["used"].resolve())
    environment(box, "e2", Path("/usr/bin/python3"))
    (box.root / "environments/e3").mkdir()
    assert programs.sweep(store, "running") == 1
    assert folders(box) == {"linked", "running", "used"}
    assert programs.sweep(store, None) == 1
    assert folders(box) == {"linked", "used"}


def test_an_interpreter_in_use_is_found_where_the_box_is_reached_by_a_link(place: Path) -> None:
    """What an environment links to was resolved; the root that people name need not be."""
    (place / "disk").mkdir()
    (place / "srv").symlink_to(place / "disk")
    box = SmallSite(place / "srv/box")
    store = box.begin()
    used = program(box, "used")
    environment(box, "e1", used.resolve())
    assert programs.sweep(store, None) == 0
    assert folders(box) == {"used"}


def test_a_box_without_programs_has_nothing_to_remove(place: Path) -> None:
    assert programs.sweep(SmallSite(place / "box").begin(), None) == 0
