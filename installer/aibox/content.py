"""The only code that knows where the project's own files lie (roles, stacks, docs, models.lock).

A checkout is recognised by its `models.lock` beside `stacks/` and `roles/`; a bundle will
carry the same tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aibox.errors import Failed, Fault


@dataclass(frozen=True, slots=True)
class Content:
    """The tree the product is made of."""

    root: Path

    @property
    def lockfile(self) -> Path:
        """The exact resolution of every profile."""
        return self.root / "models.lock"

    @property
    def profiles(self) -> Path:
        """Folder of `<name>.toml` profiles, written by people."""
        return self.root / "stacks" / "profiles"

    @property
    def roles(self) -> Path:
        """Ansible roles."""
        return self.root / "roles"

    @property
    def playbooks(self) -> Path:
        """The playbooks that put the roles in order."""
        return self.root / "playbooks"

    @property
    def golden(self) -> Path:
        """The gate's questions, written by people."""
        return self.root / "stacks" / "rag" / "golden.toml"

    @property
    def app_requirements(self) -> Path:
        """The app's own direct requirements, resolved by `aibox lock`."""
        return self.root / "stacks" / "rag" / "app" / "pyproject.toml"


def find() -> Content:
    """The tree this code belongs to; raises `Failed` when it was copied out of one."""
    root = Path(__file__).resolve().parents[2]
    if (root / "stacks").is_dir() and (root / "roles").is_dir():
        return Content(root)
    raise Failed(
        "content-missing",
        "the folders roles/ and stacks/ are not beside the installer",
        context=str(root),
        hint="run aibox from a whole checkout: git clone, then ./aibox --version",
        fault=Fault.YOU,
    )
