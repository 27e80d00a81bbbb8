"""`aibox bundle build` as a whole, from a small checkout and servers on loopback."""

from __future__ import annotations

import datetime
import os
import resource
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w

from aibox import bundling, digest, locking
from aibox import lock as locks
from aibox.bundle.build import service_proof
from aibox.bundle.layout import BLOBS, MANIFEST
from aibox.bundle.trust import have as haves
from aibox.bundle.trust import key_folder, targets
from aibox.bundle.trust.have import Holdings
from aibox.errors import AiboxError, BadUsage, Failed, Fault, VerificationRefused
from aibox.locking import Sources
from aibox.pins import ModelFile, Redistribution, State
from aibox.profile import Runtime
from bundle_media import snapshot
from faults import in_a_process
from packager_project import (
    DRIVER,
    MACHINE,
    PYTHON,
    WEIGHTS,
    PackagerProject,
    absent,
    carried,
    copy_of,
    index_of,
    packager_project,
)
from trust_keys import key

WEIGHTS_SHA256, DRIVER_SHA256 = digest.of_bytes(WEIGHTS), digest.of_bytes(DRIVER)


@pytest.fixture
def project(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackagerProject]:
    with packager_project(place, monkeypatch) as made:
        yield made


@pytest.fixture
def output(place: Path) -> Path:
    return place / "매체" / "box"


def refusal(work: Callable[[], object]) -> AiboxError:
    with pytest.raises(AiboxError) as found:
        work()
    return found.value


def nothing_was_made(project: PackagerProject, output: Path) -> bool:
    return (
        not project.requests
        and not output.exists()
        and not output.with_name(output.name + ".partial").exists()
    )


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


# -- the folder to make -------------------------------------------------------------------------


def test_a_bundle_is_never_changed_and_that_is_said_at_once(
    project: PackagerProject, output: Path
) -> None:
    output.mkdir(parents=True)
    error = refusal(lambda: project.build(output))
    assert (type(error), error.reference) == (BadUsage, "bundle-exists")
    assert not project.requests
    assert not list(output.iterdir())


def test_a_folder_that_cannot_be_made_is_said_at_once(project: PackagerProject) -> None:
    error = refusal(lambda: project.build(project.content.lockfile / "box"))
    assert (type(error), error.reference) == (Failed, "bundle-not-written")
    assert error.fault is Fault.HOST
    assert not project.requests


def test_a_bundle_is_not_made_in_another_one(project: PackagerProject, output: Path) -> None:
    made = project.build(output)
    before = snapshot(output)
    error = refusal(lambda: project.build(output / "deeper" / "box"))
    assert (type(error), error.reference) == (BadUsage, "bundle-in-bundle")
    assert str(output) in error.message
    assert snapshot(output) == before
    assert made.folders == (output,)


def test_the_root_of_the_file_system_is_no_place_for_a_bundle(project: PackagerProject) -> None:
    error = refusal(lambda: project.build(Path("/")))
    assert error.reference == "bundle-exists"


@pytest.mark.parametrize("name", ["mirrors", "hub_token"])
def test_a_file_of_sources_that_is_missing_is_said_at_once(
    project: PackagerProject, output: Path, name: str
) -> None:
    sources = Sources(**{name: output.parent / "no such file"})
    error = refusal(lambda: project.build(output, sources=sources))
    assert error.exit_code == 2
    assert "no such file" in str(error)
    assert nothing_was_made(project, output)


def test_somebody_elses_work_folder_is_left_alone(project: PackagerProject, output: Path) -> None:
    other = output.with_name("box.partial")
    other.mkdir(parents=True)
    (other / "thesis.txt").write_text("mine")
    assert refusal(lambda: project.build(output)).reference == "partial-not-ours"
    assert not project.requests
    assert (other / "thesis.txt").read_text() == "mine"


def test_a_build_leaves_nothing_but_the_bundle(project: PackagerProject, output: Path) -> None:
    before = {path.name for path in project.root.iterdir()}
    project.build(output)
    assert [path.name for path in output.parent.iterdir()] == ["box"]
    assert {path.name for path in project.root.iterdir()} == before


# -- keys -----------------------------------------------------------------------------------------


def test_a_folder_without_keys_is_said_at_once(project: PackagerProject, output: Path) -> None:
    error = refusal(lambda: project.build(output, sign=output.parent / "keys"))
    assert (type(error), error.reference) == (BadUsage, "keys-missing")
    assert nothing_was_made(project, output)


def test_a_key_that_others_can_read_is_said_at_once(project: PackagerProject, output: Path) -> None:
    keys = project.keys()
    (keys / "release-1.key").chmod(0o644)
    error = refusal(lambda: project.build(output, sign=keys))
    assert error.reference == "key-file-open-to-others"
    assert nothing_was_made(project, output)


