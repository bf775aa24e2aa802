"""Single tokens as OpenAI's API shows them: a text, and the bytes that it stands for."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from lorita.serving.text_pieces import BROKEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.serving.guides import TokenLogprob

LEAST = -9999.0
"""What stands for minus infinity, which JSON does not have."""


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> tuple[str, list[int]]:
    """The text and the bytes of a token; a part of a character is shown as ``\\xNN``."""
    text = str(tokenizer.decode([token]))
    if BROKEN not in text:
        return text, list(text.encode())
    raw = _bytes_of(str(tokenizer.convert_ids_to_tokens(token)))
    if raw is None:
        return text, list(text.encode())
    return "".join(f"\\x{byte:02x}" for byte in raw), list(raw)


def _bytes_of(spelling: str) -> bytes | None:
    """The bytes of a token that is not a text: ``<0xE2>``, or letters of GPT-2's byte alphabet."""
    if len(spelling) == 6 and spelling.startswith("<0x") and spelling.endswith(">"):
        return bytes.fromhex(spelling[3:5])
    alphabet = _byte_alphabet()
    if all(letter in alphabet for letter in spelling):
        return bytes(alphabet[letter] for letter in spelling)
    return None


@cache
def _byte_alphabet() -> dict[str, int]:
    """Radford et al., 2019: printable Latin-1 is itself, the rest follows from 256 on."""
    same = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in same]
    alphabet = {chr(byte): byte for byte in same}
    return alphabet | {chr(256 + number): byte for number, byte in enumerate(others)}


def chat_logprobs(
    tokenizer: PreTrainedTokenizerBase, found: list[TokenLogprob]
) -> dict[str, list[dict[str, Any]]]:
    """The probabilities of tokens in the shape of chat answers."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        text, raw = token_text(tokenizer, token)
        return {"token": text, "logprob": max(logprob, LEAST), "bytes": raw}

    return {
        "content": [
            {
                **entry(one.token, one.logprob),
                "top_logprobs": [entry(token, logprob) for token, logprob in one.top],
            }
            for one in found
        ],
        "refusal": None,  # type: ignore[dict-item]
    }


def completion_logprobs(
    tokenizer: PreTrainedTokenizerBase, found: list[TokenLogprob], offset: int
) -> dict[str, Any]:
    """The probabilities of tokens in the shape of completions, from a place in the text on."""
    texts = [token_text(tokenizer, one.token)[0] for one in found]
    offsets = [offset + sum(map(len, texts[:number])) for number in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [max(one.logprob, LEAST) for one in found],
        "top_logprobs": [
            {token_text(tokenizer, token)[0]: max(logprob, LEAST) for token, logprob in one.top}
            for one in found
        ],
        "text_offset": offsets,
    }
