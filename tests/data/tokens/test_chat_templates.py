"""What is trained of a chat: the assistant's texts and what ends its turns, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from lorita.data.examples import IGNORE, Example
from lorita.data.rows import Chat, Message, Pair, as_chat
from lorita.data.tokens import choose_template as templates
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.choose_template import NAMED, choose_template, template_from
from lorita.data.tokens.encoder import Encoder
from lorita.data.tokens.prompt_format import PromptFormat, format_from_record
from lorita.data.tokens.tokenize import Treatment, tokenize_rows
from lorita.errors import DataError
from tests.data.tokens.tokenizers import make


@dataclass(frozen=True)
class Case:
    """A template, the tokens that it needs, and what ends an answer in it.

    ``lead`` is what stands between the prompt and the answer, and so is the model's to write.
    ``last`` is what ends the last answer, where that differs.
    """

    source: str
    end: str
    special: tuple[str, ...] = ()
    bos: str | None = None
    system: bool = True
    lead: str = ""
    last: str | None = None


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IM = ("<|im_start|>", "<|im_end|>")
CASES = {
    "chatml": Case(CHATML, "<|im_end|>", IM),
    "chatml, plain marks": Case(CHATML, "<|im_end|>", last="<|im_end|></s>"),
    "marked": Case(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
        "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}",
        "<|im_end|>",
        IM,
    ),
    "marked without the end": Case(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}",
        "<|im_end|>",
        IM,
    ),
    "llama 2": Case(
        "{% if messages[0].role == 'system' %}"
        "{% set head = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set head = '' %}{% set rest = messages %}"
        "{% endif %}{% for m in rest %}{% if m.role == 'user' %}"
        "{{ bos_token + '[INST] ' + (head if loop.first else '') + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}",
        " </s>",
        bos="<s>",
        lead=" ",
    ),
    "llama 3": Case(
        "{% for m in messages %}{% set t = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n'"
        " + m.content | trim + '<|eot_id|>' %}{% if loop.first %}{% set t = bos_token + t %}"
        "{% endif %}{{ t }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin|>",
    ),
    "gemma": Case(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{% for m in messages %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}"
        "{% endif %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n'"
        " + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "<end_of_turn>",
        ("<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        system=False,
    ),
    "zephyr": Case(
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        "</s>",
    ),
    "phi 3": Case(
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{{ '<|assistant|>\n' if add_generation_prompt else eos_token }}",
        "<|end|>",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        last="<|end|>\n</s>",
    ),
    "vicuna": Case(
        "{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
        "{% for m in messages %}{% if m.role == 'user' %}{{ 'USER: ' + m.content + '\n' }}"
        "{% elif m.role == 'assistant' %}{{ 'ASSISTANT: ' + m.content + eos_token + '\n' }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
        "</s>",
        lead=" ",
    ),
    "no call for an answer": Case(
        "{% for m in messages %}{{ '[' + m.role + ']\n' + m.content + '<|end|>\n' }}{% endfor %}",
        "<|end|>",
        ("<|end|>",),
    ),
    "always calls": Case(
        "{% for m in messages %}{{ '[' + m.role + ']\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{{ '[assistant]\n' }}",
        "<|end|>",
        ("<|end|>",),
    ),
    "thinks last": Case(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"
        "{% endif %}",
        "<|im_end|>",
        IM,
    ),
    "nothing ends an answer": Case(
        "{% for m in messages %}{{ '### ' + m.role + ':\n' + m.content + '\n\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}",
        "",
        last="</s>",
    ),
}
for name in NAMED:
    CASES[f"named {name}"] = Case(
        name,
        {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}.get(
            name, "</s>"
        ),
        (*IM, "<|eot_id|>", "<end_of_turn>", "[INST]", "[/INST]", "<|start_header_id|>"),
        bos="<s>",
        lead=" " if name == "mistral" else "",
    )
TURNS = (
    ("What is tea?", "A drink.\nFrom leaves."),
    ("And 'bread'?", "Über-food!"),
    ("Ok", "🍞 .."),
)


def chat(turns: int, system: bool) -> Chat:
    messages = [Message("system", "You are brief.")] if system else []
    for question, answer in TURNS[:turns]:
        messages += [Message("user", question), Message("assistant", answer)]
    return Chat(tuple(messages))


def tokenizer_for(case: Case, family: str) -> PreTrainedTokenizerFast:
    return make(family, case.special, bos=case.bos, adds_bos=case.bos is not None)


def template_for(case: Case, tokenizer: PreTrainedTokenizerFast) -> ChatTemplate:
    if case.source in NAMED:
        found = choose_template(tokenizer, case.source, "chat")[0]
        assert found is not None
        return found
    return template_from(tokenizer, case.source)


def encode(
    tokenizer: PreTrainedTokenizerFast,
    template: ChatTemplate,
    rows: Sequence[Chat | Pair],
    train_on: str | None = None,
) -> list[Example]:
    how = Treatment(10_000, template, train_on)
    return tokenize_rows(rows, range(len(rows)), tokenizer, how, origin="rows").examples


def trained(tokenizer: PreTrainedTokenizerFast, example: Example) -> list[str]:
    """The runs of trained tokens as texts."""
    runs: list[list[int]] = [[]]
    for label in example.labels:
        if label != IGNORE:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [spell(tokenizer, run) for run in runs if run]


def spell(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """Tokens as they stand in a row, not at its beginning: the first space is theirs."""
    before = tokenizer("\n", add_special_tokens=False)["input_ids"]
    both, head = tokenizer.decode([*before, *ids]), tokenizer.decode(before)
    return str(both.removeprefix(head))


@pytest.mark.parametrize("family", ["bytes", "spaces"])
@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_trained_are_the_answers_and_their_ends(
    name: str, turns: int, system: bool, family: str
) -> None:
    case = CASES[name]
    if system and not case.system:
        pytest.skip("the template refuses system messages")
    tokenizer = tokenizer_for(case, family)
    template = template_for(case, tokenizer)
    row = chat(turns, system)
    example = encode(tokenizer, template, [row])[0]
    answers = [case.lead + answer + case.end for _, answer in TURNS[:turns]]
    if case.last is not None:
        answers[-1] = answers[-1].removesuffix(case.end) + case.last
    assert trained(tokenizer, example) == answers
    if case.bos:
        once = 3 if name == "llama 2" and turns == 3 else 1
        assert example.input_ids.count(tokenizer.bos_token_id) == once
        assert example.input_ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("family", ["bytes", "spaces"])
@pytest.mark.parametrize("name", CASES)
def test_generation_sees_what_training_saw(name: str, family: str) -> None:
    case = CASES[name]
    tokenizer = tokenizer_for(case, family)
    template = template_for(case, tokenizer)
    example = encode(tokenizer, template, [chat(1, False)])[0]
    first = next(i for i, label in enumerate(example.labels) if label != IGNORE)
    asked = PromptFormat("chat", template)
    assert asked.ids(tokenizer, TURNS[0][0]) == example.input_ids[:first]
    # Whatever ends the row stops generation.
    last = [label for label in example.labels if label != IGNORE][-1]
    assert last in asked.stops(tokenizer)
    again = format_from_record(asked.record(), tokenizer)
    assert again.ids(tokenizer, "x") == asked.ids(tokenizer, "x")


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.last is None and c.system])
def test_tokens_are_those_of_transformers(name: str) -> None:
    case = CASES[name]
    tokenizer = tokenizer_for(case, "bytes")
    template = template_for(case, tokenizer)
    messages = [message.as_dict() for message in chat(3, True).messages]
    theirs = tokenizer.apply_chat_template(
        messages, chat_template=template.source, tokenize=True, return_dict=False
    )
    ours = encode(tokenizer, template, [chat(3, True)], "all")[0]
    assert tokenizer.decode(ours.input_ids) == tokenizer.decode(theirs)
    if case.lead == "" and not template.prompt(messages[:2]).endswith("\n\n"):
        # These bytes keep the last of two line ends for the word that follows.
        assert ours.input_ids == theirs
    assert ours.labels == ours.input_ids


def test_what_is_trained_can_be_chosen() -> None:
    case = CASES["chatml"]
    tokenizer = tokenizer_for(case, "bytes")
    template = template_for(case, tokenizer)
    last = encode(tokenizer, template, [chat(3, True)], "completion")[0]
    assert trained(tokenizer, last) == [TURNS[2][1] + "<|im_end|>"]


@pytest.mark.parametrize("name", ["chatml", "marked", "thinks last", "llama 3"])
def test_muted_turns(name: str) -> None:
    case = CASES[name]
    tokenizer = tokenizer_for(case, "bytes")
    template = template_for(case, tokenizer)
    row = chat(2, False)
    first, second = row.messages[1], row.messages[3]
    quiet = Message(first.role, first.content, muted=True)
    muted = Chat((row.messages[0], quiet, row.messages[2], second))
    found = encode(tokenizer, template, [muted])[0]
    assert trained(tokenizer, found) == [case.lead + second.content + case.end]
    everything = encode(tokenizer, template, [muted], "all")[0]
    assert first.content not in "".join(trained(tokenizer, everything))
    assert second.content in "".join(trained(tokenizer, everything))


def test_pairs_without_a_template() -> None:
    for family in ("bytes", "spaces"):
        tokenizer = make(family, bos="<s>", adds_bos=True)
        pairs = [Pair("Question: tea?\nAnswer:", " A drink."), Pair("<s>a ", "b")]
        examples = tokenize_rows(pairs, [0, 1], tokenizer, Treatment(99), origin="rows").examples
        for pair, example in zip(pairs, examples, strict=True):
            cut = example.labels.count(IGNORE)
            assert example.input_ids[:cut] == PromptFormat("pair").ids(tokenizer, pair.prompt)
            assert spell(tokenizer, example.input_ids[cut:]) == pair.completion + "</s>"
            assert example.input_ids.count(tokenizer.bos_token_id) == 1
        assert Encoder(tokenizer).bos == tokenizer.bos_token_id


def test_pair_as_a_chat() -> None:
    case = CASES["chatml"]
    tokenizer = tokenizer_for(case, "bytes")
    pair = Pair("What?", "That.")
    template = template_for(case, tokenizer)
    both = [encode(tokenizer, template, [row])[0] for row in (pair, as_chat(pair))]
    assert both[0] == both[1]


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


def test_what_the_template_refuses_is_named_by_row() -> None:
    case = CASES["gemma"]
    tokenizer = tokenizer_for(case, "bytes")
    rows = [chat(1, True), chat(1, False), chat(2, True)]
    with pytest.raises(DataError, match="rows 1, 3: chat template error: no system"):
        encode(tokenizer, template_for(case, tokenizer), rows)


def test_spans_that_are_not_exact_are_refused() -> None:
    tokenizer = make("bytes", IM)
    changed = CHATML.replace("m.content", "(m.content if loop.last else m.content | upper)")
    with pytest.raises(DataError, match=r"row 2: message 2: .* does not show exactly"):
        encode(tokenizer, template_from(tokenizer, changed), [chat(1, False), chat(2, False)])
