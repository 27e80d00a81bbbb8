"""GPUs in doctor and preflight: the host is looked at for what the release needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from aibox import content, doctor, pipeline, release
from aibox.box import gpu_evidence, gpus, host
from aibox.checks.evidence import Evidence, Image
from aibox.errors import BadUsage, Fault
from aibox.hardware import Hardware, Machine
from aibox.pins import Blob, ImagePin, ImagePlatform, Redistribution
from aibox.preflight import Status
from aibox.prepare import Workplace
from aibox.profile import PackageRole
from aibox.release import Release
from examples import HEX, lock, profile
from machines import TWO_A100, gpu, machine

PLAIN = release.make(lock(), profile())
BLOB = Blob(sha256=HEX, size=1)


def platform(name: str, requires: str) -> ImagePlatform:
    return ImagePlatform(
        platform=name, manifest=BLOB, config=BLOB, layers=(BLOB,), requires_cuda=requires
    )


ENGINE = ImagePin(
    name="vllm",
    licence="x",
    redistribution=Redistribution.ALLOW,
    owner="x",
    source="x",
    reference="registry.example/vllm:1",
    digest=HEX,
    platforms=(platform("linux/arm64", "cuda>=12.0"), platform("linux/amd64", "cuda>=13.0")),
)
SERVED: Release = PLAIN.model_copy(update={"hardware": TWO_A100, "images": (ENGINE,)})


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Hardware | None, tuple[Image, ...]]]:
    """A server with one A100; notes what the evidence is gathered for."""
    asked: list[tuple[Hardware | None, tuple[Image, ...]]] = []

    def gather(
        found: Machine, wanted: Hardware | None = None, images: Iterable[Image] = ()
    ) -> Evidence:
        asked.append((wanted, tuple(images)))
        return Evidence(found, wanted)

    monkeypatch.setattr(gpus, "detect", lambda: machine(gpu()))
    monkeypatch.setattr(gpu_evidence, "gather", gather)
    monkeypatch.setattr(host, "architecture", lambda: "x86_64")
    return asked


def test_preflight_refuses_a_host_without_the_gpus_of_a_release(on: object) -> None:
    gpu_profile, driver = doctor.hardware(SERVED)
    assert (gpu_profile.check, gpu_profile.status) == ("gpu profile", Status.VETO)
    assert "needs 2 of" in gpu_profile.found
    assert (driver.check, driver.status) == ("gpu driver", Status.OK)


def test_preflight_refuses_a_host_without_a_driver_when_the_release_brings_none(
    on: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "detect", lambda: machine(gpu(), gpu(), driver=""))
    (found,) = (one for one in doctor.hardware(SERVED) if one.status is Status.VETO)
    assert (found.check, found.found) == ("gpu driver", "no driver is loaded")
    brings = SERVED.model_copy(update={"package_roles": {"x": PackageRole.NVIDIA_DRIVER}})
    assert [one.status for one in doctor.hardware(brings)] == [Status.OK]


def test_preflight_does_not_look_for_gpus_that_nobody_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(gpus, "detect")
    assert doctor.hardware(PLAIN) == ()


def test_doctor_looks_for_what_the_box_needs(
    on: list[tuple[Hardware | None, tuple[Image, ...]]],
) -> None:
    found = doctor.graphics(SERVED)
    assert "gpu profile" in {one.check for one in found}
    assert on == [(TWO_A100, (Image("vllm", "registry.example/vllm:1", "cuda>=13.0"),))]


def test_doctor_looks_at_gpus_before_there_is_a_box(
    on: list[tuple[Hardware | None, tuple[Image, ...]]],
) -> None:
    assert doctor.graphics(None)
    assert on == [(None, ())]


def test_doctor_without_a_box_tells_of_gpus_even_where_nothing_can_be_planned(
    on: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BadUsage("lock-missing", "no lock", hint="./aibox lock", fault=Fault.YOU)

    monkeypatch.setattr(pipeline, "preflight", refuse)
    found = pipeline.doctor(Workplace(tmp_path / "box", content.find(), lambda _: None))
    assert (found[0].check, found[0].found, found[0].fix) == (
        *("preflight", "no lock", "./aibox lock"),
    )
    assert any(one.check.startswith("gpu ") for one in found)
