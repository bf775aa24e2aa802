"""Answers through llama.cpp are transformers' answers, where the file is float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lorita
from lorita.cli import run as command
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import SettingsError, UserError
from lorita.export.gguf import file as gguf
from lorita.export.llamacpp import files as llama_files
from lorita.export.llamacpp.model import open_llamacpp
from lorita.inference import llamacpp
from lorita.inference.load import open_model
from lorita.inference.resolve import resolve
from tests import tiny
from tests.command import python, refused
from tests.export import models
from tests.export.merged.test_merge import saved

PROMPTS = ["the thing is", "a", "tea and bread, ", "gardener " * 5]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return models.save_base(tmp_path / "base", "llama")


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("options", [{"use_rslora": True}, {"use_dora": True}, {"bias": "all"}])
def test_the_same_answers(
    options: dict[str, Any], penalty: float, base: Path, tmp_path: Path
) -> None:
    """Tuned and base, together and alone, by adapter file and merged."""
    run = saved(tmp_path / "run", base, **options)
    asked = {"max_new_tokens": 12, "repetition_penalty": penalty}
    ours = open_llamacpp(resolve(str(run)), "float32")
    expected = lorita.load(run, dtype="float32").generate_batch(PROMPTS, **asked)
    assert ours.generate_batch(PROMPTS, **asked) == expected
    assert ours.generate(PROMPTS[1], **asked) == expected[1]
    assert ours.is_merged == ("use_rslora" not in options)
    plain = open_model(resolve(str(base)), "float32").generate_batch(PROMPTS, **asked)
    assert ours.generate_batch(PROMPTS, with_adapter=False, **asked) == plain != expected
    assert open_llamacpp(resolve(str(base)), "float32").generate_batch(PROMPTS, **asked) == plain


def test_long_prompts(tmp_path: Path) -> None:
    """One that is longer than the first finds room; one beyond the model's context is refused."""
    base = models.save_base(tmp_path / "base", "llama", max_position_embeddings=1024)
    model = open_llamacpp(resolve(str(base)), "float32")
    plain = open_model(resolve(str(base)), "float32")
    for words in (2, 60):
        prompt = "the thing " * words
        assert model.generate(prompt, max_new_tokens=8) == plain.generate(prompt, max_new_tokens=8)
    with pytest.raises(UserError, match=r"the prompt has 1\d{3} tokens, the model takes 1024"):
        model.generate("the thing " * 200, max_new_tokens=8)


def test_an_end_of_turn_ends_the_answer(base: Path, tmp_path: Path) -> None:
    """llama.cpp does not know the run's stop tokens: its answers are cut after them."""
    model = open_llamacpp(resolve(str(base)), "float32")
    whole = model.tokenizer(model.generate("the", max_new_tokens=8))["input_ids"]
    stop = whole[3]
    model.prompt_format = Stopping(stop)
    kept = whole[: whole.index(stop) + 1]
    assert model.tokenizer(model.generate("the", max_new_tokens=8))["input_ids"] == kept


class Stopping(PromptFormat):
    def __init__(self, stop: int) -> None:
        super().__init__()
        object.__setattr__(self, "stop", stop)

    def stops(self, tokenizer: Any) -> list[int]:
        return [self.stop]  # type: ignore[attr-defined]


def test_drawn_answers_have_a_seed(base: Path) -> None:
    model = open_llamacpp(resolve(str(base)), "float32")
    drawn = {"do_sample": True, "temperature": 2.0, "top_k": 0, "max_new_tokens": 8}
    first = model.generate("the", seed=1, **drawn)
    assert model.generate("the", seed=1, **drawn) == first
    assert model.generate("the", seed=2, **drawn) != first


def counting(name: str, made: list[str]) -> Any:
    write = getattr(gguf, name)

    def counted(*args: Any, **options: Any) -> Any:
        made.append(name)
        return write(*args, **options)

    return counted


def test_files_are_made_once(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed adapter is another file."""
    run = saved(tmp_path / "run", base)
    made: list[str] = []
    for name in ("write_adapter", "write_merged"):
        monkeypatch.setattr(gguf, name, counting(name, made))
    for _ in range(2):
        open_llamacpp(resolve(str(run))).generate("the", max_new_tokens=2)
    assert made == ["write_adapter", "write_merged"]
    saved(run, base, r=2)
    open_llamacpp(resolve(str(run))).generate("the", max_new_tokens=2)
    assert made[2:] == ["write_adapter"]


def test_nothing_half_made_stays(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(gguf, "write_merged", fail)
        llama_files.base_file(open_llamacpp(resolve(str(base))).base)
    assert not list((tmp_path / "cache/lorita").iterdir())
    assert open_llamacpp(resolve(str(base))).generate("the", max_new_tokens=2) is not None


def test_bad_options(base: Path) -> None:
    model = open_llamacpp(resolve(str(base)))
    with pytest.raises(SettingsError, match="unknown option 'colour'"):
        model.generate("the", colour="red")
    with pytest.raises(SettingsError, match="no tokens"):
        model.generate("")
    with pytest.raises(SettingsError, match="dtype = 'int4'"):
        open_llamacpp(resolve(str(base)), "int4").generate("the")


# --- the commands ---------------------------------------------------------------------------


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    prompts = tiny.write_csv(tmp_path / "prompts.csv", tiny.make_texts(24))
    result = lorita.train(
        model=str(base), data=str(prompts), text_field="prompt", max_steps=2, dtype="float32",
        max_new_tokens=4, output_dir=tmp_path / "trained", on_event=lambda event: None,
    )  # fmt: skip
    return result.path


def test_the_commands(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for engine in ("transformers", "llama.cpp"):
        how = ["--engine", engine, "--dtype", "float32"]
        capsys.readouterr()
        assert command(["generate", str(run), "the", "--max-new-tokens", "8", *how]) == 0
        assert command(["compare", str(run), "--prompt", "the", "--max-new-tokens", "8", *how]) == 0
        assert command(["evaluate", str(run), *how]) == 0
        said[engine] = capsys.readouterr().out
    assert said["llama.cpp"] == said["transformers"]


def test_without_llama_cpp(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp, "find_spec", lambda name: None)
    message = refused(capsys, "generate", base, "the", "--engine", "llama.cpp")
    assert 'pip install "lorita[llamacpp]"' in message
    message = refused(capsys, "generate", base, "the", "--engine", "vllm")
    assert "llama.cpp" in message and "transformers" in message


GIVE_UP = """
import ctypes, sys, xllamacpp
from pathlib import Path
from lorita.errors import CheckFailed
from lorita.inference.llamacpp import LlamaCpp
try:
    LlamaCpp(Path(sys.argv[1]))
except CheckFailed:
    ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_abort(b"file", 1, b"the reason")
"""


def test_llama_cpp_gives_up_without_a_debugger(tmp_path: Path) -> None:
    """It would attach one to the process, which takes seconds, or for ever."""
    (tmp_path / "no.gguf").write_bytes(b"nothing")
    done = python("-c", GIVE_UP, tmp_path / "no.gguf", anew=True)
    assert done.code != 0 and done.err.rstrip().endswith("file:1: the reason")
