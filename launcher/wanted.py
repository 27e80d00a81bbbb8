"""What is to be made, and for whom."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wanted:
    """The virtual environment `environment`, holding exactly the packages of `lock`.

    Packages come from the folder `wheels` and nowhere else; from an index where it is None.
    `program` is who speaks.
    """

    program: str
    environment: Path
    lock: Path
    wheels: Path | None = None

    @property
    def again(self) -> str:
        """What a person types to go on."""
        bundle = os.environ.get("AIBOX_BUNDLE")
        return f'sh "{bundle}/aibox"' if bundle else self.program

    @property
    def name(self) -> str:
        """The environment's name, for people."""
        return self.environment.name
