"""What vLLM itself makes of the cases of `fit`: its layers, its blocks, its capacity.

The engine's own image for the CPU lays out the real classes of models without memory, weights or
a GPU. What it says is recorded for `./test`; here it is asked anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fit_cases

from . import service_images
from .systemd_host import daemon, docker, why_not

REASON = why_not() or service_images.why_not()

pytestmark = [
    pytest.mark.e2e,
    # Building the image takes three minutes where it is not there, the engine five.
    pytest.mark.timeout(1500),
    pytest.mark.enable_socket,
    pytest.mark.skipif(bool(REASON), reason=REASON),
]

SCRIPT = Path(fit_cases.__file__).with_name("fit_in_vllm.py")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the engine says of each case, by its name."""
    folder = tmp_path_factory.mktemp("fit")
    cases = folder / "cases.json"
    cases.write_text(json.dumps([case.for_vllm() for case in fit_cases.CASES]))
    with daemon(folder):
        image = service_images.engine(folder)
        words = ("run", "--rm", "--network", "none", "--tmpfs", "/tmp")
        mounts = ("--volume", f"{SCRIPT}:/fit.py:ro", "--volume", f"{cases}:/cases.json:ro")
        said = docker(*words, *mounts, image, "python3", "/fit.py", "/cases.json").out
    lines = [json.loads(line) for line in said.splitlines() if line.startswith('{"id"')]
    return {line.pop("id"): line for line in lines}


@pytest.mark.parametrize("case", fit_cases.CASES, ids=lambda case: case.id)
def test_the_engine_computes_what_we_compute(
    case: fit_cases.Case, told: dict[str, dict[str, Any]], figure: Callable[[str], None]
) -> None:
    assert told[case.id] == case.ours()
    tokens = told[case.id].get("tokens", "does not start")
    figure(f"fit as vLLM 0.32.0: {case.id} ({case.config}): {tokens}")


def test_what_is_recorded_is_what_the_engine_says(told: dict[str, dict[str, Any]]) -> None:
    recorded = json.loads(fit_cases.RECORDED.read_text())["cases"]
    assert {one.pop("id"): one for one in recorded} == told
