from __future__ import annotations

from pathlib import Path

import pytest

from aibox.box.compose_file import ComposeService, images, ordered, parse, read
from aibox.errors import NeedsPerson
from containers_double import IMAGE, compose_text, write_generation


def test_services_come_in_the_order_in_which_they_start() -> None:
    text = compose_text({"gateway": "a", "extra": "b", "chat": "c", "qdrant": "d"})
    assert parse(text) == (
        ComposeService("qdrant", IMAGE, "d"),
        ComposeService("chat", IMAGE, "c"),
        ComposeService("extra", IMAGE, "b"),
        ComposeService("gateway", IMAGE, "a"),
    )


def test_labels_may_be_a_list() -> None:
    text = "services: {web: {image: a/b:c, labels: [x, io.aibox.inputs=abc=d]}}"
    assert parse(text) == (ComposeService("web", "a/b:c", "abc=d"),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no services"),
        ("services: []", "names no services"),
        ("services: {}", "names no services"),
        ("services: {web: {labels: {io.aibox.inputs: a}}}", "web names no image"),
        ("services: {web: {image: a}}", "web has no label"),
        ("services: {web: {image: a, labels: {io.aibox.inputs: }}}", "web has no label"),
        ("services: {web: null}", "web names no image"),
        ("services: {web: &a [*a", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_a_file_that_lacks_something_is_told_in_one_line(
    text: str, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(text)
    with pytest.raises(NeedsPerson) as caught:
        read(file)
    assert why in caught.value.context
    assert "\n" not in caught.value.context


def test_a_missing_file_needs_a_person(tmp_path: Path) -> None:
    with pytest.raises(NeedsPerson, match="does not say what to run"):
        read(tmp_path / "none")


def test_the_images_of_a_generation_are_known_also_where_there_are_none(tmp_path: Path) -> None:
    write_generation(tmp_path, 1, {"web": "a", "chat": "b"})
    (tmp_path / "gens/2").mkdir()
    assert images(tmp_path / "gens/1") == {IMAGE}
    assert images(tmp_path / "gens/2") == frozenset()


def test_order_is_total_and_stable() -> None:
    assert ordered({"z", "gateway", "a", "web"}) == ["web", "a", "z", "gateway"]
