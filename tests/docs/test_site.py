"""The site is whole: every page is in it, its links hold, and it needs nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import html5lib
import pytest
import yaml

from lorita.cli import COMMANDS
from tests.docs.pages import ROOT

SITE = ROOT / "docs/site"


@pytest.fixture(scope="module")
def make() -> Any:
    sys.path.insert(0, str(SITE))
    try:
        return import_module("make")
    finally:
        sys.path.remove(str(SITE))


@pytest.fixture(scope="module")
def site(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "site"
    make.build(target)
    return target


def in_navigation() -> list[str]:
    """The pages that the navigation names."""
    text = (SITE / "mkdocs.yml").read_text(encoding="utf-8")
    found = yaml.safe_load(text[text.index("nav:") :])["nav"]

    def names(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [name for part in parts for name in names(part)]

    return names(found)


def test_every_page_is_in_the_navigation(make: Any) -> None:
    """A new page in docs needs a line under ``nav`` in docs/site/mkdocs.yml."""
    pages = [page for file, page in make.pages().items() if file != "SECURITY.md"]
    pages += [make.page_of(f"examples/{f.name}") for f in (ROOT / "examples").glob("*.ipynb")]
    missing = sorted({*pages} - {*in_navigation()})
    assert not missing, f"not under nav in docs/site/mkdocs.yml: {', '.join(missing)}"
    assert len(in_navigation()) == len({*in_navigation()})


def test_every_page_is_built(site: Path) -> None:
    for page in in_navigation():
        assert (site / page).with_suffix(".html").is_file(), page
    assert (site / "gallery/article/report.html").stat().st_size > 10_000
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("train", "preview", "load", "sweep", "RunSettings", "UserError", "StepDone"):
        assert f">{name}<" in text, name


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    """No font, script, style or picture; links that a reader may follow are another matter."""
    loading = {"src", "srcset", "poster", "data", "action"}
    for page in site.rglob("*.html"):
        tree = html5lib.parse(page.read_bytes(), namespaceHTMLElements=False)
        for element in tree.iter():
            for name, value in element.attrib.items():
                loads = name in loading or (name == "href" and element.tag == "link")
                assert not (loads and re.match(r"(?:https?:)?//", value.strip())), (page, value)
    for file in (f for kind in ("js", "css") for f in site.rglob(f"assets/**/*.{kind}")):
        text = file.read_text(encoding="utf-8")
        found = re.findall(r"""["'`(](?:https?:)?//(?!www\.w3\.org)[\w.-]+\.\w+""", text)
        assert not found, (file.name, found[:3])
    assert "about:invalid" in "".join(f.read_text() for f in site.rglob("assets/**/*.js"))


@pytest.mark.parametrize(
    "broken", ["[x](nowhere.md)", "[x](data.md#nowhere)", "::: lorita.nothing"]
)
def test_what_is_broken_ends_the_build(broken: str, make: Any, tmp_path: Path) -> None:
    make.stage(tmp_path)
    config = (tmp_path / "mkdocs.yml").read_text(encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(config[: config.index("nav:")], encoding="utf-8")
    for page in (tmp_path / "pages").glob("*.md"):
        page.write_text("# Data\n", encoding="utf-8")  # few pages: the build is quick
    (tmp_path / "pages/index.md").write_text(f"# A page\n\n{broken}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode != 0


def test_the_gallery_is_of_examples_that_exist(make: Any) -> None:
    kept = {folder.name for folder in (SITE / "gallery").iterdir()}
    examples = make.gallery.EXAMPLES
    assert kept == {each.name for each in examples} and len(examples) == 3
    for each in examples:
        words = each.command.split()
        assert words[0] == "lorita" and words[1] in COMMANDS
        for word in words:
            assert "/" not in word or (ROOT / word).is_file(), word
