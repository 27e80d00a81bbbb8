"""Where every object of a release lies in a generation, and which builds of a package fit."""

from __future__ import annotations

import pytest

import pin_examples as pins
from aibox import digest, objects
from aibox.bundle.build.repository_files import pool_paths
from aibox.errors import BadUsage
from aibox.lock import WheelFile
from aibox.objects import fits
from aibox.pins import ModelFile, PackageFormat
from aibox.release import Release
from contents_examples import FULL, release
from pin_examples import sha


def placed(made: Release, architecture: str = "x86_64") -> dict[str, str]:
    """Path -> digest."""
    return {item.path: item.sha256 for item in objects.of_release(made, architecture)}


def test_every_kind_of_object_has_its_folder() -> None:
    found = placed(FULL)
    assert {path.partition("/")[0] for path in found} == {
        *("prompts", "models", "images", "packages", "files"),
    }
    assert found["models/small/model.safetensors"] == sha("weights")
    assert found["files/driver/driver.run"] == sha("driver")
    assert found["packages/docker/pool/docker.io_26.1.5-1_amd64.deb"] == sha("docker.io")


def test_sizes_and_digests_are_those_of_the_pins() -> None:
    sizes = {item.path: item.size for item in objects.of_release(FULL, "x86_64")}
    assert sizes["models/small/model.safetensors"] == 7_000_000
    assert sizes["files/driver/driver.run"] == 100
    assert sizes["images/engine/version"] == len(objects.IMAGE_VERSION) == 33


def test_a_model_keeps_the_folders_of_its_repository() -> None:
    file = ModelFile(path="onnx/model.safetensors", size=1, sha256=sha("x"))
    assert "models/small/onnx/model.safetensors" in placed(
        release(models=(pins.model(files=(file,)),))
    )


def test_what_nobody_has_hashed_is_nowhere() -> None:
    made = release(models=(pins.unresolved_model(),))
    assert not any(path.startswith("models/") for path in placed(made))


def test_an_image_is_a_folder_as_skopeo_writes_it() -> None:
    found = placed(release(images=(pins.image(),)))
    platform = pins.platform()
    assert {path: name for path, name in found.items() if path.startswith("images/")} == {
        "images/engine/version": digest.of_bytes(b"Directory Transport Version: 1.1\n"),
        "images/engine/manifest.json": platform.manifest.sha256,
        **{
            f"images/engine/{blob.sha256}": blob.sha256
            for blob in (platform.config, *platform.layers)
        },
    }


@pytest.mark.parametrize(
    ("architecture", "platform"), [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64")]
)
def test_an_image_is_the_one_for_the_host(architecture: str, platform: str) -> None:
    both = tuple(pins.platform(name) for name in ("linux/amd64", "linux/arm64"))
    found = placed(release(images=(pins.image(platforms=both),)), architecture)
    chosen = next(item for item in both if item.platform == platform)
    assert found["images/engine/manifest.json"] == chosen.manifest.sha256


def test_an_image_without_a_build_for_the_host_is_named() -> None:
    with pytest.raises(BadUsage, match="engine for aarch64") as caught:
        placed(release(images=(pins.image(),)), "aarch64")
    assert caught.value.reference == "image-does-not-fit"


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("x86_64", ["a", "b"]), ("aarch64", ["c", "d"]), ("riscv64", ["e"])],
)
def test_package_sets_are_those_for_the_host(architecture: str, expected: list[str]) -> None:
    names = {"a": "amd64", "b": "x86_64", "c": "arm64", "d": "aarch64", "e": "riscv64"}
    made = release(
        packages=tuple(pins.packages(name, architecture=its) for name, its in names.items())
    )
    assert [item.name for item in objects.packages(made, architecture)] == expected


@pytest.mark.parametrize("kind", PackageFormat)
def test_packages_lie_where_their_repository_says(kind: PackageFormat) -> None:
    chosen = pins.packages(format=kind, target="debian-13" if kind == "deb" else "rocky-9")
    found = placed(release(packages=(chosen,)))
    for sha256, path in pool_paths(chosen).items():
        assert found[f"{objects.repository(chosen)}/{path}"] == sha256


def test_packages_for_python_lie_side_by_side() -> None:
    file = WheelFile(filename="demo-1.0-py3-none-any.whl", size=10, sha256=sha("demo"))
    (item,) = objects.wheels([file])
    assert (item.path, item.size, item.sha256) == (f"wheels/{file.filename}", 10, file.sha256)


FITTING = {
    "demo-1.0-py3-none-any.whl": True,
    "demo-1.0-py2.py3-none-any.whl": True,
    "demo-1.0-py2-none-any.whl": False,
    "demo-1.0-py38-none-any.whl": True,
    "demo-1.0-py311-none-any.whl": True,
    "demo-1.0-py312-none-any.whl": False,
    "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": True,
    "demo-1.0-cp311-cp311-linux_x86_64.whl": True,
    "demo-1.0-cp311-none-manylinux_2_28_x86_64.whl": True,
    "demo-1.0-cp310-cp310-manylinux_2_17_x86_64.whl": False,
    "demo-1.0-cp312-cp312-manylinux_2_17_x86_64.whl": False,
    "demo-1.0-cp39-abi3-manylinux_2_17_x86_64.whl": True,
    "demo-1.0-cp311-abi3-manylinux_2_17_x86_64.whl": True,
    "demo-1.0-cp312-abi3-manylinux_2_17_x86_64.whl": False,
    "demo-1.0-cp3-abi3-manylinux_2_17_x86_64.whl": False,
    "demo-1.0-py3-none-manylinux_2_17_x86_64.whl": True,
    "demo-1.0-py3-none-manylinux_2_17_aarch64.whl": False,
    "demo-1.0-cp311-cp311-manylinux_2_17_aarch64.whl": False,
    "demo-1.0-cp311-cp311-manylinux_2_17_i686.whl": False,
    "demo-1.0-cp311-cp311-musllinux_1_2_x86_64.whl": False,
    "demo-1.0-cp311-cp311-macosx_11_0_x86_64.whl": False,
    "demo-1.0-cp311-cp311-win_amd64.whl": False,
    "demo-1.0-cp311-cp311t-manylinux_2_17_x86_64.whl": False,
    "demo-1.0-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl": False,
    "demo-1.0-1-cp311-cp311-manylinux_2_17_x86_64.whl": True,
    "demo-1.0-cp3x-abi3-manylinux_2_17_x86_64.whl": False,
    "not a wheel.whl": False,
    "demo.whl": False,
    "demo-1.0.tar.gz": False,
}


@pytest.mark.parametrize(("filename", "expected"), FITTING.items())
def test_a_build_fits_an_interpreter_on_a_machine(filename: str, expected: bool) -> None:
    assert fits(filename, ("3.11",), ("x86_64",)) is expected


def test_a_build_fits_when_it_does_for_any_of_them() -> None:
    build = "demo-1.0-cp312-cp312-manylinux_2_17_aarch64.whl"
    assert fits(build, ("3.11", "3.12"), ("x86_64", "aarch64"))
    assert not fits(build, ("3.11", "3.12"), ("x86_64",))
    assert not fits(build, ("3.11",), ("x86_64", "aarch64"))


@pytest.mark.parametrize("pythons", [(), ("three",), ("",), ("3",)])
def test_versions_that_are_none_fit_nothing_built_for_one(pythons: tuple[str, ...]) -> None:
    assert not fits("demo-1.0-cp39-abi3-manylinux_2_17_x86_64.whl", pythons, ("x86_64",))
