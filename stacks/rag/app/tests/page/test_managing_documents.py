"""Upload with progress, states and reasons, removal."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_doubles import Box
from browser import Page
from selenium.webdriver.common.by import By

from rag_app.model import DocumentState

pytestmark = pytest.mark.browser

DROP = """
const data = new DataTransfer();
data.items.add(new File([arguments[0]], arguments[1]));
for (const kind of ["dragover", "drop"])
  document.body.dispatchEvent(
    new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
"""


def names(page: Page) -> list[str]:
    selector = "#document-list section .name"
    return page.run(f"return [...document.querySelectorAll('{selector}')].map((e) => e.innerText)")


@pytest.fixture
def slow_upload(page: Page) -> None:
    """A line slow enough to watch."""
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 500_000},
    )
    yield
    page.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )


@pytest.mark.usefixtures("slow_upload")
def test_an_upload_shows_its_progress_and_then_the_document(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "여비 규정.md"
    file.write_bytes(b"travel rules " * 100_000)
    page.get("#files").send_keys(str(file))
    value = page.wait(lambda: page.run("return document.querySelector('progress')?.value ?? 0"))
    assert 0 < value < 1
    assert page.get("progress").get_attribute("aria-label") == "Uploading 여비 규정.md"
    page.wait(lambda: "여비 규정.md" in names(page))
    assert page.all(".upload") == []


@pytest.mark.usefixtures("slow_upload")
def test_an_upload_can_be_cancelled(page: Page, box: Box, tmp_path: Path) -> None:
    file = tmp_path / "long.md"
    file.write_bytes(b"x" * 2_500_000)
    page.get("#files").send_keys(str(file))
    page.wait(lambda: page.find(".upload .quiet")).click()
    page.wait(lambda: not page.all(".upload"))
    page.wait(lambda: not list(box.services.uploads.iterdir()))
    assert "long.md" not in names(page)


def test_several_files_are_taken(page: Page, tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.md" for n in range(5)]
    for file in files:
        file.write_text("text", encoding="utf-8")
    page.get("#files").send_keys("\n".join(map(str, files)))
    page.wait(lambda: len(names(page)) == 5)


def test_files_can_be_dropped_anywhere(page: Page) -> None:
    page.run(DROP, "dropped text", "dropped.md")
    page.wait(lambda: "dropped.md" in names(page))


def test_a_file_over_the_limit_is_refused_without_sending_it(page: Page, box: Box) -> None:
    page.run(DROP, "x" * 3_000_001, "big.md")
    page.wait(lambda: "up to 2.9 MB" in page.text(".upload.failed [role=alert]"))
    assert all(document.name != "big.md" for document in box.library.documents())
    page.get(".upload.failed .quiet").click()
    page.wait(lambda: not page.all(".upload"))


def test_what_the_box_refuses_is_said_in_words(page: Page) -> None:
    page.run(DROP, "", "empty.md")
    page.wait(lambda: "empty.md is empty." in page.text(".upload.failed [role=alert]"))


def test_states_and_reasons_are_shown(page: Page, box: Box) -> None:
    box.library.hold("a.pdf", "", state=DocumentState.INDEXING)
    reason = "no-text-layer: The PDF has no text layer."
    box.library.hold("b.pdf", "", state=DocumentState.FAILED, reason=reason)
    page.open()
    assert page.text(".document.indexing .badge") == "Indexing"
    assert page.text(".document.failed .reason") == "The PDF has no text layer."
    assert page.text("#document-count") == "1 ready, 1 in progress"
    box.library.hold("a.pdf", "now readable")
    page.wait(lambda: page.text("#document-count") == "2 ready")


def test_removal_asks_first(page: Page, box: Box) -> None:
    document = box.library.hold("old.md", "old text")
    page.open()
    remove = f"#remove-{document.id}"
    assert page.get(remove).get_attribute("aria-label") == "Remove old.md"
    page.get(remove).click()
    assert "old.md and its passages will be gone" in page.text("#confirm[open]")
    page.get("#confirm [value=cancel]").click()
    assert box.library.get(document.id)
    page.get(remove).click()
    page.get("#confirm [value=remove]").click()
    page.wait(lambda: "old.md" not in names(page))
    assert box.library.get(document.id) is None


def test_a_document_opens_at_its_beginning(page: Page, box: Box) -> None:
    document = box.library.hold("read.md", "First line.\n" + "More text. " * 2000)
    page.open()
    page.get(f"#open-{document.id}").click()
    page.wait(lambda: page.text("#reader-text").startswith("First line."))
    before = page.run("return document.getElementById('reader-text').textContent.length")
    page.driver.find_element(By.ID, "reader-more").click()
    page.wait(
        lambda: (
            page.run("return document.getElementById('reader-text').textContent.length") > before
        )
    )


def test_documents_of_the_release_cannot_be_removed(page: Page) -> None:
    page.get("summary").click()
    assert page.text("#release-documents .name") == "Manual"
    assert page.all("#release-documents .quiet") == []
