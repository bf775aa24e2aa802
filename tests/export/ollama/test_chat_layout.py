"""A derived Go template writes what the chat template writes; if it cannot, it is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.choose_template import FOLDER, NAMED
from lorita.export.ollama.chat_layout import CHATS, NotDerivable, chat_text, derive_layout, go_data
from lorita.export.ollama.go_template import render_go
from tests.data.tokens.test_chat_templates import CASES

DEFAULT_SYSTEM = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "{{ '<|im_start|>system\nYou are \"Smol\".<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LAST_QUESTION = (
    "{% set system = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST]' + (system if loop.last else '') + m.content + '[/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)
NUMBERED = (
    "{% for m in messages %}{{ '[Round ' ~ loop.index ~ '] ' + m.content + '\n' }}{% endfor %}"
)


def named(name: str) -> ChatTemplate:
    return ChatTemplate(name, (FOLDER / f"{name}.jinja").read_text(), {"eos_token": "</s>"})


def case(name: str) -> ChatTemplate:
    found = CASES[name]
    return ChatTemplate("own", found.source, {"bos_token": found.bos or "", "eos_token": "</s>"})


TEMPLATES = {name: named(name) for name in NAMED}
TEMPLATES |= {f"case: {name}": case(name) for name in CASES if name[:5] != "named"}
TEMPLATES["a default system message"] = ChatTemplate("own", DEFAULT_SYSTEM)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_same_text(name: str) -> None:
    template = TEMPLATES[name]
    bos = template.special.get("bos_token", "")
    layout = derive_layout(template, bos=bos)
    has_system = not any("no system message" in note for note in layout.notes)
    assert has_system or "{{- else if" not in layout.source.partition("user")[0]
    for turns in CHATS:
        shown = [turn for turn in turns if has_system or turn[0] != "system"]
        text = render_go(layout.source, go_data(turns))
        assert text == chat_text(template, shown, bos=bos)
        assert not bos or not text.startswith(bos)
        assert all(content in text for _, content in shown)


def test_an_answer_that_is_to_be_continued_stays_open() -> None:
    layout = derive_layout(TEMPLATES["chatml"])
    turns = (("user", "Count."), ("assistant", "One, two,"))
    text = render_go(layout.source, go_data(turns))
    assert text == "<|im_start|>user\nCount.<|im_end|>\n<|im_start|>assistant\nOne, two,"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (LAST_QUESTION, "and in order"),
        (NUMBERED, "in one chat and"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "each user message once"),
        ("{% for m in messages %}{{ m.content * 2 }}{% endfor %}", "each user message once"),
        ("{{ raise_exception('closed on Mondays') }}", "closed on Mondays"),
    ],
)
def test_refused_with_workarounds(source: str, said: str) -> None:
    with pytest.raises(NotDerivable) as refused:
        derive_layout(ChatTemplate("own", source, {"eos_token": "</s>"}))
    assert said in str(refused.value)
    assert "--chat-template chatml" in str(refused.value)


def test_what_the_check_is_for() -> None:
    """A template whose output depends on contents: only the ten test chats reveal it."""
    odd = "{% for m in messages %}{{ m.content }}{{ '!' if m.content == 'Hi' }}|{% endfor %}"
    with pytest.raises(NotDerivable, match="but the derived one writes"):
        derive_layout(ChatTemplate("own", odd))


def test_notes() -> None:
    notes = derive_layout(TEMPLATES["llama3"], bos="<s>").notes
    assert any("white space" in note for note in notes)
    assert any("Ollama adds <s> at the start" in note for note in notes)
    notes = derive_layout(TEMPLATES["case: gemma"], bos="<bos>").notes
    assert any("writes no system message" in note and "no system)" in note for note in notes)
    assert derive_layout(TEMPLATES["chatml"]).notes == (
        "tool calls of the chat template are not supported",
    )


GO = """package main

import ("encoding/json"; "os"; "text/template")

type Message struct { Role, Content string }
type Job struct { Template string; Chats [][]*Message }

func main() {
    var jobs []Job
    if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil { panic(err) }
    texts := [][]string{}
    for _, job := range jobs {
        t := template.Must(template.New("").Option("missingkey=zero").Parse(job.Template))
        row := []string{}
        for _, chat := range job.Chats {
            var out strings.Builder
            if err := t.Execute(&out, map[string]any{"Messages": chat}); err != nil { panic(err) }
            row = append(row, out.String())
        }
        texts = append(texts, row)
    }
    json.NewEncoder(os.Stdout).Encode(texts)
}
""".replace('"os"; ', '"os"; "strings"; ')


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go (Debian: golang-go)")
def test_go_itself_renders_the_same(tmp_path: Path) -> None:
    """Every template renders every chat the same in Go's own ``text/template``."""
    layouts = {
        n: derive_layout(t, bos=t.special.get("bos_token", "")) for n, t in TEMPLATES.items()
    }
    jobs = [
        {"Template": layout.source, "Chats": [go_data(turns)["Messages"] for turns in CHATS]}
        for layout in layouts.values()
    ]
    program = tmp_path / "render.go"
    program.write_text(GO)
    done = subprocess.run(
        ["go", "run", str(program)],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    texts = json.loads(done.stdout)
    for (name, layout), row in zip(layouts.items(), texts, strict=True):
        template = TEMPLATES[name]
        bos = template.special.get("bos_token", "")
        has_system = not any("no system message" in note for note in layout.notes)
        for turns, text in zip(CHATS, row, strict=True):
            shown = [turn for turn in turns if has_system or turn[0] != "system"]
            assert text == chat_text(template, shown, bos=bos), name
