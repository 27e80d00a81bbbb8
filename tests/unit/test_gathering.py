"""What a bundle is made of, brought together: chosen, checked, judged, or refused."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aibox import digest, objects
from aibox.box import wheels
from aibox.bundle.build import interpreter
from aibox.bundle.layout import BLOBS
from aibox.bundle.manifest import Kind
from aibox.errors import AiboxError, Failed, VerificationRefused
from aibox.lock import WheelFile
from aibox.pins import Archive
from bundle_media import snapshot
from package_archives import pinned
from package_maker import make_deb, needs_apt
from packager_project import (
    MODEL,
    REPOSITORY,
    WEIGHTS,
    PackagerProject,
    carried,
    image_pin,
    index_of,
    model_pin,
    packager_project,
)
from weight_files import gguf, string
from wheel_maker import make_wheel


@pytest.fixture
def project(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackagerProject]:
    with packager_project(place, monkeypatch) as made:
        yield made


@pytest.fixture
def output(place: Path) -> Path:
    return place / "out" / "box"


def refusal(work: Callable[[], object]) -> AiboxError:
    with pytest.raises(AiboxError) as found:
        work()
    return found.value


def refused(project: PackagerProject, output: Path) -> AiboxError:
    """What a build is refused with; it has made nothing."""
    error = refusal(lambda: project.build(output))
    assert not list(output.parent.iterdir())
    return error


def packed(output: Path) -> dict[str, tuple[bytes, bool]]:
    """The program in a bundle: path -> bytes, whether executable."""
    found = {}
    for line in (output / "program.txt").read_text().splitlines():
        kind, mode, sha256, _, path = (line.split(maxsplit=4) + [""] * 5)[:5]
        if kind == "file":
            found[path] = ((output / BLOBS / sha256).read_bytes(), mode == "755")
    return found


# -- the project's own files ---------------------------------------------------------------------


def test_tracked_files_of_the_program_are_packed_with_their_modes(
    project: PackagerProject, output: Path
) -> None:
    project.build(output)
    files = packed(output)
    assert files["aibox"] == ((project.root / "aibox").read_bytes(), True)
    assert files["installer/aibox/__init__.py"][1] is False
    assert "tests/test_of_the_project.py" not in files
    assert (output / "aibox").stat().st_mode & 0o777 == 0o755


def test_what_merely_lies_in_the_checkout_is_not_packed(
    project: PackagerProject, output: Path
) -> None:
    (project.root / "installer/aibox/secret.py").write_text("PASSWORD = 'hunter2'\n")
    (project.root / "launcher/.env").write_text("hunter2\n")
    project.build(output)
    assert not {"installer/aibox/secret.py", "launcher/.env"} & set(packed(output))
    everything = b"".join(path.read_bytes() for path in output.rglob("*") if path.is_file())
    assert b"hunter2" not in everything


def test_modes_come_from_git_whatever_the_disk_says(project: PackagerProject, output: Path) -> None:
    (project.root / "aibox").chmod(0o600)
    (project.root / "LICENSE").chmod(0o777)
    project.build(output)
    files = packed(output)
    assert (files["aibox"][1], files["LICENSE"][1]) == (True, False)


def test_a_change_that_is_not_committed_is_packed_and_said(
    project: PackagerProject, output: Path
) -> None:
    project.build(output)
    assert "uncommitted" not in project.said
    (project.root / "installer/aibox/__init__.py").write_text('"""Another."""\n')
    project.build(output.with_name("other"))
    assert "packed as they are, uncommitted: installer/aibox/__init__.py" in project.said
    assert (
        packed(output.with_name("other"))["installer/aibox/__init__.py"][0] == b'"""Another."""\n'
    )


def test_another_program_makes_other_content_than_another_host(
    project: PackagerProject, output: Path
) -> None:
    first = project.build(output).description.content
    (project.root / "installer/aibox/__init__.py").write_text('"""Another."""\n')
    assert project.build(output.with_name("other")).description.content != first


def test_a_file_that_differs_from_the_lock_stops_the_build(
    project: PackagerProject, output: Path
) -> None:
    (project.root / "stacks/prompts/system.txt").write_text("Say yes.\n")
    output.parent.mkdir()
    error = refused(project, output)
    assert (type(error), error.reference) == (VerificationRefused, "artifact-differs")
    assert "stacks/prompts/system.txt" in error.message
    assert error.hint.endswith("./aibox lock")
    assert not project.requests


def test_a_tracked_file_that_is_gone_stops_the_build(
    project: PackagerProject, output: Path
) -> None:
    (project.root / "LICENSE").unlink()
    output.parent.mkdir()
    error = refused(project, output)
    assert (type(error), error.reference) == (Failed, "checkout-unusable")
    assert "LICENSE" in error.context
    assert not project.requests


def test_a_folder_that_is_no_checkout_cannot_be_packed(
    project: PackagerProject, output: Path
) -> None:
    (project.root / ".git").rename(project.root / "git")
    output.parent.mkdir()
    error = refused(project, output)
    assert (type(error), error.reference) == (Failed, "not-a-checkout")
    assert error.hint.endswith("./aibox bundle build")


# -- Python packages -----------------------------------------------------------------------------


def test_packages_come_from_the_index_that_pip_is_configured_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    with packager_project(place, monkeypatch, wheels_at_hand=False) as project:
        made = project.build(output)
        inside = carried(made)
        assert {f.sha256 for w in project.lock.program for f in w.files} <= set(inside)
        assert "of 2 files" in project.said
        (project.index / "alpha/index.html").unlink()
        again = project.build(output.with_name("again"))
    assert again.bundle == made.bundle


def test_an_index_without_a_package_says_how_to_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    with packager_project(place, monkeypatch, wheels_at_hand=False) as project:
        (project.index / "alpha/index.html").write_text("")
        output.parent.mkdir()
        error = refused(project, output)
    assert (type(error), error.reference) == (Failed, "package-not-in-index")
    assert "alpha 1.0" in error.message
    assert error.hint.endswith("./aibox bundle build")
    assert not list(place.glob(".*"))


def test_a_package_with_other_bytes_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    monkeypatch.setattr(wheels, "PAUSE_S", 0)
    with packager_project(place, monkeypatch, wheels_at_hand=False) as project:
        (path,) = (project.index / "alpha").glob("*.whl")
        path.write_bytes(path.read_bytes() + b"\0")
        output.parent.mkdir()
        error = refused(project, output)
    assert (type(error), error.reference) == (VerificationRefused, "wheel-digest-differs")


def test_a_package_that_would_run_at_every_start_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    with packager_project(place, monkeypatch, wheels_at_hand=False) as project:
        (path,) = (project.index / "alpha").glob("*.whl")
        path.unlink()
        make_wheel(path.parent, {"alpha.py": b"", "alpha.pth": b"import os"}, name="alpha")
        data = path.read_bytes()
        (alpha,) = (wheel for wheel in project.lock.wheel if wheel.name == "alpha")
        pin = WheelFile(filename=path.name, size=len(data), sha256=digest.of_bytes(data))
        others = tuple(wheel for wheel in project.lock.wheel if wheel.name != "alpha")
        project.relock(wheel=(alpha.model_copy(update={"files": (pin,)}), *others))
        project.commit()
        output.parent.mkdir()
        error = refused(project, output)
    assert (type(error), error.reference) == (VerificationRefused, "wheel-refused")


# -- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "data", "told"),
    [
        ("pytorch_model.bin", pickle.dumps({"weights": [1.0]}), "pytorch_model.bin"),
        ("modeling_small.py", b"import os\n", "modeling_small.py"),
        ("config.json", b'{"auto_map": {"AutoModel": "modeling.Small"}}', "auto_map"),
        ("vocab.txt", pickle.dumps({"a": 1}), "vocab.txt"),
        ("model.safetensors", WEIGHTS[:100], "model.safetensors"),
        (
            "small.gguf",
            gguf([string("tokenizer.chat_template", "{{ ''.__class__.__mro__ }}")]),
            "small.gguf",
        ),
    ],
)
def test_a_model_that_is_more_than_data_stops_the_build(
    project: PackagerProject, output: Path, path: str, data: bytes, told: str
) -> None:
    repository = project.hub.repositories[REPOSITORY]
    repository.files[path] = data
    project.relock(model=(model_pin(project.hub),))
    output.parent.mkdir()
    error = refused(project, output)
    assert (type(error), error.reference) == (VerificationRefused, "model-refused")
    assert told in f"{error.message} {error.context}"
    repository.files = dict(MODEL)
    project.relock(model=(model_pin(project.hub),))
    assert digest.of_bytes(WEIGHTS) in carried(project.build(output))


def test_weights_that_two_models_share_are_carried_once(
    project: PackagerProject, output: Path
) -> None:
    twin = model_pin(project.hub, name="twin")
    project.relock(model=(*project.lock.model, twin))
    made = project.build(output)
    sizes = [item.size for item in index_of(made).carried]
    assert sizes.count(len(WEIGHTS)) == 1
    names = [c.name for c in made.description.components if c.kind is Kind.MODEL]
    assert names == ["small", "twin"]


# -- images --------------------------------------------------------------------------------------


def evil_layer(**fields: Any) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("etc/x")
        for name, value in fields.items():
            setattr(member, name, value)
        archive.addfile(member)
    return packed.getvalue()


@pytest.mark.parametrize(
    "layer",
    [
        evil_layer(name="../../etc/cron.d/x"),
        evil_layer(name="/etc/passwd"),
        evil_layer(type=tarfile.CHRTYPE, devmajor=1, devminor=1),
        evil_layer(type=tarfile.LNKTYPE, linkname="../../../etc/shadow"),
    ],
    ids=["out of it", "from the root", "a device", "a link out of it"],
)
def test_an_image_that_would_write_elsewhere_stops_the_build(
    project: PackagerProject, output: Path, layer: bytes
) -> None:
    sound = project.lock.image
    project.relock(image=(image_pin(project.registry, layer),))
    output.parent.mkdir()
    error = refused(project, output)
    assert (type(error), error.reference) == (VerificationRefused, "image-refused")
    assert "engine" in error.message
    project.relock(image=sound)
    project.build(output)


def test_layers_that_images_share_are_carried_once(project: PackagerProject, output: Path) -> None:
    (image,) = project.lock.image
    other = image.model_copy(update={"name": "other"})
    project.relock(image=(image, other))
    made = project.build(output)
    layers = {blob.sha256 for blob in image.platforms[0].layers}
    assert layers <= set(carried(made))
    listed = [item.sha256 for item in index_of(made).carried]
    assert len(listed) == len(set(listed))


def test_only_the_images_of_the_bundles_architectures_are_fetched(
    project: PackagerProject, output: Path
) -> None:
    made = project.build(output)
    (image,) = project.lock.image
    other = image.platforms[1]
    assert other.manifest.sha256 not in carried(made)
    assert not project.registry.asked_for("registry", other.config.sha256)


# -- packages of operating systems ---------------------------------------------------------------


@pytest.fixture
def debs(place: Path) -> list[Path]:
    folder = place / "debs"
    folder.mkdir()
    files = {"usr/share/doc/engine/copyright": b"License: Expat\n"}
    return [make_deb(folder, "engine", architecture="amd64", files=files)]


@needs_apt
def test_packages_become_a_repository_that_is_signed(
    project: PackagerProject, output: Path, debs: list[Path]
) -> None:
    archive = Archive(label="debian", suite="trixie", signed_by=("ABCD",))
    pins = pinned(debs, name="engine-packages").model_copy(update={"archives": (archive,)})
    project.bring(pins, debs)
    made = project.build(output, sign=project.keys())
    places = {file.path: file.sha256 for file in made.description.derived}
    assert "packages/engine-packages/dists/trixie/InRelease" in places
    assert set(places.values()) <= set(carried(made))
    assert [check.signed_by for check in made.description.upstream] == ["ABCD"]
    again = project.build(output.with_name("again"), sign=project.keys())
    assert again.bundle == made.bundle
    assert snapshot(output) == snapshot(output.with_name("again"))


@needs_apt
def test_packages_are_refused_at_once_where_nobody_signs(
    project: PackagerProject, output: Path, debs: list[Path]
) -> None:
    project.bring(pinned(debs, name="engine-packages"), debs)
    output.parent.mkdir()
    error = refused(project, output)
    assert error.reference == "packages-need-a-key"
    assert "engine-packages" in error.message
    assert not project.requests


@needs_apt
def test_packages_for_another_architecture_stay_out(
    project: PackagerProject, output: Path, debs: list[Path]
) -> None:
    project.bring(pinned(debs, name="engine-packages", architecture="arm64"), debs)
    made = project.build(output)
    assert not made.description.derived
    assert digest.of_bytes(debs[0].read_bytes()) not in carried(made)


# -- an interpreter ------------------------------------------------------------------------------


@pytest.fixture
def with_interpreter(
    project: PackagerProject, debs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> PackagerProject:
    """A lock that has packages to make an interpreter of; a double makes it of them."""

    def double(pins: Any, files: Any, output: Path, report: Any) -> None:
        output.write_bytes(b"".join(files(item.sha256).read_bytes() for item in pins.packages))

    monkeypatch.setattr(interpreter, "make", double)
    archive = Archive(label="debian", suite="bookworm", signed_by=("EF01",))
    pins = pinned(debs, name="interpreter-x86-64", target="debian-12")
    project.bring(pins.model_copy(update={"archives": (archive,)}), debs)
    return project


@needs_apt
def test_a_bundle_brings_an_interpreter_where_the_lock_has_one(
    with_interpreter: PackagerProject, output: Path, debs: list[Path]
) -> None:
    sha256 = digest.of_bytes(debs[0].read_bytes())
    made = with_interpreter.build(output)
    assert sha256 in carried(made)
    assert f"interpreter x86_64 {sha256} " in (output / "program.txt").read_text()
    assert [check.signed_by for check in made.description.upstream] == ["EF01"]


@needs_apt
@pytest.mark.parametrize(
    "hosts", [{"pythons": ("3.12",)}, {"architectures": ("aarch64",), "pythons": ("3.11",)}]
)
def test_an_interpreter_is_left_out_where_it_would_start_nothing(
    with_interpreter: PackagerProject, output: Path, hosts: dict[str, tuple[str, ...]]
) -> None:
    with_interpreter.build(output, **hosts)
    assert "interpreter " not in (output / "program.txt").read_text()


# -- parts ---------------------------------------------------------------------------------------


@needs_apt
def test_every_object_belongs_to_a_component_and_to_the_list_of_parts(
    with_interpreter: PackagerProject, output: Path, debs: list[Path]
) -> None:
    project = with_interpreter
    engine = make_deb(debs[0].parent, "other", architecture="amd64")
    project.bring(pinned([engine], name="other"), [engine])
    made = project.build(output, sign=project.keys(), pythons=("3.11", "3.12"))
    said = made.description
    bill = json.loads((output / BLOBS / said.sbom.sha256).read_bytes())
    assert {c.kind for c in said.components} == set(Kind)
    listed = {
        value["value"]
        for component in bill["components"]
        for value in component["properties"]
        if value["name"].startswith("aibox:file:")
    } | {item["content"] for c in bill["components"] for item in c.get("hashes", ())}
    sizes = {item.sha256: item.size for item in index_of(made).carried}
    assert set(sizes) <= listed
    assert sum(sizes.values()) == said.size
    assert len(bill["components"]) == len(said.components)
    # Files that lie both in the program and in a release are objects of two components.
    assert sum(component.size for component in said.components) >= said.size
    assert digest.of_bytes(objects.IMAGE_VERSION) in listed
