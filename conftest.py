"""Shared by the tests of the installer and of the application."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import settings

import code_sizes

# No test is timed: on a busy machine the same code takes many times as long.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what cannot run here, and divide the journeys over the test processes."""
    _skip_without_browser(items)
    if getattr(config.option, "loadgroup", False):
        _group_by_file(items)


def _group_by_file(items: list[pytest.Item]) -> None:
    """Fixtures of a file are made once; files that share more say so, and begin: they are long."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def _skip_without_browser(items: list[pytest.Item]) -> None:
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
