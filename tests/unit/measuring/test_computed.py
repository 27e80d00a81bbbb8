"""What is computed of an engine in a box is what `aibox fit` says of its profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aibox import content, lock
from aibox import profile as profiles
from aibox import release as releases
from aibox.fit import catalogue, question
from aibox.fit.answer import Answer
from aibox.fit.catalogue import Catalogue
from aibox.fit.engine import GIB, MIB
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment
from aibox.measuring import computed
from aibox.measuring.computed import Computed
from aibox.profile import Profile
from aibox.release import Release

PROJECT = content.find()
TWO = [
    name
    for name in profiles.names(PROJECT.profiles)
    if "small" in profiles.load(PROJECT.profiles, name).serving
]


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return catalogue.load(PROJECT.catalogue)


def of_project(name: str) -> tuple[Profile, Release]:
    profile = profiles.load(PROJECT.profiles, name)
    return profile, releases.make(lock.load(PROJECT.lockfile), profile)


def models(folder: Path, known: Catalogue, profile: Profile) -> Path:
    """The models of a profile as a box has them, but for their weights, which are counted then."""
    for wish in profile.model:
        entry = known.model(wish.name) or known.model(wish.repository)
        assert entry is not None
        shape = {"architectures": [entry.architecture], **known.config(entry)}
        path = folder / wish.name / "config.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(shape))
    return folder


def of_box(folder: Path, release: Release, service: str, memory_mib: int | None) -> Computed:
    memory = [memory_mib] * len(release.serving[service].gpus)
    return computed.of_release(PROJECT.catalogue, folder, release, service, "0.31.0", memory)


def memory(found: Answer) -> tuple[int, int]:
    return found.low.memory, found.high.memory


@pytest.mark.parametrize("name", TWO)
def test_each_engine_beside_the_others_is_computed_as_for_its_profile(
    tmp_path: Path, known: Catalogue, name: str
) -> None:
    profile, release = of_project(name)
    folder = models(tmp_path, known, profile)
    wanted = question.of_profile(Sources(known), profile, Adjustment())
    for service in ("chat", "small"):
        found = of_box(folder, release, service, None)
        assert found.answer is not None, found.unknown
        assert memory(found.answer) == memory(wanted[service])
        assert found.answer.weights_per_gpu == wanted[service].weights_per_gpu
        beside, expected = (
            {one.name: (one.low, one.high) for one in answer.ask.neighbours}
            for answer in (found.answer, wanted[service])
        )
        assert beside.keys() == expected.keys()
        for other, ends in beside.items():
            assert ends == pytest.approx(expected[other], rel=0.02), other


def test_a_larger_card_wants_more_of_itself_to_stay_free(tmp_path: Path, known: Catalogue) -> None:
    profile, release = of_project("a100x1")
    folder = models(tmp_path, known, profile)
    (least,) = of_box(folder, release, "chat", None).needed
    (real,) = of_box(folder, release, "chat", 81_920).needed
    (larger,) = of_box(folder, release, "chat", 2 * 81_920).needed
    assert least is not None
    assert real is not None
    assert larger is not None
    assert GIB < least < real < larger
    assert larger - real == pytest.approx(0.105 * 81_920 * MIB, abs=2), "the share of the small one"


def test_on_a_card_of_its_own_nothing_is_needed(tmp_path: Path) -> None:
    _, release = of_project("a100x1")
    alone = release.model_copy(update={"serving": {"chat": release.serving["chat"]}})
    found = of_box(tmp_path, alone, "chat", None)
    assert (found.answer, found.needed) == (None, (0,)), "there are no files to compute it from"
    assert found.unknown
