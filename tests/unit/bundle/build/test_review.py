"""What `aibox lock` shows: every kind of change by name, with what a reviewer has to know."""

from __future__ import annotations

from typing import Any

import pin_examples as pins
from aibox.bundle.build import review, wishes
from aibox.lock import ModelsLock
from aibox.pins import Redistribution
from examples import lock, profile


def with_pins(**found: Any) -> ModelsLock:
    return lock().model_copy(update=found)


def shown(before: ModelsLock, after: ModelsLock) -> dict[str, tuple[str, str]]:
    return {item.name: (item.current, item.desired) for item in review.changes(before, after)}


def test_the_same_lock_differs_in_nothing() -> None:
    full = with_pins(model=(pins.model(),), image=(pins.image(),), packages=(pins.packages(),))
    assert review.changes(full, full) == ()


def test_an_entry_that_is_new_is_one_row_with_size_licence_and_class() -> None:
    found = shown(with_pins(), with_pins(model=(pins.model(),)))
    assert found == {
        "model.small": (
            "(none)",
            "maker/small, 111111111111, 7.0 MB in 2 files, Apache-2.0, allow, resolved",
        )
    }


def test_an_entry_that_goes_is_one_row() -> None:
    assert list(shown(with_pins(file=(pins.file(),)), with_pins())) == ["file.driver"]


def test_a_moved_model_shows_revision_size_licence_class_and_files() -> None:
    files = (pins.model().files[0], pins.ModelFile(path="w.gguf", size=1, sha256=pins.sha("w")))
    moved = pins.model(
        revision=pins.NEWER,
        licence="cc-by-nc-4.0",
        redistribution=Redistribution.FORBID,
        files=files,
    )
    assert shown(with_pins(model=(pins.model(),)), with_pins(model=(moved,))) == {
        "model.small revision": ("111111111111", "222222222222"),
        "model.small size": ("7.0 MB in 2 files", "7 bytes in 2 files"),
        "model.small licence": ("Apache-2.0", "cc-by-nc-4.0"),
        "model.small redistribution": ("allow", "forbid"),
        "model.small : model.safetensors": (pins.sha("weights")[:12], "(none)"),
        "model.small : w.gguf": ("(none)", pins.sha("w")[:12]),
    }


def test_a_moved_image_shows_its_digest_and_those_of_its_platforms() -> None:
    moved = pins.image(digest=pins.sha("x"), platforms=(pins.platform(seed="x"),))
    assert set(shown(with_pins(image=(pins.image(),)), with_pins(image=(moved,)))) == {
        "image.engine digest",
        "image.engine size",
        "image.engine : linux/amd64",
    }


def test_a_moved_package_of_a_set_shows_its_version() -> None:
    one = pins.packages().packages[0]
    newer = pins.packages(packages=(one.model_copy(update={"version": "27.0-1"}),))
    found = shown(with_pins(packages=(pins.packages(),)), with_pins(packages=(newer,)))
    digest = one.sha256[:12]
    assert found == {
        "packages.docker : docker.io:amd64": (f"26.1.5-1 {digest}", f"27.0-1 {digest}")
    }


def test_a_moved_package_of_python_shows_its_version() -> None:
    moved = lock().wheel[0].model_copy(update={"version": "2.0"})
    assert shown(lock(), lock().model_copy(update={"wheel": (moved,)})) == {
        "wheel.example": ("1.0", "2.0")
    }


def test_tuning_and_files_of_the_project_are_shown() -> None:
    tuning = {"local": lock().tuning["local"].model_copy(update={"top_k": 9})}
    tree = lock().tree[0]
    changed = tree.files[0].model_copy(update={"sha256": "b" * 64})
    after = lock().model_copy(
        update={"tuning": tuning, "tree": (tree.model_copy(update={"files": (changed,)}),)}
    )
    assert shown(lock(), after) == {
        "tuning.local.top_k": ("6", "9"),
        "prompts/system.txt": ("a" * 12, "b" * 12),
    }


def test_findings_name_what_profiles_wish_for_and_the_lock_lacks() -> None:
    one = profile().model_copy(
        update={
            "model": (pins.model_wish(), pins.model_wish("later")),
            "image": (pins.image_wish(reference="registry.example/maker/engine:v2"),),
            "file": (pins.file_wish(),),
        }
    )
    found = review.findings(
        with_pins(model=(pins.unresolved_model(),), image=(pins.image(),), file=(pins.file(),)),
        wishes.collect([one]),
    )
    assert {item.name: item.state.value for item in found} == {
        "model.small": "unresolved",
        "model.later": "missing",
        "image.engine": "stale",
    }
    assert [item.out_of_date for item in found] == [True, True, False]
    assert {item.desired for item in found} == {"as wished by local"}
