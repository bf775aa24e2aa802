"""A studio on the loopback in a thread of the test, and Debian's chromium to look at it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lorita.cli.studio import page_tools
from lorita.serving.server import open_socket
from lorita.studio import app

WAIT = 120_000
"""Milliseconds that a browser waits at most."""


@dataclass
class Running:
    url: str
    folder: Path


@contextmanager
def running(folder: Path, *, password: str | None = None) -> Iterator[Running]:
    """A studio with its runs in ``folder``."""
    listening = open_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    application = app.prepared(folder, page_tools(), host="127.0.0.1", password=password)
    made: list[Any] = []
    thread = threading.Thread(
        target=app.serve,
        args=(application, listening),
        kwargs={"server_made": made.append},
        daemon=True,
    )
    thread.start()
    try:
        yield Running(f"http://127.0.0.1:{port}", folder)
    finally:
        while not made and thread.is_alive():
            time.sleep(0.01)
        made[0].should_exit = True
        made[0].force_exit = True
        thread.join(20)


@contextmanager
def chromium() -> Iterator[Any]:
    """Playwright's browser; the test fails clearly where Debian's chromium is missing."""
    from playwright.sync_api import sync_playwright

    place = shutil.which("chromium") or shutil.which("chromium-browser")
    if place is None:
        pytest.fail("chromium is missing: apt-get install -y chromium (make setup does it as root)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=place, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield browser
        browser.close()


@dataclass
class Window:
    """One window of the browser; ``asked`` are the addresses that it asked for."""

    page: Any
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.page.wait_for_selector("#tabs button", timeout=WAIT)

    def tab(self, name: str) -> None:
        """Go to a tab by the text of its button, also where it is behind the menu of tabs."""
        self.page.get_by_role("tab", name=name, exact=True).first.click()

    def shown(self, selector: str, text: str, timeout: int = WAIT) -> str:
        """Wait until an element shows a text; returns all of its text."""
        where = self.page.locator(selector).filter(has_text=text).first
        where.wait_for(state="visible", timeout=timeout)
        return str(where.inner_text())

    def fill(self, selector: str, text: str) -> None:
        self.page.locator(f"{selector} textarea, {selector} input").first.fill(text)

    def value(self, selector: str) -> str:
        return str(self.page.locator(f"{selector} textarea, {selector} input").first.input_value())

    def until(self, condition: Any, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come to that"
            self.page.wait_for_timeout(100)


@contextmanager
def window(browser: Any, language: str = "en", width: int = 1280) -> Iterator[Window]:
    """A window of its own, without anything that others have kept."""
    locale = {"en": "en-US", "es": "es-ES"}[language]
    context = browser.new_context(
        locale=locale, viewport={"width": width, "height": 900}, accept_downloads=True
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    shown = Window(page)
    page.on("request", lambda request: shown.asked.append(request.url))
    page.on("pageerror", lambda error: shown.errors.append(str(error)))
    yield shown
    context.close()
