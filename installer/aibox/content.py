"""The only code that knows where the project's own files lie (roles, stacks, docs, models.lock).

They lie in a checkout, or in a program: what a bundle carries of one, unpacked into a box.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aibox.errors import Failed, Fault

# What runs a box; not what tests, measures and explains the project, or resolves its packages.
_PROGRAM = re.compile(
    r"(aibox|models\.lock|inventory\.example|LICENSE|README\.md|requirements/cli\.lock"
    r"|(launcher|installer/aibox|playbooks|roles|stacks(?!/rag/app/tests/)|docs/manual)/.+)"
)


@dataclass(frozen=True, slots=True)
class Content:
    """The tree the product is made of."""

    root: Path

    @property
    def program(self) -> str | None:
        """The id of the program that was unpacked here from a bundle; None in a checkout."""
        return self.root.name if (self.root / "program.txt").is_file() else None

    @property
    def lockfile(self) -> Path:
        """The exact resolution of every profile."""
        return self.root / "models.lock"

    @property
    def profiles(self) -> Path:
        """Folder of `<name>.toml` profiles, written by people."""
        return self.root / "stacks" / "profiles"

    @property
    def catalogue(self) -> Path:
        """What is known of GPUs and models, written by people."""
        return self.root / "stacks" / "catalogue"

    @property
    def program_wishes(self) -> Path:
        """What the command line in a bundle brings along, written by people."""
        return self.root / "stacks" / "program.toml"

    @property
    def prices(self) -> Path:
        """Folder of the price list and the published scenarios of `aibox tco`."""
        return self.root / "stacks" / "prices"

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

    @property
    def program_requirements(self) -> Path:
        """The command line's own packages with the digests of their builds."""
        return self.root / "requirements" / "cli.lock"


def belongs_to_program(path: str) -> bool:
    """Whether a file of a checkout is part of the program in a bundle; `path` is relative."""
    return _PROGRAM.fullmatch(path) is not None


def find() -> Content:
    """The tree this code belongs to; raises `Failed` when it was copied out of one."""
    root = Path(__file__).resolve().parents[2]
    if (root / "stacks").is_dir() and (root / "roles").is_dir():
        return Content(root)
    raise Failed(
        "content-missing",
        "the folders roles/ and stacks/ are not beside the installer",
        context=str(root),
        hint="run aibox from a whole checkout or from a bundle: ./aibox --version",
        fault=Fault.YOU,
    )
