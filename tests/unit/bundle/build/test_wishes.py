"""Wishes and pins: what fits, what is stale, and what nobody has to be asked about."""

from __future__ import annotations

from typing import Any

import pytest

import pin_examples as pins
from aibox.bundle.build import wishes
from aibox.bundle.build.wishes import Standing, Want
from aibox.errors import BadUsage
from aibox.pins import Pin, State
from examples import profile

X86, BOTH = ("x86_64",), ("aarch64", "x86_64")


def standing(wish: Any, pin: Pin | None, architectures: tuple[str, ...] = X86) -> tuple[str, bool]:
    finding = wishes.compare(Want("kind", wish, architectures, ("local",)), pin)
    return finding.standing.value, finding.keeps


@pytest.mark.parametrize(
    ("wish", "pin"),
    [
        (pins.model_wish(), pins.model()),
        (pins.model_wish(revision=pins.COMMIT), pins.model()),
        (pins.model_wish(), pins.model(patterns=())),
        (pins.image_wish(), pins.image()),
        (pins.packages_wish(), pins.packages()),
        (pins.packages_wish(wanted=("b", "a")), pins.packages(wanted=("a", "b"))),
        (pins.file_wish(), pins.file()),
        (pins.file_wish(), pins.file(address=None)),
    ],
)
def test_a_pin_of_what_is_wished_for_fits(wish: Any, pin: Pin) -> None:
    assert standing(wish, pin)[0] == Standing.FITS


@pytest.mark.parametrize(
    ("wish", "pin", "text"),
    [
        (pins.model_wish(repository="a/b"), pins.model(), "repository is maker/small, wished a/b"),
        (pins.model_wish(revision=pins.NEWER), pins.model(), "revision is 111"),
        (pins.image_wish(reference="a.example/b:v2"), pins.image(), "reference is registry"),
        (pins.packages_wish(target="debian-12"), pins.packages(), "target is debian-13"),
        (pins.packages_wish(wanted=("podman",)), pins.packages(), "wanted is ['docker.io']"),
        (pins.packages_wish(kernels=("6.12",)), pins.packages(), "kernels is []"),
        (pins.packages_wish(), pins.packages(architecture="arm64"), "architecture is arm64"),
        (pins.packages_wish(format="rpm"), pins.packages(), "format is deb, wished rpm"),
        (pins.file_wish(filename="other.run"), pins.file(), "filename is driver.run"),
        (pins.file_wish(address="http://127.0.0.1/x"), pins.file(), "address is http"),
    ],
)  # fmt: skip
def test_a_pin_of_something_else_is_stale_and_moves(wish: Any, pin: Pin, text: str) -> None:
    finding = wishes.compare(Want("kind", wish, X86, ("local",)), pin)
    assert finding.standing is Standing.STALE
    assert not finding.keeps
    assert text in finding.detail


def test_other_patterns_or_platforms_are_completed_at_the_same_revision() -> None:
    assert standing(pins.model_wish(patterns=("*.gguf",)), pins.model()) == ("stale", True)
    assert standing(pins.image_wish(), pins.image(), BOTH) == ("stale", True)


def test_an_unresolved_pin_is_no_staleness() -> None:
    assert standing(pins.model_wish(), pins.unresolved_model()) == ("unresolved", True)
    unresolved = pins.image(state=State.UNRESOLVED, platforms=())
    assert standing(pins.image_wish(), unresolved, BOTH) == ("unresolved", True)


def test_a_wish_without_pin_is_missing() -> None:
    assert standing(pins.model_wish(), None) == ("missing", False)


def wishing(name: str, architectures: tuple[str, ...] = X86, **found: Any) -> Any:
    one = profile()
    requires = one.requires.model_copy(update={"architectures": architectures})
    return one.model_copy(update={"name": name, "requires": requires, **found})


def test_equal_wishes_of_several_profiles_are_one_for_all_their_hosts() -> None:
    found = wishes.collect(
        [
            wishing("a", image=(pins.image_wish(),)),
            wishing("b", ("aarch64",), image=(pins.image_wish(),)),
        ]
    )
    want = found["image", "engine"]
    assert want.profiles == ("a", "b")
    assert want.architectures == ("aarch64", "x86_64")


def test_different_wishes_of_one_name_are_refused_with_both_profiles() -> None:
    first = wishing("a", file=(pins.file_wish(),))
    second = wishing("b", file=(pins.file_wish(filename="other.run"),))
    with pytest.raises(BadUsage, match="profiles a and b") as caught:
        wishes.collect([first, second])
    assert caught.value.hint.endswith("./aibox profiles show b")


def test_one_name_may_be_of_several_kinds() -> None:
    found = wishes.collect(
        [wishing("a", image=(pins.image_wish("qdrant"),), file=(pins.file_wish("qdrant"),))]
    )
    assert list(found) == [("file", "qdrant"), ("image", "qdrant")]


def test_a_set_of_packages_is_of_one_architecture() -> None:
    with pytest.raises(BadUsage) as caught:
        wishes.collect([wishing("a", BOTH, packages=(pins.packages_wish(),))])
    assert caught.value.reference == "packages-of-many-architectures"


@pytest.mark.parametrize("pin", [pins.model(), pins.image(), pins.packages(), pins.file()])
def test_a_wish_made_of_a_pin_fits_it(pin: Pin) -> None:
    assert wishes.compare(wishes.want_of("kind", pin), pin).standing is Standing.FITS


def test_a_wish_made_of_an_arm_set_is_for_arm() -> None:
    assert wishes.want_of("packages", pins.packages(architecture="arm64")).architectures == (
        "aarch64",
    )


def test_a_file_without_address_cannot_be_moved_without_a_wish() -> None:
    with pytest.raises(BadUsage) as caught:
        wishes.want_of("file", pins.file(address=None))
    assert caught.value.reference == "upgrade-without-address"
