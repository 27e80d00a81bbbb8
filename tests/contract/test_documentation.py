"""Links between the pages of this repository lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!\w+:|#)(?P<target>[^)#\s]+)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def pages() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", "*.md"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return listing.stdout.split("\0")[:-1]


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    path = REPOSITORY / page
    prose = CODE.sub("", path.read_text(encoding="utf-8"))
    broken = [
        link["target"]
        for link in LINK.finditer(prose)
        if not (path.parent / link["target"]).exists()
    ]
    assert broken == []
