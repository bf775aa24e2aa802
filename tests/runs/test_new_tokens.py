"""New tokens through a whole run: trained, saved, loaded, merged, exported, continued."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import lorita
from lorita.export.gguf.export import export_gguf
from lorita.export.merged.merge import merge
from lorita.inference import llamacpp
from lorita.training.events import Note
from tests import tiny
from tests.command import refused, write
from tests.export import models
from tests.models.gguf_bases import write_gguf

WORDS = ("<gardener>", "<tea>")
PROMPT = "I act as <gardener>"


def texts(count: int = 16) -> list[str]:
    return [f"{text} as <gardener> <tea> <tea>" for text in tiny.make_texts(count)]


def train(folder: Path, base: Path, **options: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    given: dict[str, Any] = {
        "data": str(tiny.write_csv(folder / "rows.csv", texts())),
        "text_field": "prompt",
        "add_tokens": ",".join(WORDS),
        "output_dir": folder / "run",
        "dtype": "float32",
        "max_steps": 6,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 4,
        "max_new_tokens": 4,
        "compare_prompt": PROMPT,
        "probe": False,
        "use_cpu": True,
    }
    run = lorita.train(
        model=str(base),
        on_event=lambda event: said.append(event.text) if isinstance(event, Note) else None,
        **given | options,
    )
    return run.path, said


def base_of(folder: Path, kind: str) -> Path:
    """Tied or untied, or with more rows than its tokenizer has tokens."""
    if kind == "padded":
        return models.save_base(folder, "llama")
    base = tiny.save_model(folder)
    if kind == "untied":
        model = AutoModelForCausalLM.from_pretrained(base)
        model.config.tie_word_embeddings = False
        model = AutoModelForCausalLM.from_config(model.config)
        tiny.make_it_matter(model)
        model.save_pretrained(base)
    return base


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits
    return found


@pytest.mark.parametrize("kind", ["tied", "untied", "padded"])
def test_every_way_to_use_a_run(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    base = base_of(tmp_path / "base", kind)
    run, said = train(tmp_path, base)
    assert "2 new tokens: <gardener>, <tea>" in said
    tuned = lorita.load(run, dtype="float32")
    ids = tuned.tokenizer(PROMPT)["input_ids"]
    new = tuned.tokenizer.convert_tokens_to_ids(list(WORDS))
    assert ids[-1] == new[0]
    compared = json.loads((run / "compare.json").read_text())["answers"][0]
    assert tuned.generate(PROMPT, max_new_tokens=4) == compared["after"]

    # Only the new rows are trained and saved.
    from safetensors.torch import load_file

    saved = load_file(run / "adapter_model.safetensors")
    rows = {name: t for name, t in saved.items() if "lora_" not in name}
    assert {len(t) for t in rows.values()} == {2} and len(rows) == (1 if kind == "tied" else 2)

    # Without the adapter, the base has them as they started: the answers of before.
    assert tuned.answer([PROMPT], _options(), with_adapter=False) == [compared["before"]]

    # With PEFT alone, as the model card says.
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (run / "README.md").read_text(), re.DOTALL)[1]
    place: dict[str, Any] = {}
    exec(
        re.sub(
            r'(_pretrained\(base, |Config\.from_pretrained\(|Tokenizer\.from_pretrained\()"[^"]*"',
            rf'\1"{run}"',
            code,
        ),
        place,
    )
    plain = place["tuned"].eval()
    assert isinstance(plain, PeftModel)
    assert place["tokenizer"](PROMPT)["input_ids"] == ids
    torch.testing.assert_close(logits(plain, ids), logits(tuned.model, ids))

    merged = merge(run, tmp_path / "merged", dtype="float32").path
    whole = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    assert whole.config.tie_word_embeddings == (kind == "tied")
    assert AutoTokenizer.from_pretrained(merged)(PROMPT)["input_ids"] == ids
    torch.testing.assert_close(logits(whole, ids), logits(tuned.model, ids), atol=1e-4, rtol=1e-4)


def _options() -> Any:
    from lorita.inference.tuned_model import generation_options

    return generation_options({"max_new_tokens": 4})


def test_llama_cpp_writes_them(tmp_path: Path) -> None:
    """The base has no word for it; after training, llama.cpp writes the new token."""
    base = models.save_base(tmp_path / "base", "llama")
    run, _ = train(tmp_path, base, max_steps=40, target_modules="all-linear", proof=False)
    made = export_gguf(run, tmp_path / "model.gguf", merged=True, quantize="f32")
    assert made.checked[0].startswith("llama.cpp: 1 of 1 answers are the same")
    tokenizer = AutoTokenizer.from_pretrained(run)
    server = llamacpp.LlamaCpp(made.path, context=256)
    prompt = tokenizer("I act as my tea as <gardener> ")["input_ids"]
    said, _ = server.complete(prompt, tokens=4)
    assert tokenizer.convert_tokens_to_ids("<tea>") in said
    # Its own tokenizer knows the word as well.
    assert server.tokenize("<tea>")[-1:] == [tokenizer.convert_tokens_to_ids("<tea>")]
    # And from a GGUF file of the base: the file's vocabulary grows.
    (tmp_path / "again").mkdir()
    again, _ = train(tmp_path / "again", write_gguf(tmp_path, "llama"), max_steps=2, proof=False)
    grown = export_gguf(again, tmp_path / "grown.gguf", merged=True, quantize="f32")
    assert grown.checked[0].startswith("llama.cpp: 1 of 1 answers are the same")


def test_a_stopped_run_goes_on_exactly(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    whole, _ = train(tmp_path, base, proof=False, save_steps=3)
    (tmp_path / "b").mkdir()
    part, _ = train(
        tmp_path / "b", base, proof=False,
        resume_from_checkpoint=str(whole / "checkpoint-3"),
    )  # fmt: skip
    assert (part / "adapter_model.safetensors").read_bytes() == (
        whole / "adapter_model.safetensors"
    ).read_bytes()


def test_what_the_list_says(tmp_path: Path) -> None:
    """Spaces, empty lines, duplicates and what exists already are said, and do no harm."""
    base = tiny.save_model(tmp_path / "base")
    listed = write(tmp_path / "words.txt", "\n <gardener> \n\n<tea>\r\n<tea>\na\n<eos>\n<never>\n")
    run, said = train(tmp_path, base, add_tokens=str(listed), max_steps=1, proof=False)
    text = "\n".join(said)
    assert "3 new tokens: <gardener>, <tea>, <never>" in text
    assert "not added, for the tokenizer has them already: a, <eos>" in text
    assert "listed twice" in text and "white space around" in text
    assert "1 of 3 new tokens appears in no training row" in text and "<never>" in text
    # The run's own settings need no file.
    listed.unlink()
    assert "<never>" in (run / "run.yaml").read_text()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--add-tokens", "words.txt"], "add_tokens = 'words.txt': no such file"),
        (["--add-tokens", ","], "add_tokens: there are no tokens in it"),
        (["--add-tokens", "a\u200bb"], "characters that cannot be seen"),
        (["--add-tokens", "<a>", "--add-special-tokens", "<a>"], "name it in one of them"),
        (["--add-special-tokens", "<tea>"], "spells the new control token '<tea>'"),
        (["--add-tokens", "<tea>", "--modules-to-save", "embed_tokens"], "modules_to_save: "),
        (["--add-tokens", "<tea>", "--target-modules", "q_proj,lm_head"], "target_modules: "),
    ],
)
def test_refused(
    flags: list[str], said: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tiny.write_csv(tmp_path / "rows.csv", texts())
    message = refused(
        capsys, "train", "--model", llama, "--data", rows, "--text-field", "prompt", "--use-cpu",
        "--output-dir", tmp_path / "run", *flags,
    )  # fmt: skip
    assert said in message, message
    assert not (tmp_path / "run").exists()
