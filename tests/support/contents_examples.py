"""A release with one of every kind, and the program beside it, as a bundle holds them."""

from __future__ import annotations

from typing import Any

import pin_examples as pins
from aibox import release as releases
from aibox.bundle.inventory import ProgramParts
from aibox.bundle.manifest import ProgramFile, ProgramListing
from aibox.release import Release
from examples import lock, profile
from pin_examples import blob, sha

PROGRAM = ProgramParts(
    version="0.1.0",
    listing=ProgramListing(
        format=1,
        files=(ProgramFile(path="aibox", executable=True, sha256=sha("aibox"), size=5),),
        wheels=(
            ProgramFile(
                path="bundled-wheels/Typer-0.29.0-py3-none-any.whl",
                sha256=sha("typer"),
                size=7,
            ),
        ),
        interpreters={"x86_64": blob("python")},
    ),
    stated={"typer": ("MIT", "the maker of typer")},
    python="3.13.9",
)


def release(**found: Any) -> Release:
    return releases.make(lock(), profile()).model_copy(update=found)


FULL = release(
    models=(pins.model(),),
    images=(pins.image(),),
    packages=(pins.packages(),),
    files=(pins.file(),),
)
