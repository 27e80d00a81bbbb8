"""The manual against the program: it is documentation, and the corpus the box answers from.

The commands are read from the program itself, so a renamed command fails here and not at a user.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from aibox.cli.app import app
from aibox.errors import ExitCode

REPOSITORY = Path(__file__).resolve().parents[2]
MANUAL = REPOSITORY / "docs" / "manual"
PROFILE = REPOSITORY / "stacks/profiles/local.toml"
PAGES = sorted(path.name for path in MANUAL.glob("*.md"))
BOTH = [*PAGES, *(f"ko/{name}" for name in PAGES)]
HOUSE = ["../../README.md", "../../CHANGELOG.md"]
GOLDEN = tomllib.loads((REPOSITORY / "stacks/rag/golden.toml").read_text(encoding="utf-8"))[
    "golden"
]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_CALL = re.compile(r"(?:^|[\s;|&])(?:\./)?aibox (\S.*)$")
_QUOTED = re.compile(r'"[^"]*"')
_WORD = re.compile(r"[a-z]+|--[a-z-]+")
_OPTION = re.compile(r"(?<!\S)(--[a-z][a-z-]*)")
_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(page: str) -> str:
    return (MANUAL / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    return _FENCE.sub("", read(page))


def heading_levels(page: str) -> list[int]:
    return [len(line) - len(line.lstrip("#")) for line in headings(page)]


def headings(page: str) -> list[str]:
    return [line for line in prose(page).splitlines() if line.startswith("#")]


def anchor(heading: str) -> str:
    words = re.sub(r"[^\w\s-]", "", heading.lstrip("# ").lower())
    return words.replace(" ", "-")


def code_of(text: str) -> Iterator[str]:
    """Every line of a fenced block and every inline code span."""
    for block in _FENCE.findall(text):
        yield from block.splitlines()[1:-1]
    yield from _CODE.findall(_FENCE.sub("", text))


def calls(page: str) -> list[list[str]]:
    """The words after `aibox` of every call on the page."""
    lines = (_QUOTED.sub('""', line) for line in code_of(read(page)))
    found = (_CALL.search(line) for line in lines)
    return [match.group(1).split() for match in found if match]


@functools.cache
def program() -> Any:
    """The command tree of the real command line."""
    return typer.main.get_command(app)


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `words` call, and what remains of them; fails for an unknown one."""
    command = program()
    while isinstance(getattr(command, "commands", None), dict):
        if not words or words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            assert command.invoke_without_command, f"no such command: {' '.join(words)}"
            break
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options_of(command: Any) -> set[str]:
    return {"--help"} | {name for parameter in command.params for name in parameter.opts}


def test_every_page_has_its_korean_twin() -> None:
    assert sorted(path.name for path in (MANUAL / "ko").glob("*.md")) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_the_twin_has_the_same_headings_in_number_and_level(page: str) -> None:
    assert heading_levels(f"ko/{page}") == heading_levels(page)


@pytest.mark.parametrize("page", PAGES)
def test_the_twin_shows_the_same_commands(page: str) -> None:
    def shown(name: str) -> list[list[str]]:
        return [[word for word in call if _WORD.fullmatch(word)] for call in calls(name)]

    assert sorted(shown(f"ko/{page}")) == sorted(shown(page))


@pytest.mark.parametrize("page", BOTH)
def test_headings_of_a_page_are_unique(page: str) -> None:
    found = headings(page)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("page", [*BOTH, *HOUSE])
def test_every_command_and_option_on_the_page_exists(page: str) -> None:
    for words in calls(page):
        command, rest = resolve(words)
        unknown = set(_OPTION.findall(" ".join(rest))) - options_of(command)
        assert not unknown, f"aibox {' '.join(words)}: {unknown}"


@pytest.mark.parametrize("language", ["", "ko/"])
def test_the_reference_names_every_command(language: str) -> None:
    assert {words[0] for words in calls(f"{language}reference.md")} >= {
        name for name, command in program().commands.items() if not command.hidden
    }


@pytest.mark.parametrize("page", BOTH)
def test_every_exit_code_in_the_text_exists(page: str) -> None:
    named = re.findall(r"(?:[Ee]xit code|종료 코드) (\d+)", prose(page))
    assert {int(code) for code in named} <= {int(code) for code in ExitCode}


@pytest.mark.parametrize("language", ["", "ko/"])
def test_the_reference_names_every_exit_code(language: str) -> None:
    rows = re.findall(r"^\| (\d) \| ([A-Z_]+) \|", read(f"{language}reference.md"), re.MULTILINE)
    assert {(int(code), name) for code, name in rows} == {(int(c), c.name) for c in ExitCode}


@pytest.mark.parametrize("language", ["", "ko/"])
def test_the_reference_states_the_values_of_the_profile(language: str) -> None:
    profile = tomllib.loads(PROFILE.read_text(encoding="utf-8"))
    stated = dict(_ROW.findall(read(f"{language}reference.md")))
    for section in ("tuning", "requires", "gate"):
        for key, value in profile[section].items():
            assert says(stated[key], value), f"{key} is {value}, the page says {stated[key]}"


def says(cell: str, value: object) -> bool:
    if isinstance(value, int | float):
        return float(cell) == value
    return cell == (", ".join(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("page", BOTH)
def test_links_within_the_repository_lead_somewhere(page: str) -> None:
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (MANUAL / page).parent / path if path else MANUAL / page
        assert target.is_file(), link
        if fragment:
            relative = target.resolve().relative_to(MANUAL).as_posix()
            assert fragment in map(anchor, headings(relative)), link


def test_golden_questions_have_ids_of_their_own() -> None:
    ids = [question["id"] for question in GOLDEN]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("question", GOLDEN, ids=lambda question: question["id"])
def test_a_golden_question_expects_a_page_of_its_language_or_no_evidence(
    question: dict[str, Any],
) -> None:
    if question.get("expect") == "no-evidence":
        assert "document" not in question
        return
    assert (MANUAL / question["document"]).is_file()
    assert question["document"].startswith("ko/") == (question["language"] == "ko")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_each_language_has_questions_with_and_without_an_answer(language: str) -> None:
    kinds = [q.get("expect", "document") for q in GOLDEN if q["language"] == language]
    assert kinds.count("document") >= 8
    assert kinds.count("no-evidence") >= 2
