"""Every refusal tells what to type next, and every one that is raised is in the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aibox.bundle import trust
from aibox.bundle.trust.refusals import WAYS_OUT, refused
from aibox.errors import ExitCode

COMMANDS = ("bundle build", "bundle verify", "trust", "install", "rollback", "have")
SOURCES = [
    *Path(trust.__path__[0]).glob("*.py"),
    Path(trust.__path__[0]).parents[1] / "trusting.py",
]


@pytest.mark.parametrize("reference", WAYS_OUT)
def test_a_hint_ends_with_a_command(reference: str) -> None:
    error = refused(reference, "message")
    assert error.exit_code == ExitCode.VERIFICATION_REFUSED
    assert re.search(rf"\./aibox ({'|'.join(COMMANDS)})[^,;.:]*$", error.hint)


def test_what_is_raised_is_in_the_table_and_what_is_in_the_table_is_raised() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES if path.stem != "refusals")
    raised = set(re.findall(r'refused\(\s*"([a-z-]+)"', text))
    assert raised <= set(WAYS_OUT)
    kinds = ("bundle", "root", "revocations", "trust-file", "have")
    for ending in re.findall(r'f"\{(?:what|ROOT)\}(-[a-z-]+)"', text):
        raised |= {kind + ending for kind in kinds if kind + ending in WAYS_OUT}
    raised |= {"root-expired", "bundle-expired", "bundle-older", "bundle-below-minimum"}
    assert raised == set(WAYS_OUT)
