"""Korean and English, phone to desktop, light and dark, names for everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from app_doubles import Box
from browser import Page, chromium, missing

from rag_app.model import DocumentState
from rag_app.web.page import STATIC

QUESTION = "How do I roll back a failed upgrade?"
SCROLL = "return [document.documentElement.scrollWidth, innerWidth]"


def texts(language: str) -> dict[str, str]:
    source = (STATIC / "texts.js").read_text(encoding="utf-8")
    block = re.search(rf"^  {language}: \{{$(.*?)^  \}},$", source, re.MULTILINE | re.DOTALL)
    assert block
    return dict(re.findall(r'^    "?([\w.-]+)"?: "(.*)",$', block[1], re.MULTILINE))


def test_every_text_exists_in_both_languages() -> None:
    english, korean = texts("en"), texts("ko")
    assert len(english) > 50
    assert set(english) <= set(korean)
    # What is Korean only is the box's own English sentence, shown as it is in English.
    assert all(key.startswith(("error.", "reason.")) for key in set(korean) - set(english))
    holes = re.compile(r"\{\w+\}")
    for key, text in english.items():
        assert sorted(holes.findall(text)) == sorted(holes.findall(korean[key])), key


def test_every_text_that_the_page_asks_for_exists() -> None:
    known = set(texts("en"))
    for path in STATIC.glob("*.js"):
        source = path.read_text(encoding="utf-8")
        asked = set(re.findall(r'(?:say|label)\((?:[^()"]|\([^()]*\))*"([a-zA-Z0-9]+)"', source))
        assert asked - known - {"a", "span", "button", "p", "h3", "id"} == set(), path.name
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'data-text(?:-\w+)?="(\w+)"', page)) <= known


def palettes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", (STATIC / "style.css").read_text("utf-8"), re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks)
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    """Relative luminance; WCAG 2.2, definition of "relative luminance"."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "least"),
    [
        ("ink", "ground", 4.5), ("ink", "paper", 4.5), ("ink", "sunken", 4.5), ("ink", "mark", 4.5),
        ("ink-soft", "ground", 4.5), ("ink-soft", "paper", 4.5), ("ink-soft", "sunken", 4.5),
        ("accent", "paper", 4.5), ("accent", "ground", 4.5), ("on-accent", "accent", 4.5),
        ("accent-strong", "accent-soft", 4.5), ("on-accent", "accent-strong", 4.5),
        ("warn", "warn-soft", 4.5), ("warn", "paper", 4.5), ("bad", "bad-soft", 4.5),
        ("bad", "paper", 4.5), ("bad", "ground", 4.5), ("paper", "bad", 4.5),
        ("line-strong", "paper", 3.0), ("line-strong", "ground", 3.0),
    ],
)  # fmt: skip
def test_contrast_reaches_aa(scheme: str, front: str, back: str, least: float) -> None:
    palette = palettes()[scheme]
    lighter, darker = sorted((luminance(palette[front]), luminance(palette[back])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= least


@pytest.mark.browser
def test_the_switch_turns_everything_and_is_remembered(page: Page, box: Box) -> None:
    reason = "no-text-layer: The PDF has no text layer."
    box.library.hold("b.pdf", "", state=DocumentState.FAILED, reason=reason)
    page.open()
    page.ask("upgrade rollback")
    page.get("[data-language=ko]").click()
    assert page.run("return document.documentElement.lang") == "ko"
    assert page.text("h1") == "문서에 물어보세요"
    assert page.text(".state") == "문서에서 그대로 인용했습니다"
    assert "글자 정보가 없는 PDF" in page.text(".reason")
    assert page.get("#question").get_attribute("placeholder") == "무엇이 궁금하신가요?"
    shown = page.text("body")
    leftovers = [text for text in texts("en").values() if len(text) > 12 and text in shown]
    assert leftovers == []
    page.open()
    assert page.text("h1") == "문서에 물어보세요"
    page.get("[data-language=en]").click()
    assert page.text("h1") == "Ask your documents"


@pytest.mark.browser
def test_the_language_of_the_browser_is_the_first_one(page: Page, tmp_path: Path) -> None:
    assert not missing()
    with chromium(tmp_path / "korean", language="ko-KR,ko") as driver:
        korean = Page(driver, page.url).open()
        assert korean.text("h1") == "문서에 물어보세요"


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_scrolls_sideways(page: Page, box: Box, width: int) -> None:
    long = "averylongwordwithoutanybreak" * 6
    box.library.hold(f"{long}.md", f"{long} rollback upgrade failed {long}")
    page.open(width, 844)
    page.ask(QUESTION + " " + long)
    scroll, inner = page.run(SCROLL)
    assert scroll <= inner
    page.get("button.marker").click()
    page.wait(lambda: page.find("#reader mark"))
    scroll, inner = page.run(SCROLL)
    assert scroll <= inner
    assert page.run(
        "const t = document.getElementById('reader-text'); return t.scrollWidth <= t.clientWidth"
    )


@pytest.mark.browser
def test_touch_targets_are_large_enough(page: Page) -> None:
    page.open(360, 780)
    page.ask(QUESTION)
    small = page.run(
        "return [...document.querySelectorAll('button, a.brand, .button, summary')]"
        ".filter((e) => e.checkVisibility())"
        ".map((e) => [e.className || e.tagName, e.getBoundingClientRect()])"
        ".filter(([, r]) => Math.min(r.width, r.height) < 22).map(([n]) => n)"
    )
    assert small == [], "WCAG 2.2 2.5.8 asks for 24 px, inline markers excepted"


@pytest.mark.browser
def test_everything_to_press_has_a_name_and_regions_are_marked(page: Page, box: Box) -> None:
    box.library.hold("mine.md", "text")
    page.open()
    page.ask(QUESTION)
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {node["role"]["value"] for node in tree if not node.get("ignored")}
    assert {"main", "banner", "complementary", "contentinfo", "heading", "article"} <= roles
    pressed = {"button", "link", "textbox", "DisclosureTriangle", "progressbar"}
    nameless = [
        node["role"]["value"]
        for node in tree
        if not node.get("ignored")
        and node["role"]["value"] in pressed
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []


@pytest.mark.browser
def test_motion_stops_when_the_reader_asks_for_it(page: Page) -> None:
    reduce = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", reduce)
    page.ask(QUESTION)
    page.get("button.marker").click()
    page.wait(lambda: page.find("#reader mark"))
    running = page.run("return document.getAnimations().length")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert running == 0
