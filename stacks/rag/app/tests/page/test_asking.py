"""Ask, watch the answer arrive, open a citation at its passage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from app_doubles import Box, LanguageModelDouble, make_box
from browser import Page
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from rag_app.answer import SmallModel
from rag_app.config import Engine
from rag_app.errors import EngineBusy, EngineFailed, VectorsUnavailable
from rag_app.interfaces import Readiness
from rag_app.routing import Limits, Router

pytestmark = pytest.mark.browser

QUESTION = "How do I roll back a failed upgrade?"


def test_a_citation_opens_its_passage_in_the_document(page: Page) -> None:
    page.ask(QUESTION)
    assert page.text(".answer h2") == QUESTION
    assert "run aibox rollback." in page.text(".answer .body")
    assert page.text(".state") == "Quoted from the documents"
    page.get("button.marker").click()
    mark = page.get("#reader[open] mark")
    quote = "To roll back a failed upgrade, run aibox rollback."
    assert page.text("#reader[open] mark") == quote
    assert page.text("#reader-title") == "manual.md"
    assert page.text("#reader-locator") == "Roll back"
    assert "The box copies no bytes." in page.text("#reader-text")
    box = page.run(
        "const m = arguments[0].getBoundingClientRect();"
        "const t = document.getElementById('reader-text').getBoundingClientRect();"
        "return m.top >= t.top && m.bottom <= t.bottom",
        mark,
    )
    assert box, "the quote must be in view"
    assert page.get("#reader-file").get_attribute("href").endswith("/file")


@pytest.mark.parametrize("code", ["```sh\nfree --mega\n```", "    free --mega"])
def test_a_quote_of_code_keeps_its_citation(page: Page, box: Box, code: str) -> None:
    box.library.hold("code.md", code)
    page.ask("free mega?")
    assert page.text(".body pre") == "free --mega"
    assert page.text(".body button.marker") == "1"


def test_an_example_can_be_asked_with_one_click(page: Page) -> None:
    page.get(".chip").click()
    page.wait(lambda: page.find(".source"))
    assert page.find("#examples").is_displayed() is False


def test_what_is_not_in_the_documents_is_said(page: Page) -> None:
    page.ask("Quarterly lunch budget?")
    assert page.text(".answer .body") == "The documents do not hold an answer."
    assert page.text(".state") == "Not in the documents"
    assert page.all(".source") == []


def test_an_error_is_said_and_can_be_retried(page: Page, box: Box) -> None:
    box.searcher.failure = VectorsUnavailable("down")
    page.ask(QUESTION)
    assert "Search is not available" in page.text("[role=alert]")
    box.searcher.failure = None
    page.get(".state .button").click()
    page.wait(lambda: page.find(".source"))
    assert len(page.all(".answer")) == 1


def test_a_box_that_is_not_ready_says_so_until_it_is(page: Page, box: Box) -> None:
    box.searcher.readiness = Readiness(ready=False, reason="indexing", pending=4)
    page.open()
    page.wait(lambda: "(4 left)" in page.text("#readiness"))
    box.searcher.readiness = Readiness(ready=True)
    page.wait(lambda: not page.get("#readiness").is_displayed())


def test_the_keyboard_is_enough(page: Page) -> None:
    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    def focused(property_: str) -> str:
        return page.run(f"return String(document.activeElement.{property_})")

    def press_until(key: str, class_name: str) -> None:
        for _ in range(12):
            ActionChains(page.driver).send_keys(key).perform()
            if focused("className") == class_name:
                return
        raise AssertionError(f"{class_name} was not reached")

    assert focused("id") == "question"
    page.driver.execute_script("document.querySelector('.brand').focus()")
    with_shift = ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB)
    with_shift.key_up(Keys.SHIFT).perform()
    assert focused("className") == "skip"
    press(Keys.ENTER)
    press(QUESTION, Keys.ENTER)
    page.wait(lambda: page.find(".source"))
    assert focused("id") == "question"
    press_until(Keys.TAB, "marker")
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(outline) == "solid"
    press(Keys.ENTER)
    page.wait(lambda: page.find("#reader[open] mark"))
    assert page.run("return document.getElementById('reader').contains(document.activeElement)")
    press(Keys.ESCAPE)
    page.wait(lambda: page.find("#reader[open]") is None)
    assert focused("className") == "marker"


def test_an_enter_that_composes_korean_does_not_ask(page: Page) -> None:
    page.get("#question").send_keys("되돌리")
    page.run(
        "document.getElementById('question').dispatchEvent(new KeyboardEvent('keydown',"
        "{key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    assert page.all(".answer") == []


class TestWithALanguageModel:
    """Streaming, labels, stopping."""

    @pytest.fixture
    def model(self) -> LanguageModelDouble:
        pieces = ["Run **aibox rollback** ", "[1].\n\n- one\n- `two`\n\n```\ncode\n```"]
        return LanguageModelDouble(pieces, pause_s=0.4, name="double-model")

    def test_the_answer_arrives_in_pieces_and_is_announced_once(self, page: Page) -> None:
        page.get("#question").send_keys(QUESTION + "\n")
        body = page.wait(lambda: page.find(".body[aria-busy=true] strong"))
        assert body.text == "aibox rollback"
        assert page.get(".body").get_attribute("aria-live") == "polite"
        assert page.find("button.marker") is None
        assert page.get("#stop").is_displayed()
        page.wait(lambda: page.find(".body[aria-busy=false] button.marker"))
        assert [item.text for item in page.all(".body li")] == ["one", "two"]
        assert page.text(".body pre code") == "code"
        assert "Written by AI (double-model)" in page.text(".state")
        name = page.get("button.marker").get_attribute("aria-label")
        assert name == "Source 1: manual.md, Roll back"

    def test_stopping_ends_the_model(self, page: Page, model: LanguageModelDouble) -> None:
        page.get("#question").send_keys(QUESTION + "\n")
        page.wait(lambda: page.find(".body strong"))
        page.get("#stop").click()
        page.wait(lambda: "Stopped" in page.text(".state"))
        page.wait(lambda: model.open == 0)
        assert page.get("#ask [type=submit]").is_displayed()


class TestWithAModelThatBreaksOff:
    """Degrading is shown, and what was void is gone."""

    @pytest.fixture
    def model(self) -> LanguageModelDouble:
        return LanguageModelDouble(["Half an answer"], EngineFailed("It broke off."))

    def test_quotes_replace_the_half_answer(self, page: Page) -> None:
        page.ask(QUESTION)
        assert "Half" not in page.text(".answer .body")
        assert "run aibox rollback." in page.text(".answer .body")
        assert "could not answer" in page.text(".notice")
        assert "It broke off." in page.text(".notice")
        assert page.text(".state") == "Quoted from the documents"


class TestWithASmallModelThatBreaksOff:
    """What it wrote is void and gone; the large model's answer carries no warning."""

    @pytest.fixture
    def box(self, tmp_path: Path) -> Box:
        limits = Limits(
            max_characters=99, max_turns=0, max_documents=9, min_evidence=0.3, evidence=0.3
        )
        failing = LanguageModelDouble(["Half [1]", " an answer"], EngineFailed("It broke off."))
        large = LanguageModelDouble(["Run aibox rollback [1]."], name="large-model")
        box = make_box(tmp_path, model=large, small=SmallModel(failing, Router(limits, [])))
        box.library.hold("manual.md", "# Roll back\nTo roll back a failed upgrade, type it.\n")
        return box

    def test_the_large_models_answer_replaces_it(self, page: Page) -> None:
        page.ask(QUESTION)
        assert "Half" not in page.text(".answer .body")
        assert page.text(".answer .body").startswith("Run aibox rollback")
        assert "Written by AI (large-model)" in page.text(".state")
        assert not page.get(".notice").is_displayed()


