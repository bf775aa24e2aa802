"""The whole way in Debian's chromium, in both languages, on a tiny model."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lorita.studio.words import ENGLISH, SPANISH
from tests import tiny
from tests.studio.browser import WAIT, Running, Window, chromium, running, window
from tests.studio.walk import Walk

QUICK = "speedup: false\nprobe: false"
RAW = re.compile(r"Traceback|\w+Error\b|Exception|\{\w+\}|undefined|NaN")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "runs") as found:
        yield found


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chats in a file whose name is awkward in a shell, in a path and in HTML."""
    path = tmp_path_factory.mktemp("rows") / "mis chats $(x) <b> ñ'.jsonl"
    chats = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "<i>sí"}]}
        for text in tiny.make_texts(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in chats), encoding="utf-8")
    return path


def looked_at(shown: Window, studio: Running) -> None:
    """Nothing was asked of anybody else, and no script failed."""
    assert [url for url in shown.asked if not url.startswith((studio.url, "data:", "blob:"))] == []
    assert shown.errors == []


def pictures(walk: Walk, folder: Path) -> Walk:
    """Have each step photographed, and checked for what no page should show."""

    def picture(name: str) -> None:
        text = walk.text("body")
        assert not RAW.search(text), RAW.search(text)
        assert walk.fits(), name
        walk.window.page.screenshot(path=str(folder / f"{walk.language}-{name}.png"))

    walk.picture = picture
    return walk


def step_shown(shown: Window) -> int:
    found = re.search(r"[Ss]tep ([\d,]+)", shown.page.locator("#progress").inner_text())
    return int(found[1].replace(",", "")) if found else 0


def stopped_at(shown: Window) -> int:
    """The step of the checkpoint, once the run has stopped."""
    text = shown.shown("#progress", "Stopped. The checkpoint of step")
    assert "--resume" in text
    return step_shown(shown)


def test_from_upload_to_export(
    browser: Any, studio: Running, chat_base: Path, rows: Path, tmp_path: Path
) -> None:
    """In English: also a second window, a second training, stop, resume."""
    with window(browser) as shown, window(browser) as other:
        shown.open(studio.url)
        assert shown.page.url.endswith("/en/")
        walk = pictures(Walk(shown, "en"), tmp_path)
        walk.choose_model(str(chat_base))
        said = walk.upload(rows)
        assert "24 in all: 22 for training, 2 held out" in said
        assert "trained" in said and "No problems found" not in said  # rows are repeated
        walk.settings(max_steps="40", name="first")
        assert "to measure the result" in walk.forecast("40, over 22 rows")
        walk.settings(max_steps="5000", r="4", others=f"early_stopping_patience: 0\n{QUICK}")
        assert "MB" in walk.forecast("5,000, over 22 rows")
        shown.until(lambda: "--no-speedup" in shown.value("#command"))
        command = shown.value("#command")
        assert "--max-steps 5000" in command and "--early-stopping-patience 0" in command
        with shown.page.expect_download() as got:
            shown.page.locator("#yaml a").click()
        assert "max_steps: 5000" in Path(got.value.path()).read_text(encoding="utf-8")

        walk.train()
        other.open(f"{studio.url}/en/")
        second = Walk(other, "en")
        second.tab("training")
        other.shown("#progress", ENGLISH("state_running"))
        second.tab("model")  # with the settings of the first window, all of them
        other.until(lambda: "--max-steps 5000" in other.value("#command"))
        assert "--early-stopping-patience 0" in other.value("#command")
        second.settings(
            name="second",
            max_steps="6",
            learning_rate="0.02",
            others=QUICK,
        )
        other.page.locator("#train").click()
        assert ENGLISH("already_training", name="first") in second.message("#model-message")

        shown.page.locator("#stop").click()
        first = stopped_at(shown)
        second.tab("training")
        other.shown("#progress", "Stopped.")
        other.page.locator("#resume").click()
        shown.until(lambda: step_shown(shown) > first)
        shown.page.locator("#stop").click()
        assert stopped_at(shown) > first

        second.tab("model")
        other.page.locator("#train").click()
        # Six steps may be over before a look at the page: what is waited for is what stays.
        shown.until((studio.folder / "second").exists)
        other.page.close()  # the run goes on without the page that began it
        shown.page.reload()
        walk.tab("training")
        text = walk.result()
        assert "nats per token" in text and "general passages" in text
        shown.page.locator("#make-export").click()
        link = shown.page.locator("#exports a[href$=gguf]")
        link.wait_for(timeout=WAIT)
        with shown.page.expect_download() as got:
            link.click()
        assert Path(got.value.path()).read_bytes()[:4] == b"GGUF"
        assert "I act as a cook" in walk.chat("I act as a cook")
        walk.tab("runs")
        shown.shown("#history", "first")
        walk.picture("runs")
        looked_at(shown, studio)


