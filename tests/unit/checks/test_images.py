"""Images against driver and cards; numbers are rows of the list of known failures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.checks import cuda, images
from aibox.checks.evidence import Evidence, Image, Source
from aibox.preflight import Status
from gpu_texts import CARDS, HOST, SMI, WANTED, evidence, saying, states

# As NVIDIA's own images of CUDA write it: a floor, or drivers of older branches that also serve.
REQUIRES_12_8 = (
    "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=tesla,driver>=550,driver<551 "
    "brand=nvidia,driver>=550,driver<551"
)
REQUIRES_13 = "cuda>=13.0"


@pytest.mark.parametrize(
    ("requirement", "facts", "expected"),
    [
        ("", {"cuda": "11.0"}, True),
        ("cuda>=12.8", {"cuda": "12.8"}, True),
        ("cuda>=12.8", {"cuda": "13.0"}, True),
        ("cuda>=12.8", {"cuda": "12.4"}, False),
        ("cuda>=12.8", {"cuda": "9.2"}, False),
        ("cuda>=12.8,driver>=580", {"cuda": "12.8", "driver": "570.1"}, False),
        (REQUIRES_12_8, {"cuda": "12.4", "driver": "550.54.14", "brand": "tesla"}, True),
        (REQUIRES_12_8, {"cuda": "12.4", "driver": "550.54.14", "brand": "geforce"}, False),
        (REQUIRES_12_8, {"cuda": "12.4", "driver": "551.1", "brand": "tesla"}, False),
        ("driver<551", {"driver": "551"}, False),
        ("driver<=551 arch=sm_90", {"driver": "552"}, True),
        ("cuda!=12.4", {"cuda": "12.4"}, False),
        ("cuda=12.4", {"cuda": "12.4.0"}, True),
        ("nonsense", {"cuda": "12.4"}, True),
        ("cuda>=13.0", {}, True),
    ],
)
def test_36_what_an_image_requires(requirement: str, facts: dict[str, str], expected: bool) -> None:
    assert cuda.satisfied(requirement, facts) is expected


@given(st.text(), st.dictionaries(st.sampled_from(["cuda", "driver", "brand"]), st.text()))
def test_no_requirement_makes_it_raise(requirement: str, facts: dict[str, str]) -> None:
    cuda.satisfied(requirement, facts)
    cuda.wanted(requirement)


@pytest.mark.parametrize(
    ("number", "driver"), [((13, 3), (580, 65, 6)), ((12, 9), (525,)), ((10, 2), ())]
)
def test_the_first_driver_of_a_cuda(number: tuple[int, ...], driver: tuple[int, ...]) -> None:
    assert cuda.first_driver(number) == driver


def test_brands_as_requirements_write_them() -> None:
    assert [cuda.brand(one) for one in ("NVIDIA RTX", "GeForce", "Tesla")] == [
        *("nvidiartx", "geforce", "tesla")
    ]


def host(driver: str = "580.95.05", speaks: str = "13.0", **card: object) -> Evidence:
    gpus = tuple(replace(one, **card) for one in CARDS)  # type: ignore[arg-type]
    text = SMI.replace(
        "CUDA Version                              : 12.4", f"CUDA Version : {speaks}"
    )
    known = evidence(replace(HOST, driver=driver, gpus=gpus))
    return saying(Source.CARDS, text, known)


def judged(known: Evidence, requires: str, reference: str = "registry/engine:1") -> Evidence:
    return replace(known, images=(Image("engine", reference, requires),))


@pytest.mark.parametrize(
    ("known", "requires", "expected", "told"),
    [
        (host(), REQUIRES_13, Status.OK, "CUDA 13.0"),
        (host("570.158.01", "12.8"), REQUIRES_13, Status.VETO, "CUDA 13.0 on driver 570.158.01"),
        (host("550.54.14", "12.4"), REQUIRES_12_8, Status.OK, "CUDA 12.8"),
        (host("551.2", "12.4"), REQUIRES_12_8, Status.VETO, "does not fulfil: cuda>=12.8"),
        (host(capability=(12, 0)), "cuda>=12.6", Status.VETO, "12.8 is the first for it"),
        (host(capability=(12, 0)), REQUIRES_13, Status.OK, "CUDA 13.0"),
        (host(capability=(7, 0)), REQUIRES_13, Status.VETO, "older than 7.5"),
        (host(capability=None), REQUIRES_13, Status.OK, "CUDA 13.0"),
    ],
    ids=["fits", "3", "36 by branch", "36", "4 newer", "4 fits", "4 older", "not known"],
)
def test_an_image_fits_driver_and_cards(
    known: Evidence, requires: str, expected: Status, told: str
) -> None:
    (found,) = images.examine(judged(known, requires))
    assert (found.check, found.status) == ("image engine", expected)
    assert told in found.found


@pytest.mark.parametrize(
    ("requires", "least", "expected"),
    [
        (REQUIRES_13, "580.65.06", []),
        (REQUIRES_13, "570.158.01", [Status.VETO]),
        (REQUIRES_12_8, "570.158.01", []),
        ("", "450.80.02", []),
    ],
)
def test_3_a_release_whose_driver_does_not_run_its_image(
    requires: str, least: str, expected: list[Status]
) -> None:
    wanted = WANTED.model_copy(update={"driver_min": least})
    known = replace(judged(host(), requires), wanted=wanted)
    assert states(list(images.of_release(known))) == expected
    assert list(images.of_release(replace(known, wanted=None))) == []


def test_2_geforce_cards_have_no_compatibility_libraries() -> None:
    known = host("570.158.01", "12.8", name="NVIDIA GeForce RTX 4090", capability=(8, 9))
    (found,) = images.examine(judged(known, REQUIRES_13))
    assert "Error 804" in found.found
    (other,) = images.examine(judged(host("570.158.01", "12.8"), REQUIRES_13))
    assert "Error 804" not in other.found


@pytest.mark.parametrize(
    ("tag", "capability", "expected"),
    [
        ("1.9", (8, 0), []),
        ("1.9", (9, 0), [Status.WARN]),
        ("hopper-1.9", (9, 0), []),
        ("89-1.9", (8, 9), []),
        ("turing-1.9", (8, 9), [Status.WARN]),
        ("cpu-1.9", (9, 0), []),
    ],
)
def test_38_images_that_are_built_for_one_generation(
    tag: str, capability: tuple[int, int], expected: list[Status]
) -> None:
    known = judged(host(capability=capability), "", f"ghcr.io/x/text-embeddings-inference:{tag}")
    assert states(list(images.examine(known))) == expected


def test_before_there_is_a_driver_images_are_not_judged() -> None:
    assert list(images.examine(judged(host(""), REQUIRES_13))) == []


def test_an_image_that_asks_for_no_cuda_is_not_told_of() -> None:
    assert list(images.examine(judged(host(), ""))) == []