def test_too_few_keys_are_said_at_once(project: PackagerProject, output: Path) -> None:
    keys = project.keys()
    for path in keys.glob("release-*.key"):
        path.unlink()
    error = refusal(lambda: project.build(output, sign=keys))
    assert error.reference == "keys-too-few"
    assert nothing_was_made(project, output)


@pytest.mark.parametrize(("days", "young"), [(729, True), (730, False), (4000, False)])
def test_a_bundle_that_every_box_would_refuse_for_its_age_is_not_made(
    project: PackagerProject, output: Path, monkeypatch: pytest.MonkeyPatch, days: int, young: bool
) -> None:
    today = project.lock.date + datetime.timedelta(days=days)
    monkeypatch.setattr(locking, "current_date", lambda: today)
    if young:
        project.build(output, sign=project.keys())
        return
    error = refusal(lambda: project.build(output, sign=project.keys()))
    assert (type(error), error.reference) == (BadUsage, "lock-too-old")
    assert error.hint.endswith("./aibox lock --next")
    assert nothing_was_made(project, output)


def test_a_signed_bundle_has_its_roots_and_signature(
    project: PackagerProject, output: Path
) -> None:
    keys = project.keys()
    project.build(output, sign=keys)
    root = key_folder.read_roots(keys)[1]
    assert (output / "root/1.root.json").read_bytes() == root
    assert (output / "bundle.json.sig").read_bytes().startswith(b"-----BEGIN SSH SIGNATURE")


# -- volumes --------------------------------------------------------------------------------------


def test_a_bundle_is_divided_over_volumes(project: PackagerProject, output: Path) -> None:
    made = project.build(output, volume_bytes=3_000_000)
    assert [folder.parent for folder in made.folders] == [output] * len(made.folders)
    assert all((folder / "volume.json").is_file() for folder in made.folders)
    assert all((folder / MANIFEST).is_file() for folder in made.folders)


def test_a_volume_that_holds_no_object_is_said_at_once(
    project: PackagerProject, output: Path
) -> None:
    error = refusal(lambda: project.build(output, volume_bytes=1000))
    assert (type(error), error.reference) == (BadUsage, "volume-too-small")
    assert nothing_was_made(project, output)


def test_a_volume_that_is_too_small_makes_nothing(project: PackagerProject, output: Path) -> None:
    error = refusal(lambda: project.build(output, volume_bytes=2_300_000))
    assert (type(error), error.reference) == (BadUsage, "volume-too-small")
    assert not output.exists()
    assert project.build(output).folders == (output,)


# -- proofs ---------------------------------------------------------------------------------------


def test_a_proof_that_was_left_out_is_recorded(project: PackagerProject, output: Path) -> None:
    (proof,) = project.build(output).description.proofs
    assert not proof.proven
    assert proof.reason == "the packager left the proof out"


def test_services_that_do_not_start_make_no_bundle(
    project: PackagerProject, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_proof, "why_not", lambda _gathered: "")
    monkeypatch.setattr(service_proof, "_alone", list)
    error = refusal(lambda: project.build(output, prove=True))
    assert (type(error), error.reference) == (Failed, "release-does-not-start")
    assert "nothing is installed here" in error.context
    assert not output.exists()
    assert [path.name for path in output.parent.iterdir()] == []


def test_a_proof_without_room_is_not_mistaken_for_the_bundle(
    project: PackagerProject, output: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_proof, "why_not", lambda _gathered: "")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    told = place / "told"

    def build() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            project.build(output, prove=True)
        except AiboxError as error:
            told.write_text(f"{error.reference} {error.context} {error.hint}")

    project.build(place / "first")
    assert in_a_process(build) == 0
    assert told.read_text().startswith(f"proof-not-written {place}/aibox-proof-")
    assert told.read_text().endswith("./aibox bundle build --skip-proof")
    assert not list(place.glob("aibox-proof-*"))


def test_containers_are_not_proven_here_and_that_is_recorded(
    project: PackagerProject, output: Path
) -> None:
    path = project.content.profiles / "local.toml"
    values = tomllib.loads(path.read_text())
    services = ["gateway", "web", "ingest", "qdrant"]
    image = values["image"][0]["name"]
    values |= {"runtime": "container", "services": services}
    path.write_text(tomli_w.dumps(values | {"service_images": dict.fromkeys(services, image)}))
    made = project.build(output, prove=True)
    (proof,) = made.description.proofs
    assert (proof.proven, made.description.releases[0].runtime) == (False, Runtime.CONTAINER)
    assert proof.reason == (
        "not proven on this builder: its services run in containers, which the builder does not "
        "start"
    )


def test_a_release_whose_weights_the_operator_brings_is_not_proven(
    project: PackagerProject, output: Path
) -> None:
    made = project.build(output, prove=True, without=frozenset({"small"}))
    (proof,) = made.description.proofs
    assert proof.reason == "not proven on this builder: its operator brings small"
