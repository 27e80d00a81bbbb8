"""From a tag to a pin of every byte, and what a registry may not do on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aibox.bundle.build import registry
from aibox.bundle.build.registry_client import Registry
from aibox.bundle.images.reference import parse
from aibox.bundle.licences import classify
from aibox.errors import Fault, VerificationRefused
from aibox.pins import ImagePin, Redistribution, State
from aibox.progress import Progress
from image_maker import DOCKER, OCI, Image, blob, make_image, make_index, sha256, tar
from registry_double import RegistryDouble, registry_double
from registry_wishes import AMD, ARM, RUN, WEB, refusal, resolve, wish


@pytest.mark.parametrize("kinds", [DOCKER, OCI], ids=["docker", "oci"])
def test_a_tag_becomes_a_pin_of_every_byte(kinds: dict[str, str]) -> None:
    image = make_image([tar({"bin/a": b"a"}), tar({"etc/b": b"b"})], run=RUN, kinds=kinds)
    told: list[Progress] = []
    with registry_double() as double:
        double.hold(image, "1")
        wished = wish(double)
        pin = registry.resolve(
            wished, None, ("x86_64",), told.append, classify=classify, client=WEB
        )
    assert pin == ImagePin(
        name="app",
        licence="Apache-2.0",
        redistribution=Redistribution.ALLOW,
        owner="Example Inc.",
        source=f"the registry {double.registry}",
        reference=wished.reference,
        digest=sha256(image.manifest),
        platforms=(
            image.platform(
                user="1000:1000",
                exposed_ports=("443/tcp", "8000/tcp"),
                requires_cuda="cuda>=12.4 brand=tesla,driver>=470",
            ),
        ),
    )
    assert sha256(image.manifest) in told[0].message


@pytest.mark.parametrize("kinds", [DOCKER, OCI], ids=["list", "index"])
def test_an_index_gives_one_platform_for_each_architecture(kinds: dict[str, str]) -> None:
    attestation = {
        "mediaType": OCI["manifest"],
        "digest": "sha256:" + "a" * 64,
        "size": 10,
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    other = make_image([tar({"x": b"v3"})])
    made = json.loads(
        make_index(
            {
                "windows/amd64": other,
                "linux/amd64/v3": other,
                "linux/amd64": AMD,
                "linux/arm64/v8": ARM,
                "linux/riscv64": other,
            },
            kinds=kinds,
        )
    )
    without_platform = {key: attestation[key] for key in ("mediaType", "digest", "size")}
    made["manifests"] = [attestation, without_platform, *made["manifests"]]
    index = json.dumps(made).encode()
    with registry_double() as double:
        double.hold_manifest(index, "1")
        double.hold(AMD)
        double.hold(ARM)
        both = resolve(double, "x86_64", "aarch64")
        one = resolve(double, "aarch64")
    assert both.digest == one.digest == sha256(index)
    assert [found.platform for found in both.platforms] == ["linux/amd64", "linux/arm64"]
    assert [found.manifest for found in both.platforms] == [blob(AMD.manifest), blob(ARM.manifest)]
    assert one.platforms == both.platforms[1:]


def test_without_labels_licence_and_owner_are_what_can_be_known() -> None:
    with registry_double() as double:
        double.hold(make_image(), "1")
        pin = resolve(double)
    assert (pin.licence, pin.owner) == ("unknown", "demo")
    assert pin.redistribution is Redistribution.OPERATOR_ONLY


def test_what_a_configuration_says_cannot_break_a_terminal() -> None:
    run = {"User": "a\x1b[31m\nb", "Labels": {"maintainer": "x\x07" * 4000}}
    with registry_double() as double:
        double.hold(make_image(run=run), "1")
        pin = resolve(double)
    assert pin.platforms[0].user == "a[31mb"
    assert pin.owner == "x" * 200


def unresolved(double: RegistryDouble, digest: str, **fields: Any) -> ImagePin:
    return ImagePin(
        name="app",
        licence="unknown",
        redistribution=Redistribution.FORBID,
        owner="somebody",
        source="a list",
        state=State.UNRESOLVED,
        reference=wish(double).reference,
        digest=digest,
    ).model_copy(update=fields)


def test_an_unresolved_pin_is_completed_for_its_digest_whatever_the_tag_is_now() -> None:
    with registry_double() as double:
        double.hold(AMD)
        double.hold(ARM)
        index = make_index({"linux/amd64": AMD, "linux/arm64": ARM})
        double.hold_manifest(index)
        double.hold(make_image([tar({"new": b"new"})]), "1")
        for digest, architectures in (
            (sha256(index), ("x86_64", "aarch64")),
            (sha256(AMD.manifest), ("x86_64",)),
            (sha256(ARM.manifest), ("aarch64",)),
        ):
            pin = resolve(double, *architectures, previous=unresolved(double, digest))
            assert (pin.state, pin.digest) == (State.RESOLVED, digest)
            assert len(pin.platforms) == len(architectures)
            assert (pin.owner, pin.source) == ("somebody", "a list")
            assert pin.redistribution is Redistribution.FORBID
        pinned = resolve(double, previous=unresolved(double, sha256(AMD.manifest), licence="MIT"))
        assert pinned.licence == "MIT"
        assert not double.asked_for("registry", "manifests/1")


def test_a_complete_pin_is_kept_without_a_question() -> None:
    with registry_double() as double:
        double.hold(AMD, "1")
        pin = resolve(double)
        double.asked.clear()
        assert resolve(double, previous=pin) is pin
        assert double.asked == []
        assert resolve(double, wish=wish(double, "1"), previous=None) == pin


def test_another_reference_is_asked_anew() -> None:
    with registry_double() as double:
        double.hold(AMD, "1")
        double.hold(make_image(), "2")
        pin = resolve(double)
        assert resolve(double, wish=wish(double, "2"), previous=pin).digest != pin.digest


def test_an_architecture_that_is_not_there_is_named_with_what_is() -> None:
    with registry_double() as double:
        double.hold(AMD, "1")
        double.hold_manifest(make_index({"linux/amd64": AMD, "linux/s390x": ARM}), "2")
        single = refusal(double, "aarch64")
        several = refusal(double, "x86_64", "aarch64", wish=wish(double, "2"))
        none = refusal(double, "x86_64", "aarch64")
    assert {one.reference for one in (single, several, none)} == {"image-lacks-platform"}
    assert "linux/amd64, linux/s390x" in several.context


def test_an_index_that_calls_an_image_what_it_is_not_is_refused() -> None:
    with registry_double() as double:
        double.hold_manifest(make_index({"linux/arm64": AMD}), "1")
        double.hold(AMD)
        assert refusal(double, "aarch64").reference == "image-lacks-platform"


def test_an_index_that_gives_a_manifest_another_size_is_refused() -> None:
    made = json.loads(make_index({"linux/amd64": AMD}))
    made["manifests"][0]["size"] += 1
    with registry_double() as double:
        double.hold(AMD)
        double.hold_manifest(json.dumps(made).encode(), "1")
        assert refusal(double).reference == "image-refused"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no json", "not JSON"),
        (b'{"schemaVersion": 1, "name": "x", "fsLayers": []}', "schema 1"),
        (
            make_image(
                kinds={**OCI, "layer": "application/vnd.oci.image.layer.nondistributable.v1.tar"}
            ).manifest,
            "layer that lies elsewhere",
        ),
        (make_image(kinds={**OCI, "config": "application/vnd.helm+json"}).manifest, "not a cont"),
        (make_index({"linux/amd64": Image(make_index({}), b"", (), OCI)}), "index within an index"),
        (make_image(config={"os": "windows"}).manifest, "not for Linux"),
        (make_image(config={"rootfs": 1}).manifest, "malformed configuration"),
    ],
    ids=["text", "schema 1", "foreign layer", "chart", "nested", "windows", "no root"],
)
def test_what_is_no_image_we_can_carry_is_refused(data: bytes, words: str) -> None:
    with registry_double() as double:
        double.hold_manifest(make_index({}))
        for image in (
            make_image(config={"os": "windows"}),
            make_image(config={"rootfs": 1}),
        ):
            double.hold(image)
        double.manifests["demo/app/manifests/1"] = data
        double.content_types["demo/app/manifests/1"] = "application/json"
        error = refusal(double)
    assert (error.reference, error.exit_code) == ("image-refused", 4)
    assert words in error.context


def test_the_registry_may_not_call_bytes_by_another_digest() -> None:
    with registry_double(header_digest="sha256:" + "0" * 64) as double:
        double.hold(AMD, "1")
        assert refusal(double).reference == "image-differs"


@pytest.mark.parametrize("part", ["manifest by tag", "manifest of a platform", "configuration"])
def test_other_bytes_than_the_digests_are_refused(part: str) -> None:
    with registry_double() as double:
        index = make_index({"linux/amd64": AMD})
        double.hold_manifest(index, "1")
        double.hold(AMD)
        real = {"manifest by tag": index, "configuration": AMD.config}.get(part, AMD.manifest)
        double.wrong[sha256(real)] = real[:-1] + b" "
        error = refusal(double)
    assert isinstance(error, VerificationRefused)
    assert error.reference == "image-differs"


@pytest.mark.parametrize(
    ("status", "reference", "fault"),
    [
        (404, "image-unknown", Fault.YOU),
        (401, "registry-challenge", Fault.UPSTREAM),
        (403, "image-denied", Fault.YOU),
        (429, "registry-rate-limit", Fault.UPSTREAM),
        (418, "registry-answer", Fault.UPSTREAM),
        (503, "registry-unreachable", Fault.HOST),
    ],
)
def test_every_refusal_of_a_registry_has_its_own_error(
    status: int, reference: str, fault: Fault
) -> None:
    with registry_double(status={"/manifests/": status}, retry_after="7200") as double:
        error = refusal(double)
    assert (error.reference, error.fault) == (reference, fault)
    assert error.hint.endswith("./aibox lock")
    if status == 429:
        assert "7200 s" in error.context
        assert "TOOMANYREQUESTS: as told" in error.context


def test_an_unknown_tag_and_a_dead_registry_are_told_apart() -> None:
    with registry_double() as double:
        double.hold(AMD, "1")
        unknown = refusal(double, wish=wish(double, "typo"))
        wished = wish(double)
    assert unknown.reference == "image-unknown"
    assert "MANIFEST_UNKNOWN" in unknown.context
    assert refusal(double, wish=wished).reference == "registry-unreachable"


def test_a_server_in_trouble_is_asked_again() -> None:
    with registry_double() as double:
        double.hold(AMD, "1")
        waited: list[float] = []

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 2:
                double.status.clear()

        double.status["/manifests/"] = 502
        asked = Registry(parse(wish(double).reference), WEB, sleep=sleep)
        assert asked.manifest("1").data == AMD.manifest
    assert len(waited) == 2


def test_a_manifest_that_does_not_end_is_not_read_to_its_end() -> None:
    with registry_double() as double:
        double.manifests["demo/app/manifests/1"] = b'{"x": "' + b"x" * (5 << 20) + b'"}'
        assert refusal(double).reference == "registry-answer-too-large"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), kind=st.sampled_from(["", OCI["index"], OCI["manifest"]]))
def test_any_answer_of_a_registry_is_a_pin_or_an_error(
    served: RegistryDouble, data: bytes, kind: str
) -> None:
    served.manifests["demo/app/manifests/1"] = data
    served.content_types["demo/app/manifests/1"] = kind or "text/html"
    assert refusal(served).reference == "image-refused"


@pytest.fixture
def served() -> Iterator[RegistryDouble]:
    with registry_double() as double:
        yield double
