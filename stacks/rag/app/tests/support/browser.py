"""Headless Chromium for tests of the page, and the few gestures they need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
DEADLINE_S = 15.0
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip

# The newest answer stands first; an answer is complete when it is no longer busy.
_LATEST_IS_COMPLETE = """
const card = document.querySelector(".answer");
return card?.querySelector("h2").textContent === arguments[0].trim()
  && card.querySelector(".body").getAttribute("aria-busy") === "false"
  && document.getElementById("stop").hidden;
"""


def missing() -> str:
    """Why no browser can be driven here; empty when one can."""
    absent = [str(path) for path in (CHROMIUM, CHROMEDRIVER) if not path.exists()]
    return f"not installed: {', '.join(absent)}" if absent else ""


@contextmanager
def chromium(profile: Path, language: str = "en") -> Iterator[webdriver.Chrome]:
    """A fresh browser whose user speaks `language`."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--accept-lang={language}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The box's page in a browser, as a person meets it."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, width: int = 1280, height: int = 860) -> Page:
        """Load the page at this size, and wait until its list of documents stands."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        self.driver.get(f"{self.url}/")
        self.wait(lambda: self.find("#document-list section"))
        return self

    def wait(self, found: Callable[[], Any]) -> Any:
        """What `found` gives once it is true; fails at the deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while not (value := found()):
            if time.monotonic() > deadline:
                raise AssertionError(f"did not happen: {self.text('body')[-800:]}")
            time.sleep(0.02)
        return value

    def find(self, selector: str) -> WebElement | None:
        """The first element, or None."""
        return next(iter(self.all(selector)), None)

    def all(self, selector: str) -> list[WebElement]:
        """All elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def get(self, selector: str) -> WebElement:
        """The first element, waited for."""
        element: WebElement = self.wait(lambda: self.find(selector))
        return element

    def text(self, selector: str) -> str:
        """The visible text of the first element; empty if there is none."""
        # Read in one go: an element found first could be redrawn before it is read.
        script = "return (document.querySelector(arguments[0])?.innerText ?? '').trim()"
        text: str = self.run(script, selector)
        return text

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a script."""
        return self.driver.execute_script(script, *arguments)

    def ask(self, question: str) -> None:
        """Ask and wait for the whole answer."""
        self.get("#question").send_keys(question + "\n")
        self.wait(lambda: self.run(_LATEST_IS_COMPLETE, question))
