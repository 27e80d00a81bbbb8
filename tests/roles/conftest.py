"""Roles are run for real, on this host and into a temporary folder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import ansible.module_utils  # type: ignore[import-untyped]
import pytest

from ansible_runs import ROLES, Runs


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Plays whose user has an empty home and no systemd."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    # A folder of one's own in which no manager answers; without it, a real one would be found.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    return Runs(tmp_path)


@pytest.fixture(scope="session")
def load_module() -> Callable[[str], ModuleType]:
    """Loads a role's module from its file, `role/name`, as Ansible does."""

    def load(name: str) -> ModuleType:
        role, module = name.split("/")
        shared = str(ROLES / role / "module_utils")
        if shared not in ansible.module_utils.__path__:
            ansible.module_utils.__path__.append(shared)
        return load_file(module, ROLES / role / "library" / f"{module}.py")

    return load


def load_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses look their module up by name
    spec.loader.exec_module(loaded)
    return loaded
