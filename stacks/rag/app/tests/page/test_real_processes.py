"""The page against the real web, vector and ingest processes; no double but the browser's user."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest
from browser import Page
from processes import running_box
from selenium import webdriver

pytestmark = pytest.mark.browser

MANUAL = "# Roll back\n\nTo roll back a failed upgrade, run `aibox rollback`.\n"
RULES = "# 여비 규정\n\n국내 출장 숙박비는 1박 90,000원을 한도로 실비를 지급한다.\n"
QUESTION = "국내 출장 숙박비는 얼마까지 되나요?"


def ready_documents(page: Page) -> str:
    return page.text("#document-list section .document.ready .name")


def test_upload_ask_open_and_remove(driver: webdriver.Chrome, tmp_path: Path) -> None:
    file = tmp_path / "여비 규정 2026.md"
    file.write_text(RULES, encoding="utf-8")
    root = tmp_path / "상자 하나"
    root.mkdir()
    with running_box(root, {"manual.md": MANUAL}) as box:
        page = Page(driver, box.url).open()
        page.ask("How do I roll back a failed upgrade?")
        assert "run aibox rollback." in page.text(".answer .body")

        page.ask(QUESTION)
        assert "찾지 못했습니다" in page.text(".answer .body")
        page.get("#files").send_keys(str(file))
        page.wait(lambda: ready_documents(page) == file.name)
        page.ask(QUESTION)
        assert "90,000원" in page.text(".answer .body")
        page.get("button.marker").click()
        page.wait(lambda: "90,000원" in page.text("#reader mark"))
        page.get("#reader-close").click()

        page.get(".document .quiet").click()
        page.get("#confirm [value=remove]").click()
        page.wait(lambda: ready_documents(page) == "")
        page.ask(QUESTION)
        assert "찾지 못했습니다" in page.text(".answer .body")

        os.kill(box.pids["vectors"], signal.SIGKILL)
        page.ask(QUESTION)
        assert "Search is not available" in page.text(".answer [role=alert]")
        answer = httpx.get(f"{box.url}/readyz", trust_env=False)
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        driver.get("about:blank")
