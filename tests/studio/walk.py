"""The whole way through the page, step by step, as a person goes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lorita.studio.words import LANGUAGES, Words
from tests.studio.browser import WAIT, Window


@dataclass
class Walk:
    """One window in one language; ``picture`` is called with the name of each step.

    ``wait``: milliseconds that something may take.
    """

    window: Window
    language: str
    picture: Callable[[str], None] = field(default=lambda name: None)
    wait: int = WAIT

    @property
    def words(self) -> Words:
        return LANGUAGES[self.language]

    def tab(self, name: str) -> None:
        self.window.tab(self.words(f"tab_{name}"))

    def choose_model(self, name: str) -> None:
        self.tab("model")
        field_of_model = self.window.page.locator("#model input")
        field_of_model.fill(name)
        field_of_model.press("Enter")

    def upload(self, file: Path) -> str:
        """Give a file; what the page says about it."""
        self.tab("data")
        self.window.page.locator("#file input[type=file]").set_input_files(str(file))
        self.window.page.locator("#understood .tokens").first.wait_for(timeout=self.wait)
        self.picture("data")
        return str(self.window.page.locator("#understood").inner_text())

    def settings(self, **values: str) -> None:
        """Fill in the form; the fields have the names of the options."""
        self.tab("model")
        for name, value in values.items():
            where = f"#{name.replace('_', '-')}"
            shown = self.window.page.locator(f"{where} textarea, {where} input").first
            if not shown.is_visible():
                self.window.page.locator("#more button").first.click()
            shown.fill(value)
            self.window.page.keyboard.press("Tab")

    def forecast(self, part: str) -> str:
        """Wait for the forecast that has this part, and its time."""
        self.window.shown("#forecast", part, self.wait)
        self.window.until(
            lambda: self.words("forecasting") not in self.text("#forecast"), self.wait / 1000
        )
        self.picture("model")
        return self.text("#forecast")

    def train(self) -> None:
        self.window.page.locator("#train").click()
        self.window.page.locator("#progress svg").first.wait_for(timeout=self.wait)
        self.picture("training")

    def result(self) -> str:
        page = self.window.page
        page.locator("#see-result").wait_for(timeout=self.wait)
        page.locator("#see-result").click()
        page.locator("#result .pair").first.wait_for(timeout=self.wait)
        self.picture("result")
        return self.text("#result")

    def chat(self, text: str) -> str:
        self.tab("chat")
        self.window.fill("#question", text)
        self.window.page.locator("#send").click()
        answers = self.window.page.locator("#talk .answer > div")
        answers.nth(1).wait_for(timeout=self.wait)
        self.window.until(lambda: answers.nth(1).inner_text().strip() != "", self.wait / 1000)
        self.picture("chat")
        return self.text("#talk")

    def text(self, selector: str) -> str:
        return str(self.window.page.locator(selector).first.inner_text())

    def message(self, selector: str) -> str:
        """Wait for a message; what it says."""
        shown = self.window.page.locator(f"{selector} .message")
        shown.wait_for(timeout=self.wait)
        return str(shown.inner_text())

    def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return bool(
            self.window.page.evaluate(
                "document.documentElement.scrollWidth <= document.documentElement.clientWidth + 1"
            )
        )
