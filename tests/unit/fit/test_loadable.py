"""Models that the pinned engine cannot load are refused: the reason, and what to take instead."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest

import small_project
import stack_examples as stacks
from aibox import content as contents
from aibox import locking
from aibox import profile as profiles
from aibox.content import Content
from aibox.errors import BadUsage
from aibox.fit import catalogue, loadable
from pin_examples import DoubleOfResolvers
from small_project import pylock

CATALOGUE = contents.find().catalogue
KNOWN = catalogue.load(CATALOGUE)
DAY = datetime.date(2026, 11, 1)


def text(repository: str, tag: str = "v0.31.0") -> str:
    """A profile that serves this model with the engine of this tag."""
    made = stacks.profile_text().replace('"a/small"', f'"{repository}"')
    return made.replace('"r.example/vllm:1"', f'"r.example/vllm-openai:{tag}"')


@pytest.mark.parametrize(
    ("repository", "tag", "reason"),
    [
        ("LGAI-EXAONE/K-EXAONE-236B-A23B", "v0.13.0", "from 0.14.0 on; the pinned one is 0.13.0"),
        ("upstage/Solar-Open-100B", "v0.31.0", "has no class for Solar Open"),
        ("upstage/Solar-Open-100B", "latest", "has no class for Solar Open"),
        (
            "naver-hyperclovax/HyperCLOVAX-SEED-Vision-Instruct-3B",
            "v0.31.0",
            "up to 0.28.0; the pinned one is 0.31.0",
        ),
    ],
)
def test_why_not_is_said(repository: str, tag: str, reason: str) -> None:
    (found,) = loadable.of_profile(KNOWN, stacks.profile(text(repository, tag)))
    assert (found.profile, found.service) == ("cpu", "chat")
    assert reason in str(found)


@pytest.mark.parametrize(
    ("repository", "tag"),
    [
        ("LGAI-EXAONE/K-EXAONE-236B-A23B", "v0.14.0"),
        ("LGAI-EXAONE/K-EXAONE-236B-A23B", "v0.31.0-cu129"),
        ("LGAI-EXAONE/K-EXAONE-236B-A23B", "latest"),
        ("Qwen/Qwen3-32B-AWQ", "v0.31.0"),
        ("somebody/made-it-yesterday", "v0.31.0"),
    ],
)
def test_nothing_speaks_against_what_the_engine_has_or_nobody_knows(
    repository: str, tag: str
) -> None:
    assert loadable.of_profile(KNOWN, stacks.profile(text(repository, tag))) == ()


@pytest.mark.parametrize("name", profiles.names(contents.find().profiles))
def test_every_profile_can_be_loaded(name: str) -> None:
    assert loadable.of_profile(KNOWN, profiles.load(contents.find().profiles, name)) == ()


def refused() -> pytest.RaisesExc[BadUsage]:
    return pytest.raises(BadUsage, match=r"'cpu' cannot be served as it is: serving\.chat: solar")


def test_an_installation_is_refused_with_the_alternative() -> None:
    made = stacks.release()
    wish = made.models[-1].model_copy(update={"repository": "upstage/Solar-Open-100B"})
    assert wish.name == "vectors"
    solar = [
        one.model_copy(update={"repository": "upstage/Solar-Open-100B"}) for one in made.models
    ]
    with refused() as caught:
        loadable.refuse_release(CATALOGUE, made.model_copy(update={"models": tuple(solar)}))
    assert caught.value.reference == "model-not-loadable"
    assert "a.x-4.0" in str(caught.value.hint)
    assert str(caught.value.hint).endswith("./aibox fit --list")
    loadable.refuse_release(CATALOGUE, made)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    made = small_project.make(tmp_path)
    shutil.copytree(CATALOGUE, made.catalogue)
    (made.profiles / "cpu.toml").write_text(text("upstage/Solar-Open-100B"), encoding="utf-8")
    return made


def test_nobody_is_asked_for_a_model_that_cannot_be_loaded(content: Content) -> None:
    asked = DoubleOfResolvers(pylock(("one", "1.0", "one")))
    with refused():
        locking.update(content, ("cpu",), (), lambda _: None, asked.resolvers(), DAY)
    assert not content.lockfile.exists()
    locking.update(content, ("local",), (), lambda _: None, asked.resolvers(), DAY)
    with refused():
        locking.check(content, ("cpu",))


def test_a_profile_without_a_model_needs_no_catalogue(tmp_path: Path) -> None:
    made = small_project.make(tmp_path)
    assert not made.catalogue.exists()
    loadable.refuse_profiles(made.catalogue, [profiles.load(made.profiles, "local")])
