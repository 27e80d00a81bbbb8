"""Manifests, indexes and configurations: what is read, and what two readers read in two ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle.images import manifest as manifests
from aibox.bundle.images.manifest import Index, Manifest, parse, parse_config
from aibox.bundle.images.problems import ProblemKind, Unfit
from image_maker import DOCKER, OCI, descriptor, make_image, make_index, sha256

DIGEST = "sha256:" + "0" * 64


def document(**changes: Any) -> bytes:
    """A sound OCI manifest with some parts replaced; None takes one away."""
    made = {**json.loads(make_image().manifest), **changes}
    return json.dumps({key: value for key, value in made.items() if value is not None}).encode()


def problem(data: bytes, media_type: str = "") -> ProblemKind:
    with pytest.raises(Unfit) as caught:
        parse(data, "manifest", media_type)
    return caught.value.problem.kind


@pytest.mark.parametrize("kinds", [DOCKER, OCI], ids=["docker", "oci"])
def test_manifests_and_indexes_of_both_kinds_are_read(kinds: dict[str, str]) -> None:
    image = make_image(kinds=kinds)
    found = parse(image.manifest, "manifest", kinds["manifest"])
    assert isinstance(found, Manifest)
    assert [layer.blob.sha256 for layer in found.layers] == [sha256(one) for one in image.layers]
    index = parse(make_index({"linux/amd64": image}, kinds=kinds), "index", kinds["index"])
    assert isinstance(index, Index)
    assert index.manifests[0].digest == f"sha256:{sha256(image.manifest)}"


def test_an_oci_manifest_may_leave_its_own_type_to_the_registry() -> None:
    assert isinstance(parse(document(mediaType=None), "manifest"), Manifest)


LAYER = json.loads(make_image().manifest)["layers"][0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ProblemKind.MANIFEST),
        (b"[]", ProblemKind.MANIFEST),
        (b"\xff{}", ProblemKind.MANIFEST),
        (b"[" * 100_000, ProblemKind.MANIFEST),
        (b'{"schemaVersion": ' + b"9" * 5000 + b"}", ProblemKind.MANIFEST),
        (b'{"schemaVersion": NaN}', ProblemKind.MANIFEST),
        (b" " * (manifests.MANIFEST_BYTES + 1), ProblemKind.TOO_LARGE),
        (b'{"schemaVersion": 1, "fsLayers": []}', ProblemKind.SCHEMA_1),
        (document(schemaVersion=3), ProblemKind.MANIFEST),
        (document(schemaVersion="2"), ProblemKind.MANIFEST),
        (document(schemaVersion=True), ProblemKind.SCHEMA_1),
        (document(config=None), ProblemKind.MANIFEST),
        (document(layers=None, manifests=[], mediaType=None), ProblemKind.MANIFEST),
        (document(manifests=[]), ProblemKind.MANIFEST),
        (document(Layers=[]), ProblemKind.MANIFEST),
        (document()[:-1] + ', "layer\u017f": []}'.encode(), ProblemKind.MANIFEST),
        (document()[:-1] + b', "schemaVersion": 2}', ProblemKind.MANIFEST),
        (document(mediaType=OCI["index"]), ProblemKind.MEDIA_TYPE),
        (document(config={**LAYER, "size": 3}), ProblemKind.MEDIA_TYPE),
        (document(layers=[{**LAYER, "mediaType": "text/html"}]), ProblemKind.MEDIA_TYPE),
        (
            document(layers=[{**LAYER, "mediaType": LAYER["mediaType"] + "+encrypted"}]),
            ProblemKind.MEDIA_TYPE,
        ),
        (document(layers=[{**LAYER, "urls": ["https://e.example/"]}]), ProblemKind.FOREIGN_LAYER),
        (
            document(
                layers=[
                    {
                        **LAYER,
                        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                    }
                ]
            ),
            ProblemKind.FOREIGN_LAYER,
        ),
        (document(layers=[{**LAYER, "digest": "sha256:../../etc/passwd"}]), ProblemKind.MANIFEST),
        (document(layers=[{**LAYER, "digest": DIGEST.upper()}]), ProblemKind.MANIFEST),
        (document(layers=[{**LAYER, "digest": DIGEST + "0"}]), ProblemKind.MANIFEST),
        (document(layers=[{**LAYER, "digest": DIGEST + "\n"}]), ProblemKind.MANIFEST),
        (document(layers=[{**LAYER, "size": -1}]), ProblemKind.MANIFEST),
        (document(layers=[{**LAYER, "size": "1"}]), ProblemKind.MANIFEST),
        (document(layers=[{**LAYER, "size": 1.0}]), ProblemKind.MANIFEST),
        (document(layers=[{**LAYER, "size": 999 << 40}]), ProblemKind.TOO_LARGE),
        (document(layers=[LAYER] * 126), ProblemKind.LAYER_COUNT),
        (
            document(config={**descriptor(b"", OCI["config"]), "size": 9 << 20}),
            ProblemKind.TOO_LARGE,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, ProblemKind) else "bytes",
)
def test_what_is_no_image_is_named(data: bytes, expected: ProblemKind) -> None:
    assert problem(data) is expected


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", ProblemKind.SCHEMA_1),
        (OCI["index"], ProblemKind.MEDIA_TYPE),
        ("application/vnd.cncf.helm.config.v1+json", ProblemKind.MEDIA_TYPE),
    ],
)
def test_the_registrys_word_may_not_contradict_the_bytes(
    media_type: str, expected: ProblemKind
) -> None:
    assert problem(document(), media_type) is expected


@pytest.mark.parametrize(
    "changes",
    [
        {"rootfs": {"type": "layers", "diff_ids": ["md5:0"]}},
        {"rootfs": {"type": "snapshot", "diff_ids": []}},
        {"rootfs": None},
        {"config": {"Env": [1]}},
        {"config": {"env": ["LD_PRELOAD=/x"]}},
        {"Config": {"Env": ["LD_PRELOAD=/x"]}},
        {"os": 1},
    ],
)
def test_a_malformed_configuration_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unfit) as caught:
        parse_config(make_image(config=changes).config, "configuration")
    assert caught.value.problem.kind is ProblemKind.CONFIG


def test_what_a_configuration_leaves_open_is_empty() -> None:
    nulls = {"Env": None, "Labels": None, "ExposedPorts": None, "User": None}
    for changes in ({"config": None}, {"config": {}}, {"config": nulls}):
        run = parse_config(make_image(config=changes).config, "configuration").run
        assert (run.variable("PATH"), run.label("x"), run.sets("PATH")) == ("", "", False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
parts = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["mediaType", "config", "layers", "manifests", "rootfs"], json_values),
        "schemaVersion": st.just(2) | json_values,
        "architecture": json_values,
        "os": json_values,
    },
)


@given(st.binary(max_size=200) | parts.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_named_as_a_problem(data: bytes) -> None:
    for read in (parse, parse_config):
        try:
            read(data, "here")
        except Unfit as unfit:
            assert str(unfit.problem).startswith("here: ")
