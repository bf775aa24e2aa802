"""Which chat template is chosen: the tokenizer's own, a built-in one, or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorita.data.tokens import choose_template as templates
from lorita.data.tokens.choose_template import NAMED, choose_template
from lorita.errors import DataError
from tests.data.tokens.template_cases import CHATML, IM
from tests.data.tokens.tokenizers import make


def test_which_template_is_taken(tmp_path: Path) -> None:
    base, own = make("bytes"), make("bytes", IM, eos="<|im_end|>")
    own.chat_template = CHATML
    try:
        assert choose_template(base, None, "pair") == (None, [])
        assert choose_template(own, "none", "pair") == (None, [])
        found, notes = choose_template(base, None, "chat")
        assert found is not None and found.name == "chatml"
        assert "has no chat template: chatml is used" in notes[0]
        assert "is not a token of this tokenizer" in notes[1]
        assert choose_template(own, None, "chat")[1] == ["chat template: the tokenizer's own"]
        assert choose_template(own, "zephyr", "text")[0] is None
        (tmp_path / "mine.jinja").write_text(CHATML)
        mine, _ = choose_template(own, str(tmp_path / "mine.jinja"), "chat")
        assert mine is not None and (mine.name, mine.source) == ("mine.jinja", CHATML)
    finally:
        own.chat_template = None


def test_named_templates_are_in_the_folder_beside_their_module() -> None:
    folder = Path(templates.__file__).parent / "chat_templates"
    assert folder == templates.FOLDER
    assert sorted(file.stem for file in folder.glob("*.jinja")) == sorted(NAMED)


def test_templates_that_are_refused(tmp_path: Path) -> None:
    tokenizer = make("bytes")
    (tmp_path / "broken.jinja").write_text("{% for m in messages %}\n{{ m.content }")
    (tmp_path / "silent.jinja").write_text("{{ messages[0].content }}")
    for wanted, said in {
        "chatlm": "did you mean chatml",
        "none": "cannot be trained without a template",
        str(tmp_path / "broken.jinja"): "broken.jinja: chat template error: .*line 2",
        str(tmp_path / "silent.jinja"): "does not render the assistant's messages",
    }.items():
        with pytest.raises(DataError, match=said):
            choose_template(tokenizer, wanted, "chat")
