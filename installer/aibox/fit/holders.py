"""Which profiles' machines could hold a model, whatever they serve now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aibox import profile as profiles
from aibox.errors import BadUsage
from aibox.fit import answer, cards, models, question, report
from aibox.fit.advice import longest_context
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment
from aibox.profile import Profile


def pinned_release(folder: Path) -> str:
    """The engine's newest release that profiles with GPUs pin; "" when none does."""
    found = {
        question.release_of(one, item.image)
        for one in _loaded(folder)
        if one.hardware
        for item in one.serving.values()
    }
    return max(found - {""}, key=lambda text: [int(part) for part in text.split(".")], default="")


def of_model(sources: Sources, name: str, folder: Path) -> list[dict[str, object]]:
    """A row for each profile with GPUs: whether its machine holds the model, and how.

    The context is the model's own, or the longest that surely fits. Raises `BadUsage` where the
    model itself cannot be computed with.
    """
    models.known(sources, name)
    return [_row(sources, name, one) for one in _loaded(folder) if one.hardware]


def _row(sources: Sources, name: str, profile: Profile) -> dict[str, object]:
    wanted = profile.hardware
    assert wanted is not None
    row: dict[str, object] = {"profile": profile.name, "gpus": wanted.count}
    try:
        on = cards.of_profile(sources.catalogue, wanted, wanted.count)
        found = question.of_model(sources, name, on, Adjustment())
        longest = found.context if found.fits else longest_context(found)
        if found.fits or longest < 1024:
            shown = found
        else:
            shown = question.of_model(sources, name, on, Adjustment(context=longest))
    except BadUsage as refused:
        return {**row, "verdict": "unknown", "reason": refused.message}
    return {
        **row,
        "verdict": report.verdict(shown),
        "context": shown.context if shown.fits else 0,
        "at_once": round(answer.admitted(shown.low, shown.ask.engine), 1) if shown.fits else 0,
        "reason": "; ".join(shown.obstacles) or report.lacking(shown),
    }


def _loaded(folder: Path) -> Iterator[Profile]:
    return (profiles.load(folder, name) for name in profiles.names(folder))