def test_in_spanish_on_a_phone(
    browser: Any, studio: Running, chat_base: Path, rows: Path, tmp_path: Path
) -> None:
    with window(browser, "es", 390) as shown:
        shown.open(studio.url)
        assert shown.page.url.endswith("/es/")
        assert shown.page.locator("html").get_attribute("lang") == "es"
        walk = pictures(Walk(shown, "es"), tmp_path)
        walk.choose_model(str(chat_base))
        said = walk.upload(rows)
        assert "24 en total: 22 para entrenar, 2 reservadas" in said
        walk.settings(
            name="segunda",
            max_steps="6",
            r="4",
            learning_rate="0,02",
            others=f"proof: false\n{QUICK}",
        )
        walk.forecast("6, con 22 filas")
        shown.until(lambda: "--learning-rate 0.02" in shown.value("#command"))
        walk.train()
        text = walk.result()
        assert SPANISH("base") in text and SPANISH("no_proof") in text
        with shown.page.expect_download() as got:
            shown.page.locator("#exports a[href$=adapter]").click()
        with zipfile.ZipFile(got.value.path()) as zipped:
            names = zipped.namelist()
        assert "segunda/adapter_model.safetensors" in names and "segunda/report.html" in names
        walk.chat("I act as a cook")
        walk.tab("runs")
        shown.shown("#history", "segunda")
        walk.picture("runs")
        shown.page.get_by_role("link", name="English").click()
        shown.page.wait_for_url("**/en/")
        shown.shown("#understood", "How it was understood")  # what was chosen is still there
        looked_at(shown, studio)


def test_mistakes_are_explained(
    browser: Any, studio: Running, chat_base: Path, tmp_path: Path
) -> None:
    bad = {
        "empty.csv": b"",
        "photo.exe": b"MZ",
        "broken.json": b'{"a": [',
        "bytes.jsonl": b"\xff\xfe\x00{",
        "zip.xlsx": b"PK\x03\x04 no",
    }
    with window(browser, "es") as shown:
        shown.open(f"{studio.url}/es/")
        walk = pictures(Walk(shown, "es"), tmp_path)
        walk.choose_model(str(chat_base))
        walk.tab("data")
        for text, key in (("", "empty_text"), ("   \n \n", "empty_text")):
            shown.fill("#paste", text)
            shown.page.locator("#use-text").click()
            assert SPANISH(key) in walk.message("#data-message")
        shown.fill("#paste", "one row only")
        shown.page.locator("#use-text").click()
        shown.shown("#data-message", SPANISH("few_texts", count=1))
        shown.fill("#place", "/nowhere/x.csv")
        shown.page.locator("#use-place").click()
        shown.shown("#data-message", "/nowhere/x.csv")
        last = ""
        for name, content in bad.items():
            (tmp_path / name).write_bytes(content)
            if last:
                shown.page.locator("#file button[aria-label]").last.click()
            shown.page.locator("#file input[type=file]").set_input_files(str(tmp_path / name))
            if name == "photo.exe":
                continue  # the browser's field does not take it
            stem = name.partition(".")[0]
            shown.until(lambda stem=stem: stem in walk.text("#data-message"))
            last = walk.text("#data-message")
            assert not RAW.search(last), last
        shown.fill("#paste", "a first text\na second text\na third text")
        shown.page.locator("#use-text").click()
        shown.page.locator("#understood .tokens").first.wait_for(timeout=WAIT)
        for values, part in (
            ({"r": "many"}, "r = 'many'"),
            ({"r": "0"}, "r = '0'"),
            ({"r": "", "others": "use_dorra: true"}, "use_dora"),
            ({"others": "map_row: a.py:b"}, SPANISH("command_only", name="map_row")),
            ({"others": "just words"}, SPANISH("others_not_lines")),
            ({"others": "", "name": "../x"}, SPANISH("bad_name", name="../x")),
        ):  # fmt: skip
            walk.settings(**values)
            shown.shown("#form-message", part)
        walk.picture("mistake")
        looked_at(shown, studio)
