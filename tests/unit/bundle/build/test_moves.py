"""Upgrades by name: one entry, or a refusal that names what is near."""

from __future__ import annotations

import pytest

import pin_examples as pins
from aibox.bundle.build import moves
from aibox.errors import BadUsage, VerificationRefused
from aibox.pins import ModelFile
from examples import lock

LOCK = lock().model_copy(
    update={
        "model": (pins.model("qwen3-8b"), pins.model("qwen3-14b"), pins.model("example")),
        "image": (pins.image("qdrant-1.19.1"),),
        "file": (pins.file("driver"),),
    }
)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("qwen3-8b", ("model", "qwen3-8b")),
        ("qdrant-1.19.1", ("image", "qdrant-1.19.1")),
        ("wheel/example", ("wheel", "example")),
        ("wheel/Example", ("wheel", "example")),
        ("model/example", ("model", "example")),
    ],
)
def test_a_name_finds_its_entry(name: str, key: tuple[str, str]) -> None:
    assert moves.find([name], LOCK, {}) == {key}


def test_a_name_of_two_kinds_must_say_which() -> None:
    with pytest.raises(BadUsage) as caught:
        moves.find(["example"], LOCK, {})
    assert caught.value.context == "they are: model/example, wheel/example"
    assert caught.value.hint.endswith("./aibox lock --upgrade model/example")


def test_an_unknown_name_shows_what_is_near_by_kind() -> None:
    with pytest.raises(BadUsage) as caught:
        moves.find(["qwen-8b"], LOCK, {})
    assert caught.value.reference == "upgrade-unknown"
    assert caught.value.context == "model: qwen3-8b, qwen3-14b"


def test_a_name_like_no_other_shows_some_of_each_kind() -> None:
    with pytest.raises(BadUsage) as caught:
        moves.find(["zzzzzz"], LOCK, {})
    assert "image: qdrant-1.19.1; model: " in caught.value.context


def test_completing_a_pin_may_add_to_what_was_known() -> None:
    known = pins.unresolved_model(files=(ModelFile(path="config.json", size=6),))
    moves.refuse_other_bytes(known, pins.model())


@pytest.mark.parametrize(
    "known",
    [
        pins.unresolved_model(revision=pins.NEWER),
        pins.unresolved_model(files=(ModelFile(path="config.json", size=7),)),
        pins.unresolved_model(files=(ModelFile(path="config.json", sha256=pins.sha("x")),)),
    ],
)
def test_completing_a_pin_may_not_change_what_was_known(known: pins.ModelPin) -> None:
    with pytest.raises(VerificationRefused, match="small is not what"):
        moves.refuse_other_bytes(known, pins.model())


def test_an_image_and_a_file_keep_their_digest() -> None:
    for known, found in (
        (pins.image(), pins.image(digest=pins.sha("other"))),
        (pins.file(), pins.file(sha256=pins.sha("other"))),
    ):
        moves.refuse_other_bytes(known, known)
        with pytest.raises(VerificationRefused):
            moves.refuse_other_bytes(known, found)
