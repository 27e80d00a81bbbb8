"""What each profile promises to hold, it holds: computed, with all that shares its cards."""

from __future__ import annotations

import re

import pytest

from aibox import content, lock
from aibox import profile as profiles
from aibox.fit import catalogue, question
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment
from aibox.profile import Profile
from aibox.serving import SHARE

CONTENT = content.find()
SOURCES = Sources(catalogue.load(CONTENT.catalogue), lock.load(CONTENT.lockfile))
LOADED = {name: profiles.load(CONTENT.profiles, name) for name in profiles.names(CONTENT.profiles)}
SERVING = {name: one for name, one in LOADED.items() if one.serving}
WITH_GPUS = {name: one for name, one in SERVING.items() if one.hardware is not None}
# Where a value comes from: a start or a run on such a machine, its maker's advice, or arithmetic.
TOLD = re.compile(r"#.*\b(measured|recipe|derived)\b")
# Tables whose every value is a decision about the machine.
TUNED = re.compile(r"\[(capacity|serving\.\w+\.arguments)\]")
WITH_SMALL = {name: one for name, one in SERVING.items() if "small" in one.serving}
USUAL = 4096
"""Tokens of a usual question with its passages and its answer, as `aibox fit` tells them."""
SYSTEM, ATTRIBUTES = 700, 30
"""Tokens of the system text and the question's frame, and of what names a passage."""
RESERVE = 0.04
"""Share of a card that nobody may take: its driver's, and what an engine does not measure."""


@pytest.mark.parametrize("name", SERVING)
def test_every_engine_fits_at_what_the_profile_promises(name: str) -> None:
    profile = SERVING[name]
    assert profile.capacity is not None
    found = question.of_profile(SOURCES, profile, Adjustment())
    assert set(found) == set(profile.serving)
    assert {service: one.fits for service, one in found.items()} == dict.fromkeys(found, True)
    chat = found["chat"]
    assert chat.ask.concurrency == profile.capacity.concurrency
    assert chat.context == profile.capacity.context_tokens
    assert not chat.obstacles


@pytest.mark.parametrize("name", SERVING)
def test_it_would_not_hold_twice_as_much(name: str) -> None:
    """A promise far below what the machine holds would hide that values are wrong."""
    profile = SERVING[name]
    assert profile.capacity is not None
    twice = Adjustment(concurrency=2 * profile.capacity.concurrency)
    assert not question.of_profile(SOURCES, profile, twice)["chat"].fits


@pytest.mark.parametrize("name", WITH_GPUS)
def test_searching_by_meaning_and_ranking_have_their_place_on_the_cards(name: str) -> None:
    profile = WITH_GPUS[name]
    assert {"chat", "embedding", "rerank"} <= set(profile.serving)
    assert profile.rerank is not None
    assert profile.rerank.candidates == 5 * profile.tuning.top_k
    found = question.of_profile(SOURCES, profile, Adjustment())
    # Each is counted where the other is, on the card that holds most.
    assert found["chat"].ask.neighbours
    for service in ("embedding", "rerank"):
        assert "chat" in {one.name for one in found[service].ask.neighbours}


def test_only_where_it_finds_no_place_there_is_no_small_model() -> None:
    without = {name for name, one in SERVING.items() if "small" not in one.serving}
    assert without == {"rtx4090x1", "cpu"}
    for name in without:
        text = (CONTENT.profiles / f"{name}.toml").read_text(encoding="utf-8")
        assert "No small model" in text, "the reason stands in the profile"


@pytest.mark.parametrize("name", WITH_SMALL)
def test_the_small_model_holds_what_is_asked_of_it_and_keeps_out_of_the_large_ones_way(
    name: str,
) -> None:
    profile = WITH_SMALL[name]
    found = question.of_profile(SOURCES, profile, Adjustment())
    chat, small = found["chat"], found["small"]
    assert "chat" in {one.name for one in small.ask.neighbours}
    # Two usual questions at once: a few hundred tokens each beside their passages and the answer.
    assert small.low.tokens >= 2 * USUAL
    assert small.weights_per_gpu < chat.weights_per_gpu * len(profile.serving["chat"].gpus) / 4
    # The longest prompt that the router lets through: its characters as tokens, the worst there is.
    tuning = profile.tuning
    assert tuning.router_max_characters and tuning.router_max_turns == 0
    passages = tuning.top_k * (tuning.chunk_size + ATTRIBUTES)
    longest = SYSTEM + tuning.router_max_characters + passages + tuning.max_answer_tokens
    assert longest <= small.context


@pytest.mark.parametrize("name", WITH_GPUS)
def test_a_part_of_every_card_stays_free(name: str) -> None:
    for index, shares in shares_of(WITH_GPUS[name]).items():
        assert round(sum(shares), 6) <= 1 - RESERVE, f"GPU {index}"


def shares_of(profile: Profile) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for one in profile.serving.values():
        for index in one.gpus:
            found.setdefault(index, []).append(float(one.arguments[SHARE]))
    return found


@pytest.mark.parametrize("name", SERVING)
def test_every_tuned_value_says_where_it_comes_from(name: str) -> None:
    silent, tuned = [], False
    for line in (CONTENT.profiles / f"{name}.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            tuned = bool(TUNED.match(line))
        elif tuned and "=" in line and not line.startswith("#") and not TOLD.search(line):
            silent.append(line)
    assert silent == []
