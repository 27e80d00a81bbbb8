"""A command imports what it needs itself, so that looking at things is quick."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from aibox.cli import app

REPOSITORY = Path(__file__).parents[3]
# Every package that takes long to import and that few commands need.
HEAVY = {"ansible", "cryptography", "httpx", "huggingface_hub", "jinja2", "tuf"}


def imported_by(*words: str) -> set[str]:
    """The modules in memory when `aibox WORDS` ends."""
    script = (
        "import sys\nfrom aibox.cli.app import main\nsys.argv[1:] = sys.argv[2:]\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "aibox", *words],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "installer")},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--version",), ("profiles",), ("profiles", "show", "local")])
def test_looking_imports_neither_the_pipeline_nor_heavy_packages(words: tuple[str, ...]) -> None:
    assert imported_by(*words) & {*HEAVY, "aibox.pipeline", "aibox.cli.install"} == set()


def test_the_version_is_told_without_any_command() -> None:
    ours = {name for name in imported_by("--version") if name.startswith("aibox.cli.")}
    assert ours == {"aibox.cli.app", "aibox.cli.show", "aibox.cli.workplace"}


@pytest.mark.parametrize("module", sorted(set(app.MODULES.values())))
def test_every_command_that_a_module_offers_is_reached(module: str) -> None:
    reached = {name for name, offering in app.MODULES.items() if offering == module}
    offered = import_module(f"aibox.cli.{module}")
    if hasattr(offered, "COMMANDS"):
        assert reached == set(offered.COMMANDS)
    else:
        assert len(reached) == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["no-such-command"], ["--json", "status"]])
def test_help_and_unknown_words_know_every_command(words: list[str]) -> None:
    assert list(app.commands_for(words)) == list(app.MODULES)


def test_the_whole_program_has_every_command() -> None:
    program = typer.main.get_command(app.app)
    assert list(getattr(program, "commands", {})) == list(app.MODULES)


def test_nothing_else_is_made_up() -> None:
    with pytest.raises(AttributeError):
        _ = app.application
