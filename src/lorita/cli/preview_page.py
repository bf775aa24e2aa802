"""A preview as an HTML page: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.tokens.token_view import glyphs
from lorita.errors import OutputError
from lorita.storage.files import write_atomic
from lorita.storage.targets import Target, check_target
from lorita.system.terminal_text import shown
from lorita.workflows.preview_words import facts

if TYPE_CHECKING:
    from lorita.workflows.preview import Preview


def write_page(file: Path, found: Preview) -> None:
    """Write the page; ``OutputError`` if that is not possible."""
    text = page(found)
    check_page(file)
    try:
        write_atomic(file.expanduser(), text)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror})") from None


def check_page(file: Path) -> None:
    """``OutputError`` unless the page can be written; only another page is replaced."""
    check_target(Target(file.expanduser(), overwrite=True, magic=b"<!doctype html>"))


def page(found: Preview) -> str:
    """The HTML of the page; text from the data is escaped."""
    from jinja2 import Environment, StrictUndefined

    source = (files("lorita") / "resources" / "preview.html.jinja").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    most = max((each.rows for each in found.histogram), default=1)
    return shown(template.render(found=found, facts=list(facts(found)), glyphs=glyphs, most=most))
