"""What is trained in a chat, token by token: the assistant's texts and what ends its turns."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from transformers import PreTrainedTokenizerFast

from lorita.data.examples import IGNORE, Example
from lorita.data.rows import Chat, Message, Pair, as_chat
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.encoder import Encoder
from lorita.data.tokens.prompt_format import PromptFormat, format_from_record
from lorita.data.tokens.tokenize import Treatment, tokenize_rows
from lorita.data.tokens.tokenizer_template import template_from
from lorita.errors import DataError
from tests.data.tokens.template_cases import (
    CASES,
    CHATML,
    IM,
    TURNS,
    chat,
    template_for,
    tokenizer_for,
)
from tests.data.tokens.tokenizers import make


def encode(
    tokenizer: PreTrainedTokenizerFast,
    template: ChatTemplate,
    rows: Sequence[Chat | Pair],
    train_on: str | None = None,
) -> list[Example]:
    how = Treatment(10_000, template, train_on)
    return tokenize_rows(rows, range(len(rows)), tokenizer, how, origin="rows").examples


def trained(tokenizer: PreTrainedTokenizerFast, example: Example) -> list[str]:
    """The text of each run of consecutive trained tokens."""
    runs: list[list[int]] = [[]]
    for label in example.labels:
        if label != IGNORE:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [spell(tokenizer, run) for run in runs if run]


def spell(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """Tokens decoded as in the middle of a row, so that a leading space is kept."""
    before = tokenizer("\n", add_special_tokens=False)["input_ids"]
    both, head = tokenizer.decode([*before, *ids]), tokenizer.decode(before)
    return str(both.removeprefix(head))


@pytest.mark.parametrize("family", ["bytes", "spaces"])
@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_exactly_the_answers_and_their_ends_are_trained(
    name: str, turns: int, system: bool, family: str
) -> None:
    case = CASES[name]
    if system and not case.system:
        pytest.skip("the template refuses system messages")
    tokenizer = tokenizer_for(case, family)
    template = template_for(case, tokenizer)
    row = chat(turns, system)
    examples = encode(tokenizer, template, [row])
    answers = [case.lead + answer + case.end for _, answer in TURNS[:turns]]
    if case.last is not None:
        answers[-1] = answers[-1].removesuffix(case.end) + case.last
    assert [text for example in examples for text in trained(tokenizer, example)] == answers
    # Answers that generation is asked for in another way than later turns show are trained apart.
    assert len(examples) == (turns if name == "thinks last" else 1)
    example = examples[0]
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
    # The token that ends the row also stops generation.
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
        # Otherwise this tokenizer joins the last of two line ends to the next word.
        assert ours.input_ids == theirs
    assert ours.labels == ours.input_ids


def test_train_on_selects_what_is_trained() -> None:
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
        how = Treatment(99, control_tokens="tokens")
        examples = tokenize_rows(pairs, [0, 1], tokenizer, how, origin="rows").examples
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


def test_chats_that_the_template_rejects_are_named_by_row() -> None:
    case = CASES["gemma"]
    tokenizer = tokenizer_for(case, "bytes")
    rows = [chat(1, True), chat(1, False), chat(2, True)]
    with pytest.raises(DataError, match="rows 1, 3: chat template error: no system"):
        encode(tokenizer, template_for(case, tokenizer), rows)


def test_answers_that_would_be_asked_for_otherwise_are_refused() -> None:
    tokenizer = make("bytes", IM)
    changed = CHATML.replace("m.content", "(m.content if loop.last else m.content | upper)")
    with pytest.raises(DataError, match=r"message 2: .* generation prompt goes on with"):
        encode(tokenizer, template_from(tokenizer, changed), [chat(1, False), chat(2, False)])


def test_an_answer_that_is_shown_otherwise_later_is_trained_where_it_ends() -> None:
    tokenizer = make("bytes", IM)
    answer = "(m.content if loop.last or m.role == 'user' else m.content | upper)"
    template = template_from(tokenizer, CHATML.replace("m.content", answer))
    first, second = encode(tokenizer, template, [chat(2, False)])
    assert trained(tokenizer, first) == [TURNS[0][1] + "<|im_end|>"]
    assert trained(tokenizer, second) == [TURNS[1][1] + "<|im_end|>"]
    assert TURNS[0][1].upper() in tokenizer.decode(second.input_ids)
