"""Build the site: ``python docs/site/make.py build/site``, or ``make docs``.

The read-me files, the pages in ``docs``, the notebooks and the gallery are put into one folder,
with links that fit it, and zensical makes the site of them. It needs no network, and any broken
link or anchor ends the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gallery
import nbformat

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RENAMED = {
    "README.md": "index.md",
    "README.es.md": "es.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-reports.md",
    "benchmarks/LOG.md": "log.md",
    "examples/article.ipynb": "article.md",
    "examples/articulo.ipynb": "articulo.md",
    "examples": "gallery.md",
}
"""Where a file of the repository is in the site, if not under its own name."""
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_ADDRESS = re.compile(r"""(["'`])https?://(?!www\.w3\.org)""")
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """The site's pages that come from Markdown files of the repository: file and page."""
    files = [*ROOT.glob("docs/*.md"), *(ROOT / name for name in RENAMED if name.endswith(".md"))]
    return {name: page_of(name) for name in (f.relative_to(ROOT).as_posix() for f in files)}


def page_of(file: str) -> str:
    """The place in the site of a file of the repository."""
    if file in RENAMED:
        return RENAMED[file]
    return file.removeprefix("docs/") if file.startswith("docs/") else f"files/{file}"


def stage(folder: Path) -> None:
    """Put all that the site is made of into ``folder``."""
    place = folder / "pages"
    shutil.copytree(HERE / "gallery", place / "gallery")
    shutil.copytree(ROOT / "docs" / "img", place / "img")
    shutil.copy(HERE / "mkdocs.yml", folder)
    shutil.copy(HERE / "api.md", place)
    (place / "gallery.md").write_text(gallery.page(), encoding="utf-8")
    wanted: set[str] = set()
    for file, page in pages().items():
        text = (ROOT / file).read_text(encoding="utf-8")
        (place / page).write_text(_linked(text, file, wanted), encoding="utf-8")
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        file = notebook.relative_to(ROOT).as_posix()
        text = _linked(notebook_page(notebook), file, wanted)
        (place / page_of(file)).write_text(text, encoding="utf-8")
        shutil.copy(notebook, place)
    for file in wanted:
        target = place / page_of(file)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, target)


def _linked(text: str, file: str, wanted: set[str]) -> str:
    """The text of ``file`` with links for the site; files it links to are added to ``wanted``."""

    def link(found: re.Match[str]) -> str:
        target = os.path.normpath(Path(file).parent / found[1])
        if (ROOT / target).is_file():
            wanted.add(target)
        return page_of(target) + (found[2] or "")

    return _outside_code(text, lambda part: _LINK.sub(link, part))


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = _FENCED.split(text)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def notebook_page(file: Path) -> str:
    """A notebook as Markdown: its text, its code and what the code printed or showed."""
    parts = []
    for number, cell in enumerate(nbformat.read(file, as_version=4).cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            if number == 0:
                parts.append(f"[{file.name}]({file.name})")
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "text/html" in data:
                parts.append(f"<div>{data['text/html']}</div>".replace("\n", " "))
            elif text := output.get("text") or data.get("text/plain"):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def build(target: Path) -> None:
    """Build the site into ``target``, which is replaced; exits where anything is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder))
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": source, "NO_COLOR": "1"},
            capture_output=True, encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
        if done.returncode or not (Path(folder) / "site/index.html").is_file():
            said = (done.stdout + done.stderr).partition("Traceback")[0].strip()
            raise SystemExit(f"{said}\nThe site was not built.")
        _keep_to_itself(Path(folder) / "site")
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(Path(folder) / "site", target)
    print(f"Built: {target / 'index.html'}")


def _keep_to_itself(site: Path) -> None:
    """Remove the addresses from which the theme's script would load what our pages do not use."""
    for script in site.rglob("assets/**/*.js"):
        text = script.read_text(encoding="utf-8")
        script.write_text(_ADDRESS.sub(r"\1about:invalid#", text), encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site"))
