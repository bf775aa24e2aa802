"""Pictures of each step of the page: ``python -m tests.studio.pictures DATA FOLDER [--docs]``.

In both languages, wide and narrow, light and dark, to be looked at. With ``--docs``, a few of them
become those of docs/studio.md, in docs/img. A real run on the bundled model, so it takes minutes;
it is not part of the tests.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.studio.browser import Running, chromium, running, window
from tests.studio.walk import Walk

LOOKS = [("en", 1280), ("en", 390), ("es", 1280), ("es", 390)]
DOCS = {
    "data-en-1280-light": "studio-data",
    "model-en-1280-light": "studio-model",
    "training-en-1280-light": "studio-training",
    "result-en-1280-dark": "studio-result",
    "chat-en-1280-light": "studio-chat",
    "data-es-390-light": "studio-data-es",
    "result-es-390-dark": "studio-result-es",
}
"""Picture: its name in docs/img."""
MOST_COLOURS = 64
STEPS, HALFWAY = "16", "6"
PATIENCE = 600_000
"""Milliseconds that a step may take: the pictures are made on any machine."""
TABS = {"exported": "result"}
SHOWN = {
    "data": "#understood .tokens", "model": "#forecast dl",
    "training": "#progress svg", "result": "#result .pair", "exported": "#exports a",
    "chat": "#talk", "runs": "#history table",
}  # fmt: skip
"""What must be there before a step is photographed."""


@dataclass
class Pictures:
    """Photographs what other windows would show, one after the other."""

    browser: Any
    studio: Running
    folder: Path
    docs: Path | None

    def take(self, step: str) -> None:
        """A new window for each look."""
        for language, width in LOOKS:
            with window(self.browser, language, width) as shown:
                shown.page.set_default_timeout(PATIENCE)
                shown.open(f"{self.studio.url}/{language}/")
                walk = Walk(shown, language, wait=PATIENCE)
                walk.tab(TABS.get(step, step))
                shown.page.locator(SHOWN[step]).first.wait_for(timeout=PATIENCE)
                if step == "model":
                    walk.forecast(f"{STEPS}, ")
                shown.page.wait_for_timeout(500)
                self.photograph(step, walk, width)

    def photograph(self, step: str, walk: Walk, width: int) -> None:
        """What a window shows, light and dark."""
        page = walk.window.page
        page.evaluate("window.scrollTo(0, 0)")
        for scheme in ("light", "dark"):
            dark = str(scheme == "dark").lower()
            page.evaluate(f"document.body.classList.toggle('dark', {dark})")
            page.wait_for_timeout(300)
            name = f"{step}-{walk.language}-{width}-{scheme}"
            page.screenshot(path=str(self.folder / f"{name}.png"), full_page=True)
            if self.docs is not None and name in DOCS:
                file = self.docs / f"{DOCS[name]}.png"
                page.screenshot(path=str(file))
                _fewer_colours(file)
        page.evaluate("document.body.classList.remove('dark')")
        assert walk.fits(), (step, walk.language, width)


def _fewer_colours(file: Path) -> None:
    from PIL import Image

    Image.open(file).convert("RGB").quantize(MOST_COLOURS).save(file, optimize=True)


def take(data: Path, folder: Path, docs: Path | None) -> None:
    """Go the whole way in one window, and photograph each step in others."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as place,
        chdir(place),
        chromium() as browser,
        # A relative folder, as for somebody who types ``lorita studio``: no path of this machine.
        running(Path("runs")) as studio,
        window(browser) as shown,
    ):
        pictures = Pictures(browser, studio, folder, docs)
        shown.open(f"{studio.url}/en/")
        _way(data, Walk(shown, "en", wait=PATIENCE), pictures.take, pictures.photograph)


def _way(
    data: Path,
    walk: Walk,
    take: Callable[[str], None],
    photograph: Callable[[str, Walk, int], None],
) -> None:
    walk.upload(data)
    walk.settings(max_steps=STEPS, name="first", max_length="64")
    walk.forecast(f"{STEPS}, over")
    take("data")
    take("model")
    walk.train()
    walk.window.shown("#progress", f"Step {HALFWAY} of", PATIENCE)
    take("training")
    walk.result()
    take("result")
    walk.window.page.set_default_timeout(PATIENCE)
    walk.window.page.locator("#make-export").click()
    walk.window.page.locator("#exports a[href$=gguf]").wait_for(timeout=PATIENCE)
    take("exported")
    walk.chat("I want you to act as a cook.")
    walk.window.page.wait_for_timeout(20_000)
    photograph("chat", walk, 1280)
    take("runs")
    for language, width in LOOKS[1:]:
        walk.window.page.set_viewport_size({"width": width, "height": 900})
        if language == walk.language:
            photograph("chat", walk, width)


if __name__ == "__main__":
    given = [Path(argument).resolve() for argument in sys.argv[1:] if argument != "--docs"]
    take(given[0], given[1], Path("docs/img").resolve() if "--docs" in sys.argv else None)
