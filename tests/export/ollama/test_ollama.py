"""The folder for ``ollama create``: its Modelfile. GGUF files have their own tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from lorita.cli import run as lorita
from lorita.errors import OutputError, SettingsError
from lorita.export.ollama.export import Wanted, export_ollama
from lorita.export.ollama.modelfile import PLAIN, Modelfile, Sampling
from tests import tiny
from tests.export import models
from tests.export.merged.test_merge import saved
from tests.export.ollama.test_chat_layout import TEMPLATES
from tests.inference.test_several_adapters import make_adapter


def write(tuned: Any, path: Path) -> tuple[list[str], list[str]]:
    path.write_bytes(b"GGUF")
    return [f"wrote {path.name}"], ["not checked"]


def values(modelfile: str) -> dict[str, list[str]]:
    """The instructions of a Modelfile, read the way Ollama's parser does."""
    found: dict[str, list[str]] = {}
    text = re.sub(r"^#.*\n", "", modelfile, flags=re.M)
    for match in re.finditer(
        r'^([A-Z]+(?: [a-z_]+(?= ))?) (?:"""(.*?)"""|(\S[^\n]*))$', text, re.M | re.S
    ):
        found.setdefault(match[1], []).append(match[2] if match[2] is not None else match[3])
    return found


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "parrot", 1, r=2)


def test_plain_texts_merged(adapter: Path, llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export_ollama(adapter, out, Wanted(), write, base=str(llama))
    assert {path.name for path in out.iterdir()} == {".lorita-files", "Modelfile", "model.gguf"}
    said = values((out / "Modelfile").read_text())
    assert said["FROM"] == ["./model.gguf"]
    assert "ADAPTER" not in said
    assert said["TEMPLATE"] == [PLAIN]
    assert said["PARAMETER stop"] == ["<eos>"]
    assert said["PARAMETER temperature"] == ["0"]
    assert said["PARAMETER repeat_penalty"] == ["1.5"]
    assert done.notes == ("wrote model.gguf",)
    with pytest.raises(OutputError, match="--overwrite"):
        export_ollama(adapter, out, Wanted(), write, base=str(llama))


def test_a_chat_on_a_model_that_ollama_has(adapter: Path, llama: Path, tmp_path: Path) -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = TEMPLATES["chatml"].source
    tokenizer.save_pretrained(adapter)
    sampling: Any = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.0}
    wanted = Wanted(adapter_only=True, start="ollama:llama3.2:1b", **sampling)
    done = export_ollama(adapter, tmp_path / "out", wanted, write, base=str(llama))
    said = values(done.modelfile)
    assert said["FROM"] == ["llama3.2:1b"]
    assert said["ADAPTER"] == ["./adapter.gguf"]
    assert any("Only Ollama before 0.34.1" in note for note in done.notes)
    assert "# Only Ollama before 0.34.1" in done.modelfile
    assert "range .Messages" in said["TEMPLATE"][0]
    assert said["PARAMETER stop"][0] == "<|im_end|>"
    assert said["PARAMETER temperature"] == ["0.7"]
    assert said["PARAMETER repeat_penalty"] == ["1"]  # Ollama's own default is another one


def test_a_template_written_by_hand(adapter: Path, llama: Path, tmp_path: Path) -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    tokenizer.save_pretrained(adapter)
    with pytest.raises(SettingsError.__base__, match="--template FILE"):  # type: ignore[arg-type]
        export_ollama(adapter, tmp_path / "out", Wanted(), write, base=str(llama))
    assert not (tmp_path / "out").exists()
    own = tmp_path / "own.tmpl"
    own.write_text("{{ range .Messages }}{{ .Content }}{{ end }}")
    wanted = Wanted(template=own)
    done = export_ollama(adapter, tmp_path / "out", wanted, write, base=str(llama))
    assert values(done.modelfile)["TEMPLATE"] == [own.read_text()]
    assert any("renders 0 of 10 chats" in note for note in done.notes)


def test_nothing_is_left_where_the_gguf_fails(adapter: Path, llama: Path, tmp_path: Path) -> None:
    def fail(tuned: Any, path: Path) -> tuple[list[str], list[str]]:
        raise OutputError("the disk is full")

    before = set(tmp_path.iterdir())
    with pytest.raises(OutputError):
        export_ollama(adapter, tmp_path / "out", Wanted(), fail, base=str(llama))
    assert set(tmp_path.iterdir()) == before


def test_an_adapter_needs_a_base_in_ollama(adapter: Path, llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no GGUF file"):
        export_ollama(adapter, tmp_path / "out", Wanted(adapter_only=True), write, base=str(llama))
    with pytest.raises(SettingsError, match="a merged model holds its base"):
        export_ollama(adapter, tmp_path / "out", Wanted(start="x"), write, base=str(llama))
    assert not (tmp_path / "out").exists()


def test_what_a_modelfile_cannot_hold() -> None:
    with pytest.raises(SettingsError, match='contains """'):
        str(Modelfile("x", None, PLAIN, [], 'say """', Sampling()))
    with pytest.raises(SettingsError) as refused:
        Sampling(temperature=-1, top_p=2)
    assert len(refused.value.problems) == 2


def test_an_adapter_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An adapter in llama.cpp's own format, given with the base it belongs to."""
    base = models.save_base(tmp_path / "base", "llama")
    file = tmp_path / "lora.gguf"
    assert lorita(["export", "gguf", str(saved(tmp_path / "run", base)), str(file)]) == 0
    out = tmp_path / "out"
    assert lorita(["export", "ollama", str(file), str(out), "--base", str(base)]) == 0
    assert {path.name for path in out.iterdir()} == {".lorita-files", "Modelfile", "model.gguf"}
    assert "lora.gguf, made with lorita" in (out / "Modelfile").read_text()
