"""Bytes counted from the shape of a model, against the sizes of real weights."""

from __future__ import annotations

import pytest

from aibox import content, lock
from aibox.fit import catalogue, models, parameters
from aibox.pins import ModelPin

CONTENT = content.find()
CATALOGUE = catalogue.load(CONTENT.catalogue)
LOCK = lock.load(CONTENT.lockfile)


def size(pin: ModelPin) -> int:
    files = [file for file in pin.files if file.path.endswith(".safetensors")]
    return 0 if any(file.size is None for file in files) else sum(file.size or 0 for file in files)


# Models whose weights the lock has the size of. Left out are those in 32 bits (halved when they
# are loaded) and Qwen3-0.6B, whose file has its one table of words twice.
SIZES = {
    entry.name: size(pin)
    for entry in CATALOGUE.models
    for pin in LOCK.model
    if pin.repository == entry.repository and size(pin) and CATALOGUE.config(entry)
    if CATALOGUE.config(entry).get("dtype") != "float32" and "0.6b" not in entry.name
}


def test_the_lock_has_enough_sizes_to_compare_with() -> None:
    assert len(SIZES) >= 8


@pytest.mark.parametrize("name", sorted(SIZES))
def test_what_is_counted_is_what_the_weights_are(name: str) -> None:
    entry = CATALOGUE.model(name)
    assert entry is not None
    shape = models.shape_of(CATALOGUE, entry)
    form = shape.quantised.form if shape.quantised else "none"
    assert parameters.bytes_of(shape, form) == pytest.approx(SIZES[name], rel=0.01)


# What makers publish of a model in whole, in billions of numbers.
PUBLISHED = {
    "qwen3-235b-a22b-instruct-2507-fp8": 235,
    "qwen3.6-27b": 27.8,
    "gpt-oss-120b": 116.8,
    "k-exaone-236b-a23b": 236,
    "a.x-k1": 519,
    "exaone-4.0-32b": 32,
    "llama-3.3-70b-instruct": 70.6,
    "qwen2.5-72b-instruct": 72.7,
    "exaone-4.5-33b": 34.35,
    "hyperclovax-seed-think-14b": 14.748,
    "hyperclovax-seed-think-32b": 33.313,
    "a.x-3.1-light": 7.265,
    "a.x-4.0-light": 7.26,
    "solar-pro-preview-instruct": 22.1,
    "solar-10.7b-instruct-v1.0": 10.732,
    "phi-4-mini-instruct": 3.836,
    "ministral-3-14b-instruct-2512": 13.945,
    "kanana-2-3b-instruct": 3.509,
    "mistral-small-4-119b-2603": 119.401,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_numbers_of_a_model_are_those_its_makers_publish(name: str) -> None:
    entry = CATALOGUE.model(name)
    assert entry is not None
    counted = parameters.count(models.shape_of(CATALOGUE, entry)).total
    assert counted / 1e9 == pytest.approx(PUBLISHED[name], rel=0.01)


# How many numbers the headers of the files themselves have, norms and biases included.
IN_HEADERS = {
    "kanana-1.5-8b-instruct-2505": 8_030_285_824,
    "kanana-1.5-2.1b-instruct-2505": 2_316_824_832,
    "kanana-2-30b-a3b-instruct-2601": 30_670_809_088,
    "kanana-2-30b-a3b-thinking-2601": 30_670_809_088,
    "midm-2.0-base-instruct": 11_545_677_824,
    "midm-2.0-mini-instruct": 2_305_517_312,
    "tri-7b": 7_526_944_768,
    "hyperclovax-seed-text-instruct-0.5b": 566_281_216,
    "vaetki-100b-a10b": 112_191_900_672,
    "a.x-k1": 518_983_059_456,
    "solar-open-100b": 102_651_793_408,
    "smollm3-3b": 3_075_098_624,
    "qwen3-embedding-0.6b": 595_776_512,
    "qwen3-embedding-4b": 4_021_774_336,
    "qwen3-embedding-8b": 7_567_295_488,
}


@pytest.mark.parametrize("name", IN_HEADERS)
def test_numbers_of_the_files_are_met_but_for_norms_and_biases(name: str) -> None:
    entry = CATALOGUE.model(name)
    assert entry is not None
    counted = parameters.count(models.shape_of(CATALOGUE, entry)).total
    assert counted <= IN_HEADERS[name]
    assert counted == pytest.approx(IN_HEADERS[name], rel=0.0002)


def test_a_format_that_is_not_known_is_not_counted() -> None:
    entry = CATALOGUE.model("qwen3-8b")
    assert entry is not None
    assert parameters.bytes_of(models.shape_of(CATALOGUE, entry), "three and a half bits") is None
