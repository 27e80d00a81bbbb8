"""What is to be made, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wanted:
    """The virtual environment `environment`, holding exactly the packages of `lock`.

    Packages come from the folder `wheels` and nowhere else; from an index where it is None.
    `program` is what a person typed, for hints.
    """

    program: str
    environment: Path
    lock: Path
    wheels: Path | None = None

    @property
    def name(self) -> str:
        """The environment's name, for people."""
        return self.environment.name
