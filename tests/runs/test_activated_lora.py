"""A run with an activated LoRA: what is trained, said, saved, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import lorita
from lorita.data.examples import Example
from lorita.data.tokens.invocation import find_invocation, invocation_notes
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import AdapterError, DataError, LoritaWarning, SettingsError
from lorita.training.events import Note
from tests import tiny
from tests.command import refused
from tests.runs.test_run import train as train_run
from tests.training.test_resume import interrupted, resume

MARK = "=> "
GIVEN: dict[str, Any] = {
    "text_field": "prompt", "dtype": "float32", "learning_rate": 1e-2, "max_steps": 3, "r": 2,
    "per_device_train_batch_size": 4, "max_new_tokens": 3, "use_cpu": True, "probe": False,
}  # fmt: skip


def write_rows(path: Path, *, without: int = 0) -> Path:
    texts = [
        text if number < without else f"{text} {MARK}a cook {number}"
        for number, text in enumerate(tiny.make_texts(24))
    ]
    return tiny.write_csv(path, texts)


@pytest.fixture(scope="module")
def run(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    place, said = tmp_path_factory.mktemp("activated"), list[str]()
    lorita.train(
        model=str(llama), data=str(write_rows(place / "rows.csv", without=2)),
        output_dir=place / "run", alora_invocation_tokens=MARK,
        on_event=lambda event: said.append(event.text) if isinstance(event, Note) else None,
        **GIVEN,
    )  # fmt: skip
    return place / "run", said


def test_saved_as_peft_saves_it_and_answers_the_same(
    run: tuple[Path, list[str]], llama: Path
) -> None:
    folder, said = run
    tokenizer = tiny.make_tokenizer()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["alora_invocation_tokens"] == tokenizer(MARK)["input_ids"]
    assert any(repr(MARK) in line and "acts from" in line for line in said)
    assert any("rows do not hold the invocation" in line for line in said)
    tuned = lorita.load(folder, dtype="float32")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), str(folder))
    for prompt in (f"I act as {MARK}", f"{MARK}a cook {MARK}", "I act as a cook"):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            expected = theirs.eval()(input_ids=ids).logits
            torch.testing.assert_close(tuned.model(input_ids=ids).logits, expected)
            inside = tuned.model.get_base_model()
            torch.testing.assert_close(inside(input_ids=ids).logits, expected)
        if MARK not in prompt:
            with pytest.warns(LoritaWarning, match="the base answers"):
                tuned.generate(prompt, max_new_tokens=1)
            continue
        out = theirs.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5,
                              do_sample=False)  # fmt: skip
        text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert tuned.generate(prompt, max_new_tokens=5, repetition_penalty=1.0) == text


def test_prompts_of_texts_end_with_the_invocation(run: tuple[Path, list[str]]) -> None:
    answers = json.loads((run[0] / "compare.json").read_text())["answers"]
    assert answers and all(answer["prompt"].endswith(MARK) for answer in answers)


def test_kept_prompts_are_said_and_a_resumed_run_ends_with_the_same_bytes(
    llama: Path, tmp_path: Path
) -> None:
    """What was kept is gone when a run is resumed, in the midst of its second epoch."""
    data, said = write_rows(tmp_path / "rows.csv"), list[str]()
    options = {"alora_invocation_tokens": MARK, "train_on": "all"}
    train_run(tmp_path / "whole", llama, data, max_steps=9, lora_dropout=0.1, warmup_steps=2,
              bias="none", **options,
              on_event=lambda event: said.append(event.text) if isinstance(event, Note) else None,
              )  # fmt: skip
    assert any("is computed once and kept for the other epochs" in line for line in said), said
    interrupted(tmp_path / "run", llama, data, after=7, **options, bias="none")
    resume(tmp_path / "run")
    one, other = (tmp_path / name / "adapter_model.safetensors" for name in ("whole", "run"))
    assert one.read_bytes() == other.read_bytes()


def test_the_run_goes_on_only_with_the_same_invocation(
    run: tuple[Path, list[str]], llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (run[0] / "run.yaml").read_text()
    assert "alora_invocation_tokens" in settings
    told = refused(
        capsys, "train", run[0], "--resume", "--alora-invocation-tokens", "a cook", "--max-steps", 9
    )
    assert "alora_invocation_tokens" in told


def test_merging_is_refused_in_one_message(
    run: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for command in (
        ("merge", run[0], out),
        ("export", "gguf", run[0], out, "--merged"),
        ("export", "ollama", run[0], out),
    ):
        told = refused(capsys, *command)
        assert "activated LoRA (aLoRA) cannot" in told, command
        assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alora_invocation_tokens": "nowhere"}, "no row holds the invocation 'nowhere'"),
        ({"alora_invocation_tokens": "auto"}, "no chat template"),
        ({"alora_invocation_tokens": [9999]}, "no token 9999"),
        ({"alora_invocation_tokens": MARK, "target_modules": "lm_head"}, "cannot be on lm_head"),
    ],
)
def test_what_would_learn_nothing_is_refused(
    options: dict[str, Any], said: str, llama: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.csv")
    with pytest.raises((DataError, SettingsError, AdapterError), match=said):
        lorita.train(
            model=str(llama), data=str(rows), output_dir=tmp_path / "run",
            on_event=lambda event: None, **GIVEN | options,
        )  # fmt: skip


@pytest.mark.parametrize(
    "option",
    [{"bias": "all"}, {"use_dora": True}, {"modules_to_save": "lm_head"}, {"add_tokens": "<x>"}],
)
def test_what_acts_on_every_token_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"activated|alora"):
        lorita.train(model="m", data="d", alora_invocation_tokens="x", **option)


def test_targets_before_the_invocation_are_counted() -> None:
    tokenizer = tiny.make_tokenizer()
    ids = tokenizer(f"abc{MARK}d{MARK}ef")["input_ids"]
    found = find_invocation(MARK, tokenizer, PromptFormat(), [Example(ids, ids, 0)])
    (line,) = invocation_notes(found, [Example(ids, ids, 0)])
    assert line.startswith(f"7 of {len(ids) - 1} tokens")


def test_tokens_are_those_of_the_rows() -> None:
    """A text that has other tokens alone than where it follows another is found in the rows."""

    class Joining:
        """Writes a space into the first token of a text, as SentencePiece does."""

        def __len__(self) -> int:
            return 3

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [0 if text.startswith("#") else 2]}

        def decode(self, ids: list[int]) -> str:
            return "".join((" #", "#", "x")[i] for i in ids)

    rows = [Example([2, 1, 2], [2, 1, 2], 0)]
    found = find_invocation("#", Joining(), PromptFormat(), rows)  # type: ignore[arg-type]
    assert found.tokens == (1,)
