"""Chat templates of many families, and the chats that tests render with them."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from lorita.data.rows import Chat, Message
from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.choose_template import NAMED, choose_template
from lorita.data.tokens.tokenizer_template import template_from
from tests.data.tokens.tokenizers import make


@dataclass(frozen=True)
class Case:
    """A template, the special tokens it needs, and what ends an answer in it.

    ``lead`` is the text between the prompt and the answer, which the model has to write. ``last``
    is what ends the last answer, if that differs from ``end``. ``system`` tells whether the
    template accepts system messages.
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