class TestWithAFullBox:
    """The page waits for its turn by itself, says so, and can be stopped."""

    @pytest.fixture
    def model(self) -> LanguageModelDouble:
        return LanguageModelDouble([], EngineBusy("It is full.", 1))

    def test_it_asks_again_and_is_answered(self, page: Page, model: LanguageModelDouble) -> None:
        page.get("#question").send_keys(QUESTION + "\n")
        page.wait(lambda: "asked again in 1 s" in page.text(".state"))
        model.failure, model.pieces = None, ("Run aibox rollback ", "[1].")
        page.wait(lambda: page.find(".body[aria-busy=false] button.marker"))
        assert len(model.histories) == 2
        assert not page.all(".answer.failed")

    def test_it_does_not_ask_for_ever(self, page: Page, model: LanguageModelDouble) -> None:
        page.get("#question").send_keys(QUESTION + "\n")
        page.wait(lambda: "still busy" in page.text(".state"))
        assert len(model.histories) == 4
        model.failure, model.pieces = None, ("Run aibox rollback ", "[1].")
        page.get(".state button").click()
        page.wait(lambda: page.find(".body[aria-busy=false] button.marker"))

    def test_waiting_can_be_stopped(self, page: Page, model: LanguageModelDouble) -> None:
        page.get("#question").send_keys(QUESTION + "\n")
        page.wait(lambda: "asked again" in page.text(".state"))
        page.get("#stop").click()
        page.wait(lambda: "Stopped" in page.text(".state"))
        assert len(model.histories) == 1


class TestWithAModelWithoutSources:
    """An answer from memory carries a warning."""

    @pytest.fixture
    def model(self) -> LanguageModelDouble:
        return LanguageModelDouble(["From memory."])

    def test_it_is_labelled(self, page: Page) -> None:
        page.ask(QUESTION)
        assert "without a source" in page.text(".doubtful .state")

    def test_what_is_not_in_the_documents_is_no_answer_of_the_model(self, page: Page) -> None:
        page.ask("Quarterly lunch budget?")
        assert page.text(".state") == "Not in the documents"


class TestWithAModelElsewhere:
    """The page says what leaves the box."""

    @pytest.fixture
    def box(self, box: Box) -> Box:
        engine = Engine(kind="openai", url="https://api.example.com/v1", model="m")
        config = box.services.config.model_copy(update={"engine": engine})
        return replace(box, services=replace(box.services, config=config))

    def test_the_host_is_named_in_both_languages(self, page: Page) -> None:
        page.wait(lambda: "are sent to api.example.com" in page.text("#privacy"))
        page.get("[data-language=ko]").click()
        assert "api.example.com(으)로 전송됩니다" in page.text("#privacy")


def test_a_box_that_sends_nothing_says_so(page: Page) -> None:
    page.wait(lambda: page.text("#privacy") == "Questions and documents stay in this box.")
