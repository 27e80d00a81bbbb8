"""Where a bundle is written, by whose keys, on which volumes, and with which proofs."""

from __future__ import annotations

import datetime
import resource
import tempfile
import tomllib
from pathlib import Path

import pytest
import tomli_w

from aibox import digest, locking
from aibox.bundle.build import service_proof
from aibox.bundle.layout import MANIFEST
from aibox.bundle.trust import key_folder
from aibox.errors import AiboxError, BadUsage, Failed, Fault
from aibox.locking import Sources
from aibox.profile import Runtime
from bundle_media import snapshot
from faults import in_a_process
from packager_project import (
    DRIVER,
    WEIGHTS,
    PackagerProject,
    nothing_was_made,
    refusal,
)

WEIGHTS_SHA256, DRIVER_SHA256 = digest.of_bytes(WEIGHTS), digest.of_bytes(DRIVER)


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
