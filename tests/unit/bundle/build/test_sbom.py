"""The bill of materials: valid by the schema of CycloneDX, complete, and the same every time."""

from __future__ import annotations

import datetime
import json
import os
import time
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import pin_examples as pins
from aibox.bundle import inventory
from aibox.bundle.build import sbom
from aibox.pins import ModelFile
from aibox.release import Release
from contents_examples import FULL, PROGRAM, release
from examples import lock

LOCK = lock().model_copy(update={"date": datetime.date(2026, 11, 1), "sequence": 7})


def made(*found: Release) -> bytes:
    return sbom.make(inventory.take(found, PROGRAM), found, LOCK)


def components(*found: Release) -> dict[str, dict[str, Any]]:
    document = json.loads(made(*(found or (FULL,))))
    return {item["bom-ref"].partition("@")[0]: item for item in document["components"]}


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in component["properties"]}


def test_the_schema_of_cyclonedx_accepts_it() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made(FULL).decode()) is None


def test_the_library_reads_it_back() -> None:
    bom = Bom.from_json(json.loads(made(FULL)))  # type: ignore[attr-defined]
    assert len(bom.components) == len(inventory.take([FULL], PROGRAM))


def test_the_same_contents_give_the_same_bytes_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    before = made(FULL)
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        assert made(FULL) == before
    finally:
        monkeypatch.undo()
        time.tzset()
    assert "TZ" not in os.environ or os.environ["TZ"] != "Asia/Seoul"


def test_other_contents_are_another_document() -> None:
    other = release(models=(pins.model(revision=pins.NEWER),))
    one, two = json.loads(made(FULL)), json.loads(made(other))
    assert one["serialNumber"] != two["serialNumber"]
    assert one["metadata"]["timestamp"] == "2026-11-01T00:00:00+00:00"
    assert one["metadata"]["component"]["version"] == "7"


@pytest.mark.parametrize(
    ("name", "purl"),
    [
        ("wheel/example", "pkg:pypi/example@1.0"),
        ("package/docker.io:amd64",
         "pkg:deb/debian/docker.io@26.1.5-1?arch=amd64&distro=debian-13"),
        ("model/small", f"pkg:huggingface/maker/small@{'1' * 40}"),
        ("image/engine",
         f"pkg:oci/engine@sha256:{pins.sha('engine')}"
         "?repository_url=registry.example/maker/engine&tag=v1"),
        ("interpreter/cpython-x86_64", "pkg:generic/cpython@3.13.9?arch=x86_64"),
    ],
)  # fmt: skip
def test_parts_have_package_urls(name: str, purl: str) -> None:
    assert components()[name]["purl"] == purl


def test_a_part_says_licence_owner_size_and_class() -> None:
    model = components()["model/small"]
    assert model["type"] == "machine-learning-model"
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert model["supplier"] == {"name": "somebody"}
    assert properties(model)["aibox:redistribution"] == "allow"
    assert properties(model)["aibox:size"] == "7000006"
    assert properties(model)["aibox:file:model.safetensors"] == pins.sha("weights")


def test_a_licence_of_its_own_is_named_and_an_unknown_one_is_not_made_up() -> None:
    found = components(
        release(
            models=(pins.model(licence="HyperCLOVA X SEED"), pins.model("b", licence="unknown"))
        )
    )
    assert found["model/small"]["licenses"] == [{"license": {"name": "HyperCLOVA X SEED"}}]
    assert "licenses" not in found["model/b"]


def test_a_single_file_has_its_digest_and_an_image_that_of_its_manifest() -> None:
    found = components()
    assert found["file/driver"]["hashes"] == [{"alg": "SHA-256", "content": pins.sha("driver")}]
    assert found["image/engine"]["hashes"][0]["content"] == pins.sha("engine")


def test_ten_thousand_files_stay_one_small_component() -> None:
    files = tuple(
        ModelFile(path=f"{number}.safetensors", size=1, sha256=pins.sha(str(number)))
        for number in range(10_000)
    )
    document = made(release(models=(pins.model(files=files),)))
    assert len(document) < 20_000
    assert (
        properties(components(release(models=(pins.model(files=files),)))["model/small"])[
            "aibox:files"
        ]
        == "10000"
    )
