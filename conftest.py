"""Shared by the tests of the installer and of the application."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

import code_sizes

# They install from one medium, which takes minutes to make.
SERVERS = {
    "tests/e2e/test_server.py",
    "tests/e2e/test_server_faults.py",
    "tests/e2e/test_several_hosts.py",
}

# No test is timed: on a busy machine the same code takes many times as long.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Journeys at the same time: a file of them in one process, and files that share as well."""
    return _Journeys(config, log) if config.getoption("dist") == "loadfile" else None


class _Journeys(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "servers" if file in SERVERS else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip browser tests where there is no browser, and say so."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if not missing:
        return
    skip = pytest.mark.skip(
        reason=f"{' and '.join(missing)} not found; on Debian: apt-get install chromium-driver"
    )
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(skip)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """After a run of everything, print the sizes of the code."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        terminalreporter.section("sizes of the code")
        for line in code_sizes.report():
            terminalreporter.line(line)
