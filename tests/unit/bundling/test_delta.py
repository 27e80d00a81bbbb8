"""A bundle against what a box holds."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox import bundling, digest
from aibox.bundle.trust import have as haves
from aibox.bundle.trust import targets
from aibox.bundle.trust.have import Holdings
from aibox.errors import BadUsage
from packager_project import (
    DRIVER,
    MACHINE,
    PYTHON,
    WEIGHTS,
    PackagerProject,
    absent,
    carried,
    index_of,
    nothing_was_made,
    refusal,
)
from trust_keys import key

WEIGHTS_SHA256, DRIVER_SHA256 = digest.of_bytes(WEIGHTS), digest.of_bytes(DRIVER)


def have_file(
    folder: Path,
    blobs: dict[str, int],
    *,
    architecture: str = MACHINE,
    python: str = PYTHON,
    end: bytes = b"\n",
) -> Path:
    """The list of a box, as `aibox have > FILE` writes it."""
    holdings = Holdings(architecture=architecture, python=python, blobs=blobs, releases=())
    made = targets.time_text(datetime.datetime(2027, 3, 2, tzinfo=datetime.UTC))
    path = folder / "have.json"
    path.write_bytes(haves.sign(key(50), made, holdings) + end)
    return path


# -- a delta --------------------------------------------------------------------------------------


def test_a_delta_leaves_out_what_the_box_holds_and_says_so(
    project: PackagerProject, place: Path
) -> None:
    full = project.build(place / "full")
    held = dict(carried(full))
    kept_out = held.pop(DRIVER_SHA256)
    delta = project.build(
        place / "delta", have=have_file(place, held), architectures=(), pythons=()
    )
    assert dict(carried(delta)) == {DRIVER_SHA256: kept_out}
    assert absent(delta) == dict.fromkeys(held, "held by the box")
    assert delta.description.content == full.description.content
    assert delta.description.size == full.description.size
    assert delta.description.carried == len(DRIVER)
    objects = {item.sha256 for item in index_of(full).carried}
    assert objects == set(carried(delta)) | set(absent(delta))


def test_a_delta_for_one_host_has_the_content_of_the_bundle_for_all(
    project: PackagerProject, place: Path
) -> None:
    full = project.build(place / "full", pythons=("3.11", "3.12"))
    delta = project.build(place / "delta", have=have_file(place, {}), architectures=(), pythons=())
    assert delta.description.pythons == (PYTHON,)
    assert delta.description.content == full.description.content


def test_what_the_box_has_under_another_size_is_carried(
    project: PackagerProject, place: Path
) -> None:
    have = have_file(place, {DRIVER_SHA256: len(DRIVER) + 1, "f" * 64: 1})
    made = project.build(place / "delta", have=have)
    assert DRIVER_SHA256 in carried(made)
    assert not absent(made)


def test_what_the_operator_brought_once_is_held(project: PackagerProject, place: Path) -> None:
    have = have_file(place, {WEIGHTS_SHA256: len(WEIGHTS)})
    made = project.build(place / "delta", have=have, without=frozenset({"small"}))
    assert absent(made)[WEIGHTS_SHA256] == "held by the box"


def missing(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("{}")


def flipped(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"3.11"', b'"3.12"'))


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("damage", "reference", "code"),
    [
        (missing, "have-unreadable", 2),
        (folder, "have-unreadable", 2),
        (empty, "have-malformed", 4),
        (text, "have-malformed", 4),
        (flipped, "have-signature-wrong", 4),
        (endless, "have-too-large", 4),
    ],
)
def test_a_list_that_is_not_a_boxs_own_is_refused_first(
    project: PackagerProject,
    output: Path,
    place: Path,
    damage: Callable[[Path], None],
    reference: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (bundling, haves):
        monkeypatch.setattr(module, "INDEX_LIMIT", 1 << 16)
    have = have_file(place, {WEIGHTS_SHA256: len(WEIGHTS)})
    damage(have)
    error = refusal(lambda: project.build(output, have=have))
    assert (error.reference, error.exit_code) == (reference, code)
    assert str(have) in str(error)
    assert nothing_was_made(project, output)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_newline_at_the_end_of_a_list_is_the_terminals(
    project: PackagerProject, place: Path, end: bytes
) -> None:
    have = have_file(place, {WEIGHTS_SHA256: len(WEIGHTS)}, end=end)
    assert set(absent(project.build(place / "delta", have=have))) == {WEIGHTS_SHA256}


@pytest.mark.parametrize(
    ("box", "chosen"),
    [
        ({"architecture": "aarch64"}, {"architectures": (MACHINE,)}),
        ({"python": "3.12"}, {"pythons": ("3.11",)}),
    ],
)
def test_a_delta_for_another_host_than_the_one_of_the_list_is_refused(
    project: PackagerProject,
    output: Path,
    place: Path,
    box: dict[str, str],
    chosen: dict[str, tuple[str, ...]],
) -> None:
    error = refusal(lambda: project.build(output, have=have_file(place, {}, **box), **chosen))
    assert (type(error), error.reference) == (BadUsage, "have-of-another-host")
    assert next(iter(box.values())) in error.message
    assert nothing_was_made(project, output)


def test_a_box_whose_python_has_no_packages_is_told_so(
    project: PackagerProject, output: Path, place: Path
) -> None:
    have = have_file(place, {}, python="3.99")
    error = refusal(lambda: project.build(output, have=have, architectures=(), pythons=()))
    assert (type(error), error.reference) == (BadUsage, "python-unknown")
    assert nothing_was_made(project, output)
