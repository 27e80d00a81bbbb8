"""A browser, and a box over doubles for it to visit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from app_doubles import Box, LanguageModelDouble, make_box
from browser import Page, chromium, missing
from loopback import serving
from selenium import webdriver

from rag_app.model import Origin
from rag_app.web.app import build

MANUAL = """# Roll back
To roll back a failed upgrade, run aibox rollback. The box copies no bytes.

# 되돌리기
실패한 업그레이드를 되돌리려면 aibox rollback 명령을 실행합니다.
"""

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if reason := missing():
        pytest.skip(f"the page was not tested in a browser: {reason}")
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def model() -> LanguageModelDouble | None:
    """The language model; None is the extractive box. Tests override this."""
    return None


@pytest.fixture
def box(tmp_path: Path, model: LanguageModelDouble | None) -> Box:
    server = {"max_upload_bytes": 3_000_000}
    box = make_box(tmp_path, model=model, server=server)
    box.library.hold("manual.md", MANUAL, origin=Origin.RELEASE, title="Manual")
    return box


@pytest.fixture
def page(driver: webdriver.Chrome, box: Box) -> Iterator[Page]:
    """The page of `box`, freshly opened at desktop size."""
    with ExitStack() as stack:
        url = stack.enter_context(serving(build(box.services)))
        yield Page(driver, url).open()
        driver.get("about:blank")
