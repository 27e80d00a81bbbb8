"""A packager's small checkout and the folder that his bundle is for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from packager_project import PackagerProject, packager_project


@pytest.fixture
def project(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackagerProject]:
    with packager_project(place, monkeypatch) as made:
        yield made


@pytest.fixture
def output(place: Path) -> Path:
    return place / "매체" / "box"
