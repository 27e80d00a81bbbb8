"""The hash-pinned locks: complete, of one mind, and in step with what the projects declare."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCKS = ("cli.lock", "packager.lock", "test.lock")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>\S+)(?P<rest>(?:.*\\\n)+.*)", re.M)


def locked(name: str) -> dict[str, set[str]]:
    """Versions per package; more than one where markers choose."""
    versions: dict[str, set[str]] = {}
    for pin in PIN.finditer((REPOSITORY / "requirements" / name).read_text(encoding="utf-8")):
        versions.setdefault(canonicalize_name(pin["name"]), set()).add(pin["version"])
    return versions


def declared(project: str, extra: str = "") -> list[Requirement]:
    about = tomllib.loads((REPOSITORY / project).read_text(encoding="utf-8"))["project"]
    more = about["optional-dependencies"][extra] if extra else []
    return [Requirement(line) for line in (*about["dependencies"], *more)]


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_with_its_hashes(name: str) -> None:
    text = (REPOSITORY / "requirements" / name).read_text(encoding="utf-8")
    packages = [line for line in text.splitlines() if line and line[0] not in " #"]
    pins = list(PIN.finditer(text))
    assert len(pins) == len(packages) > 20
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", pin["rest"]) for pin in pins)


@pytest.mark.parametrize("name", LOCKS)
def test_no_index_is_named(name: str) -> None:
    assert "://" not in (REPOSITORY / "requirements" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("project", "extra", "lock"),
    [
        ("pyproject.toml", "", "cli.lock"),
        ("pyproject.toml", "packager", "packager.lock"),
        ("pyproject.toml", "packager", "test.lock"),
        ("stacks/rag/app/pyproject.toml", "", "test.lock"),
    ],
)
def test_the_lock_satisfies_the_project(project: str, extra: str, lock: str) -> None:
    versions = locked(lock)
    for requirement in declared(project, extra):
        pinned = versions.get(canonicalize_name(requirement.name), set())
        assert pinned, f"{requirement.name} is missing; run requirements/refresh"
        assert all(requirement.specifier.contains(version) for version in pinned), requirement


@pytest.mark.parametrize(
    ("part", "whole"), [("cli.lock", "packager.lock"), ("packager.lock", "test.lock")]
)
def test_what_is_tested_is_what_is_shipped(part: str, whole: str) -> None:
    versions = locked(whole)
    differing = {n: v for n, v in locked(part).items() if versions.get(n) != v}
    assert differing == {}
