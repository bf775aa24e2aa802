"""The pictures of docs/studio.md: ``python -m tests.studio.pictures DATA FOLDER``.

A real run on the bundled model, so it takes minutes; it is not part of the tests.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.studio.browser import chromium, running, window
from tests.studio.walk import Walk

SHOWN = {"en": ("data", "model", "result"), "es": ("model",)}
MOST_COLOURS = 64


def take(data: Path, folder: Path) -> None:
    """Go the whole way in English, and to the forecast in Spanish."""
    from PIL import Image

    with (
        tempfile.TemporaryDirectory() as place,
        chromium() as browser,
        running(Path(place) / "runs") as studio,
        window(browser) as shown,
    ):
        for language in ("en", "es"):
            walk = Walk(shown, language)

            def picture(name: str, language: str = language) -> None:
                if name not in SHOWN[language]:
                    return
                ending = "" if language == "en" else f"-{language}"
                file = folder / f"studio-{name}{ending}.png"
                shown.page.evaluate("window.scrollTo(0, 0)")
                shown.page.wait_for_timeout(300)
                shown.page.screenshot(path=str(file))
                Image.open(file).convert("RGB").quantize(MOST_COLOURS).save(file, optimize=True)

            walk.picture = picture
            shown.open(f"{studio.url}/{language}/")
            if language == "es":
                walk.tab("model")
                walk.forecast("filas (")
                continue
            walk.upload(data)
            walk.settings(max_steps="30", name="first", max_length="128")
            walk.forecast("30, over")
            walk.train()
            walk.result()


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
