"""Parts of a bundle: each thing once, with its licence, class, owner and bytes."""

from __future__ import annotations

import pin_examples as pins
from aibox import objects
from aibox.bundle import inventory
from aibox.bundle.inventory import Part, ProgramParts
from aibox.bundle.manifest import Kind, ProgramFile
from aibox.pins import Blob, ModelFile, PackageFormat, Redistribution
from contents_examples import FULL, PROGRAM, release


def named(parts: tuple[Part, ...]) -> dict[str, Part]:
    return {f"{part.kind.value} {part.name}": part for part in parts}


def test_every_kind_of_thing_is_a_part() -> None:
    found = named(inventory.take([FULL], PROGRAM))
    assert list(found) == [
        "file driver",
        "image engine",
        "interpreter cpython-x86_64",
        "model small",
        "package docker.io:amd64",
        "project aibox",
        "project aibox-prompts",
        "wheel example",
        "wheel typer",
    ]
    assert found["wheel typer"].licence == "MIT"
    assert found["interpreter cpython-x86_64"].version == "3.13.9"


def test_a_part_has_the_size_of_its_different_objects() -> None:
    two = (pins.platform("linux/amd64"), pins.platform("linux/arm64"))
    image = named(inventory.take([release(images=(pins.image(platforms=two),))], PROGRAM))
    shared = len("base layer") + len(objects.IMAGE_VERSION)
    own = sum(len(f"{what} linux/amd64 ") for what in ("manifest", "config", "layer"))
    assert image["image engine"].size == shared + 2 * own


def test_a_model_of_ten_thousand_files_is_one_part() -> None:
    files = tuple(
        ModelFile(path=f"part-{number}.safetensors", size=1, sha256=pins.sha(str(number)))
        for number in range(10_000)
    )
    parts = inventory.take([release(models=(pins.model(files=files),))], PROGRAM)
    (component,) = (c for c in inventory.components(parts) if c.kind is Kind.MODEL)
    assert (component.files, component.size) == (10_000, 10_000)


def test_what_several_releases_share_is_one_part() -> None:
    assert inventory.take([FULL, FULL], PROGRAM) == inventory.take([FULL], PROGRAM)


def test_only_what_a_bundle_holds_counts() -> None:
    held = {pins.sha("weights"), pins.sha("aibox")}
    found = named(inventory.take([FULL], PROGRAM, held))
    assert list(found) == ["model small", "project aibox"]
    assert found["model small"].size == 7_000_000


def test_a_package_of_a_restricted_set_has_its_own_class() -> None:
    one = pins.packages().packages[0]
    restricted = pins.packages(
        redistribution=Redistribution.OPERATOR_ONLY,
        packages=(
            one,
            one.model_copy(update={"name": "nvidia-driver", "licence": "unknown", "path": "b"}),
        ),
    )
    found = named(inventory.take([release(packages=(restricted,))], PROGRAM))
    assert found["package docker.io:amd64"].redistribution is Redistribution.ALLOW
    assert found["package nvidia-driver:amd64"].redistribution is Redistribution.OPERATOR_ONLY


def test_an_epoch_of_an_rpm_is_a_qualifier_of_its_url() -> None:
    one = pins.packages().packages[0].model_copy(update={"version": "3:29.8.1-1.el9"})
    chosen = pins.packages(format=PackageFormat.RPM, target="rocky-9", packages=(one,))
    parts = inventory.take([release(packages=(chosen,))], PROGRAM)
    (part,) = (part for part in parts if part.kind is Kind.PACKAGE)
    assert part.url is not None
    assert part.url.version == "29.8.1-1.el9"
    assert ("epoch", "3") in part.url.qualifiers


def test_components_say_who_owns_what_under_which_licence() -> None:
    found = inventory.components(inventory.take([FULL], PROGRAM))
    (component,) = (item for item in found if item.name == "small")
    assert component.model_dump(mode="json") == {
        "kind": "model",
        "name": "small",
        "version": "1" * 40,
        "licence": "Apache-2.0",
        "redistribution": "allow",
        "owner": "somebody",
        "size": 7_000_006,
        "files": 2,
    }


def test_a_wheel_of_program_and_app_is_one_part_of_all_builds() -> None:
    build = "bundled-wheels/example-1.0-cp313-cp313-manylinux_2_17_x86_64.whl"
    own = ProgramFile(path=build, sha256=pins.sha("another build"), size=9)
    listing = PROGRAM.listing.model_copy(update={"wheels": (own,)})
    found = named(inventory.take([FULL], ProgramParts(version="1", listing=listing)))
    assert found["wheel example"].licence == "MIT"
    assert len(found["wheel example"].files) == 3
    assert Blob(sha256=own.sha256, size=9) in found["wheel example"].files.values()
