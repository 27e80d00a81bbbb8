"""The whole command line in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aibox.cli import app


@dataclass(frozen=True)
class Ended:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document, and nothing else."""
        return json.loads(self.out)


Types = Callable[..., Ended]


@pytest.fixture
def types(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Types:
    """Type words after `aibox`, on the box in `place`."""
    monkeypatch.setenv("AIBOX_HOME", str(place / "box"))
    monkeypatch.delenv("AIBOX_BUNDLE", raising=False)

    def types(*words: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["aibox", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            app.main()
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Ended(int(caught.value.code or 0), told.out, told.err)

    return types
