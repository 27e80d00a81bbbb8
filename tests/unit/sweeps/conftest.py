"""Where the sweeps keep their thousands of boxes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is one: what is swept here loses nothing a disk would keep."""
    memory = Path("/dev/shm")
    folder = Path(mkdtemp(prefix="aibox-sweep-", dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
