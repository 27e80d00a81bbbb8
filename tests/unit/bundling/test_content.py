"""What `aibox bundle build` puts into a bundle, and what it refuses to; servers on loopback."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from aibox import digest, locking
from aibox import lock as locks
from aibox.bundle.layout import BLOBS, MANIFEST
from aibox.errors import BadUsage, VerificationRefused
from aibox.pins import ModelFile, Redistribution, State
from bundle_media import snapshot
from packager_project import (
    DRIVER,
    WEIGHTS,
    PackagerProject,
    absent,
    carried,
    copy_of,
    nothing_was_made,
    refusal,
)

WEIGHTS_SHA256, DRIVER_SHA256 = digest.of_bytes(WEIGHTS), digest.of_bytes(DRIVER)


# -- what comes out -----------------------------------------------------------------------------


def test_everything_that_was_locked_is_in_the_bundle(
    project: PackagerProject, output: Path
) -> None:
    made = project.build(output)
    inside = carried(made)
    wheels = [*project.lock.wheel, *project.lock.program]
    fitting = [f for w in wheels for f in w.files if "cp312" not in f.filename]
    fitting = [f for f in fitting if "aarch64" not in f.filename]
    assert inside[WEIGHTS_SHA256] == len(WEIGHTS)
    assert inside[DRIVER_SHA256] == len(DRIVER)
    assert all(inside[file.sha256] == file.size for file in fitting)
    (image,) = project.lock.image
    assert {layer.sha256 for layer in image.platforms[0].layers} <= set(inside)
    assert not absent(made)
    assert made.folders == (output,)
    assert made.description.size == made.description.carried == sum(inside.values())


def test_a_build_prints_nothing(
    project: PackagerProject, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    project.build(output, sign=project.keys())
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")
    assert project.said.endswith(f"[bundle] writing {output}")


def test_builds_for_all_hosts_are_chosen_by_interpreter_and_architecture(
    project: PackagerProject, output: Path
) -> None:
    made = project.build(output, pythons=("3.11", "3.12"))
    beta = next(wheel for wheel in project.lock.wheel if wheel.name == "beta")
    inside = {file.filename: file.sha256 in carried(made) for file in beta.files}
    assert inside == {file.filename: "aarch64" not in file.filename for file in beta.files}


def test_the_release_in_a_bundle_has_the_lock_as_it_is_on_disk(
    project: PackagerProject, output: Path
) -> None:
    made = project.build(output)
    (entry,) = made.description.releases
    assert entry.id == locking.release_of(project.content, "local").id
    assert (output / BLOBS / entry.manifest.sha256).is_file()
    assert made.bundle == digest.of_bytes((output / MANIFEST).read_bytes())


# -- the same again -----------------------------------------------------------------------------


def test_the_same_lock_gives_the_same_bytes_modes_and_times_anywhere(
    project: PackagerProject, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = project.keys()
    project.build(place / "one", sign=keys)
    elsewhere = copy_of(project, place / "another place" / "체크아웃")
    for name, value in {"TZ": "Asia/Seoul", "LC_ALL": "tr_TR.UTF-8", "LANG": "ko_KR"}.items():
        monkeypatch.setenv(name, value)
    time.tzset()
    umask = os.umask(0o077)
    try:
        elsewhere.build(place / "a folder" / "two", sign=keys)
    finally:
        os.umask(umask)
        monkeypatch.undo()
        time.tzset()
    assert snapshot(place / "one") == snapshot(place / "a folder" / "two")


def test_what_was_fetched_once_is_not_asked_for_again(
    project: PackagerProject, place: Path
) -> None:
    project.build(place / "one")
    before = project.requests
    assert before
    project.build(place / "two")
    assert project.requests == before


def test_a_damaged_file_of_the_cache_alone_is_fetched_again(
    project: PackagerProject, place: Path
) -> None:
    project.build(place / "one")
    path = project.cache_folder / "sha256" / DRIVER_SHA256
    path.chmod(0o600)
    path.write_bytes(DRIVER[:-1] + b"!")
    before = len(project.web.asked)
    project.build(place / "two")
    assert len(project.web.asked) == before + 1
    assert snapshot(place / "one") == snapshot(place / "two")


# -- licences -----------------------------------------------------------------------------------


def test_what_nobody_may_hand_on_is_refused_with_the_way_out(
    project: PackagerProject, output: Path
) -> None:
    project.change("model", redistribution=Redistribution.FORBID, licence="cc-by-nc-4.0")
    error = refusal(lambda: project.build(output))
    assert (type(error), error.reference) == (BadUsage, "redistribution-forbidden")
    assert "small (cc-by-nc-4.0)" in error.message
    assert "--without small" in error.hint
    assert error.hint.endswith("./aibox install --bundle BUNDLE --weights FOLDER")
    assert nothing_was_made(project, output)


def test_a_model_that_the_operator_brings_is_absent_and_said_to_be(
    project: PackagerProject, output: Path
) -> None:
    project.change("model", redistribution=Redistribution.FORBID)
    made = project.build(output, without=frozenset({"small"}))
    assert not project.hub.asked
    (model,) = project.lock.model
    assert absent(made) == {str(file.sha256): "brought by the operator" for file in model.files}
    assert not {file.sha256 for file in model.files} & set(carried(made))
    assert made.description.size - made.description.carried == sum(
        file.size or 0 for file in model.files
    )


def test_only_a_model_can_be_left_out(project: PackagerProject, output: Path) -> None:
    error = refusal(lambda: project.build(output, without=frozenset({"smal"})))
    assert (type(error), error.reference) == (BadUsage, "model-unknown")
    assert "small" in error.context
    assert nothing_was_made(project, output)


@pytest.mark.parametrize("kind", ["image", "file"])
def test_what_is_no_model_cannot_be_brought(
    project: PackagerProject, output: Path, kind: str
) -> None:
    project.change(kind, redistribution=Redistribution.FORBID)
    error = refusal(lambda: project.build(output))
    assert error.reference == "redistribution-forbidden"
    assert "--without" not in error.hint


@pytest.mark.parametrize("kind", ["wheel", "program"])
def test_python_packages_have_licences_too(
    project: PackagerProject, output: Path, kind: str
) -> None:
    changed = tuple(
        item.model_copy(update={"redistribution": Redistribution.OPERATOR_ONLY})
        for item in getattr(project.lock, kind)
    )
    project.relock(**{kind: changed})
    error = refusal(lambda: project.build(output))
    assert error.reference == "redistribution-operator-only"
    assert nothing_was_made(project, output)


def test_what_only_the_operator_may_have_is_for_him(project: PackagerProject, output: Path) -> None:
    project.change("file", redistribution=Redistribution.OPERATOR_ONLY, licence="unknown")
    error = refusal(lambda: project.build(output))
    assert (type(error), error.reference) == (BadUsage, "redistribution-operator-only")
    assert "driver (unknown)" in error.message
    assert error.hint.endswith("./aibox bundle build --for-operator")
    assert nothing_was_made(project, output)
    made = project.build(output, for_operator=True)
    assert DRIVER_SHA256 in carried(made)
    (component,) = (c for c in made.description.components if c.name == "driver")
    assert component.redistribution is Redistribution.OPERATOR_ONLY


def test_a_licence_that_is_known_is_judged_before_anything_is_completed(
    project: PackagerProject, output: Path
) -> None:
    project.change("model", state=State.UNRESOLVED, files=(), redistribution=Redistribution.FORBID)
    error = refusal(lambda: project.build(output))
    assert error.reference == "redistribution-forbidden"
    assert nothing_was_made(project, output)


def test_a_licence_that_only_the_hub_knows_is_judged_when_it_has_told(
    project: PackagerProject, output: Path
) -> None:
    (repository,) = project.hub.repositories.values()
    repository.card = {"license": "cc-by-nc-4.0"}
    project.change("model", state=State.UNRESOLVED, files=(), licence="unknown")
    error = refusal(lambda: project.build(output))
    assert error.reference == "redistribution-forbidden"
    assert "cc-by-nc-4.0" in error.message
    assert not [asked for asked in project.hub.asked if asked.path.startswith("/lfs/")]


# -- what is not resolved yet -------------------------------------------------------------------


def test_what_is_unresolved_is_completed_and_written_down(
    project: PackagerProject, output: Path
) -> None:
    whole = project.lock.model[0]
    project.change("model", state=State.UNRESOLVED, files=())
    before = project.lock
    made = project.build(output)
    written = locks.load(project.content.lockfile)
    assert written.model[0].state is State.RESOLVED
    assert written.model[0].files == whole.files
    assert written.sequence == before.sequence + 1
    assert "completed first, review it: small" in project.said
    assert made.description.lock == digest.of_json(written.model_dump(mode="json"))
    (entry,) = made.description.releases
    manifest = (output / BLOBS / entry.manifest.sha256).read_bytes()
    assert b'"unresolved"' not in manifest
    assert WEIGHTS_SHA256 in carried(made)


def test_what_cannot_be_completed_stops_the_build(project: PackagerProject, output: Path) -> None:
    project.change("model", state=State.UNRESOLVED, files=())
    text = project.content.lockfile.read_text()
    project.hub.repositories.clear()
    error = refusal(lambda: project.build(output))
    assert error.reference == "model-missing"
    assert project.content.lockfile.read_text() == text
    assert not output.exists()


def test_a_digest_that_was_known_must_come_true(project: PackagerProject, output: Path) -> None:
    files = (ModelFile(path="model.safetensors", sha256="0" * 64),)
    project.change("model", state=State.UNRESOLVED, files=files)
    error = refusal(lambda: project.build(output))
    assert (type(error), error.reference) == (VerificationRefused, "model-changed")
    assert not output.exists()


# -- a file without an address, a server with other bytes -----------------------------------------


def test_a_file_without_an_address_is_refused_with_its_name(
    project: PackagerProject, output: Path
) -> None:
    pin = project.lock.file[0]
    project.relock()
    text = project.content.lockfile.read_text()
    project.content.lockfile.write_text(text.replace(f'address = "{pin.address}"\n', ""))
    error = refusal(lambda: project.build(output))
    assert (type(error), error.reference) == (BadUsage, "file-without-address")
    assert "driver" in error.message
    assert not output.exists()


def test_other_bytes_than_the_locked_ones_are_refused(
    project: PackagerProject, output: Path
) -> None:
    project.web.put("/driver.run", DRIVER[:-1] + b"!")
    error = refusal(lambda: project.build(output))
    assert isinstance(error, VerificationRefused)
    assert not output.exists()
    project.web.put("/driver.run", DRIVER)
    assert DRIVER_SHA256 in carried(project.build(output))


# -- words that make no sense ---------------------------------------------------------------------


@pytest.mark.parametrize("python", ["2.7", "3", "3.11.4", "x", "", "3.10", "３.11"])
def test_interpreters_without_packages_are_refused(
    project: PackagerProject, output: Path, python: str
) -> None:
    error = refusal(lambda: project.build(output, pythons=("3.11", python)))
    assert (type(error), error.reference) == (BadUsage, "python-unknown")
    assert nothing_was_made(project, output)


def test_an_architecture_without_packages_is_refused(
    project: PackagerProject, output: Path
) -> None:
    error = refusal(lambda: project.build(output, architectures=("riscv64",)))
    assert (type(error), error.reference) == (BadUsage, "architecture-unknown")
    assert "x86_64, aarch64" in error.message


@pytest.mark.parametrize(
    ("hosts", "told"),
    [
        ({"pythons": ("3.11", "3.13")}, "beta 1.0 for Python 3.13 on x86_64"),
        ({"architectures": ("aarch64",), "pythons": ("3.12",)}, "beta 1.0 for Python 3.12 on aa"),
    ],
)
def test_a_package_without_a_build_for_a_host_is_noticed_here_not_on_site(
    project: PackagerProject, output: Path, hosts: dict[str, tuple[str, ...]], told: str
) -> None:
    error = refusal(lambda: project.build(output, **hosts))
    assert (type(error), error.reference) == (BadUsage, "wheel-missing-for-host")
    assert told in error.message
    assert nothing_was_made(project, output)


def test_a_profile_that_is_not_there_is_refused(project: PackagerProject, output: Path) -> None:
    error = refusal(lambda: project.build(output, profiles=("a100",)))
    assert (type(error), error.reference) == (BadUsage, "profile-unknown")


def test_an_image_without_a_build_for_the_architecture_is_refused(
    project: PackagerProject, output: Path
) -> None:
    (image,) = project.lock.image
    project.change("image", platforms=image.platforms[:1])
    error = refusal(lambda: project.build(output, architectures=("aarch64",)))
    assert (type(error), error.reference) == (BadUsage, "image-does-not-fit")
    assert nothing_was_made(project, output)
