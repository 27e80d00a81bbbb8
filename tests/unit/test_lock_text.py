"""The text of models.lock: reads back as what it was, one line a file, the same every time."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pin_examples as pins
from aibox import lock as locks
from aibox.lock import ModelsLock
from aibox.pins import (
    Archive,
    FilePin,
    ImagePin,
    ImagePlatform,
    ModelFile,
    ModelPin,
    Package,
    PackageFormat,
    PackageSet,
    Redistribution,
    State,
)
from aibox.profile import Embedding
from examples import lock

TEXT = st.text(max_size=12)
NAMES = st.text("abc.-_1", min_size=1, max_size=8).map(lambda text: "a" + text)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
DIGESTS = st.sampled_from([pins.sha(letter) for letter in "abcd"])
SIZES = st.integers(0, 2**62)
BLOBS = st.builds(pins.Blob, sha256=DIGESTS, size=SIZES)
STATED: dict[str, Any] = {
    "name": NAMES,
    "licence": TEXT,
    "redistribution": st.sampled_from(Redistribution),
    "owner": TEXT,
    "source": TEXT,
    "state": st.just(State.UNRESOLVED),
}


def many(strategy: Any) -> Any:
    return st.lists(strategy, max_size=3).map(tuple)


def named(strategy: Any) -> Any:
    return st.lists(strategy, max_size=3, unique_by=lambda pin: pin.name).map(tuple)


MODELS = st.builds(
    ModelPin,
    **STATED,
    repository=st.sampled_from(["a/b", "Qwen/Qwen3-8B"]),
    revision=st.just("1" * 40),
    gated=st.booleans(),
    patterns=many(TEXT),
    files=many(
        st.builds(ModelFile, path=PATHS, size=st.none() | SIZES, sha256=st.none() | DIGESTS)
    ),
)
IMAGES = st.builds(
    ImagePin,
    **STATED,
    reference=st.just("registry.example/a:1"),
    digest=DIGESTS,
    platforms=many(
        st.builds(
            ImagePlatform,
            platform=st.sampled_from(["linux/amd64", "linux/arm64/v8"]),
            manifest=BLOBS,
            config=BLOBS,
            layers=many(BLOBS),
            requires_cuda=TEXT,
            exposed_ports=many(TEXT),
            user=TEXT,
        )
    ),
)
PACKAGES = st.builds(
    PackageSet,
    **STATED,
    format=st.sampled_from(PackageFormat),
    target=NAMES,
    architecture=TEXT,
    wanted=st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    kernels=many(TEXT),
    archives=many(
        st.builds(Archive, label=TEXT, suite=TEXT, components=many(TEXT), signed_by=many(TEXT))
    ),
    packages=many(
        st.builds(
            Package,
            name=TEXT,
            version=TEXT,
            architecture=TEXT,
            path=PATHS,
            size=st.integers(1, 2**62),
            sha256=DIGESTS,
            licence=TEXT,
        )
    ),
)
FILES = st.builds(
    FilePin,
    **STATED,
    address=st.none() | st.just("http://127.0.0.1/x?a='\"\\"),
    filename=PATHS,
    size=st.none() | SIZES,
    sha256=st.none() | DIGESTS,
)
EMBEDDINGS = st.dictionaries(
    TEXT, st.builds(Embedding, model=TEXT, dimension=st.integers(1, 65536)), max_size=2
)


@st.composite
def a_lock(draw: Any) -> ModelsLock:
    return lock().model_copy(
        update={
            "revision": draw(st.integers(0, 9)),
            "sequence": draw(st.integers(1, 2**31)),
            "date": draw(st.dates()),
            "embedding": draw(EMBEDDINGS),
            "tuning": {draw(TEXT): lock().tuning["local"]},
            "golden": draw(st.sampled_from([(), lock().golden])),
            "model": draw(named(MODELS)),
            "image": draw(named(IMAGES)),
            "packages": draw(named(PACKAGES)),
            "file": draw(named(FILES)),
        }
    )


@given(a_lock())
def test_any_lock_reads_back_as_it_was_written(made: ModelsLock) -> None:
    text = locks.dump(made)
    assert locks.parse(text) == made
    assert locks.dump(locks.parse(text)) == text


@given(a_lock())
def test_a_file_a_package_and_a_layer_take_one_line_each(made: ModelsLock) -> None:
    digests = sum(
        [len(pin.platforms) * 2 + sum(len(p.layers) for p in pin.platforms) for pin in made.image]
        + [sum(file.sha256 is not None for file in pin.files) for pin in made.model]
        + [len(pin.packages) for pin in made.packages]
    )
    lines = [line for line in locks.dump(made).splitlines() if "sha256 = " in line]
    own = len(made.tree[0].files) + len(made.wheel[0].files)
    assert len(lines) == digests + own + sum(pin.sha256 is not None for pin in made.file)


def test_what_is_not_known_of_a_pin_takes_no_line() -> None:
    made = lock().model_copy(update={"model": (pins.unresolved_model(),)})
    text = locks.dump(made)
    entry = text[text.index("[[model]]") :].splitlines()
    assert entry[:3] == ["[[model]]", 'name = "small"', 'state = "unresolved"']
    assert len(entry) == 9
    assert not [line for line in entry if line.startswith(("files", "patterns", "gated"))]


def test_a_resolved_pin_says_so() -> None:
    made = lock().model_copy(update={"file": (pins.file(),)})
    assert tomllib.loads(locks.dump(made))["file"][0]["state"] == "resolved"


@pytest.mark.parametrize("key", ["model", "image", "packages", "file", "sequence", "date"])
def test_a_lock_of_before_there_were_such_keys_still_loads(key: str) -> None:
    old = tomllib.loads(locks.dump(lock()))
    del old[key]
    assert ModelsLock.model_validate(old) is not None
