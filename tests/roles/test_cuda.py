"""The role cuda: the host gets what native tools need, which by default is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aibox.preflight import read_report
from ansible_runs import Runs
from gpu_doubles import GpuHost, make

TASK = """\
    - name: Play
      ansible.builtin.include_role:
        name: cuda
        tasks_from: {entry}
"""


@pytest.fixture
def host(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    return make(runs, monkeypatch)


def play(runs: Runs, host: GpuHost, entry: str, **more: object) -> int:
    report = runs.folder / "report.json"
    given = {"cuda_state": host.state, "cuda_report": report}
    return runs.play(runs.tasks(TASK.format(entry=entry)), {**given, **more}).changed


def said(runs: Runs) -> tuple[str, str]:
    (finding,) = read_report(runs.folder / "report.json")
    return finding.status.value, finding.found


def test_by_default_nothing_comes_and_the_report_says_where_cuda_lies(
    runs: Runs, host: GpuHost
) -> None:
    assert play(runs, host, "create") == 0
    assert said(runs) == ("ok", "none; the engines have theirs in their images")


@pytest.mark.e2e  # it plays several times: too long for ./test
def test_what_is_asked_for_comes_is_tried_and_goes(runs: Runs, host: GpuHost) -> None:
    record, absent = host.state / "cuda.packages.json", Path("/nowhere/nvcc")
    given = {"cuda_packages": ["cuda-nvcc-13-0"], "cuda_programs": ["/bin/true", absent]}
    assert play(runs, host, "create", **given) == 1
    assert json.loads(record.read_text()) == [["cuda-nvcc-13-0"], ["cuda-nvcc-13-0"]]
    assert said(runs) == ("veto", "not running: /nowhere/nvcc")
    assert play(runs, host, "create", **{**given, "cuda_programs": ["/bin/true"]}) == 0
    assert said(runs) == ("ok", "runs: /bin/true")
    play(runs, host, "remove")
    assert not record.exists()
