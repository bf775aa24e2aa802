"""Configuration and tokenizer of a GGUF file, as transformers understands them.

transformers takes seconds to read a large vocabulary through the gguf package, and does it once for
each question. The configuration does not need the vocabulary: it is read from a copy of the header
without it. What transformers does not read is completed here.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.models.gguf_header import ALIGNMENT, Header

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

EMBEDDINGS, POSITIONS = "token_embd.weight", "position_embd.weight"
_BIASES = {
    "attention_bias": ("attn_q.bias", "attn_output.bias"),
    "mlp_bias": ("ffn_up.bias", "ffn_down.bias"),
}
"""Settings of transformers' configurations, and tensors that are there only if they are on."""
_FLOAT32 = 0
_VOCABULARY = "tokenizer.ggml."


def read_gguf_config(path: Path, header: Header, tensors: Mapping[str, Any]) -> PretrainedConfig:
    """The configuration; raises whatever transformers raises for an architecture it lacks."""
    from transformers import AutoConfig

    with tempfile.TemporaryDirectory(prefix="lorita-gguf-") as folder:
        short = Path(folder) / "header.gguf"
        short.write_bytes(_without_vocabulary(header, tensors))
        config = AutoConfig.from_pretrained(folder, gguf_file=short.name)
    config.name_or_path = str(path)
    _complete(config, header, tensors)
    if "quantization_config" in vars(config):
        del config.quantization_config  # the weights will be ordinary ones
    return config  # type: ignore[no-any-return]


def _complete(config: Any, header: Header, tensors: Mapping[str, Any]) -> None:
    """Set what transformers does not read, from the metadata and from which tensors there are."""
    if EMBEDDINGS in tensors:
        config.vocab_size = tensors[EMBEDDINGS].shape[0]
        if (getattr(config, "pad_token_id", None) or 0) >= config.vocab_size:
            config.pad_token_id = None  # a default of transformers, not of this model
    if POSITIONS in tensors:
        config.max_position_embeddings = tensors[POSITIONS].shape[0]
    width = header.get(f"{header.get('general.architecture')}.attention.key_length")
    if width is not None and getattr(config, "head_dim", None) is not None:
        config.head_dim = width
    for setting, names in _BIASES.items():
        if getattr(config, setting, None) is False and all(f"blk.0.{n}" in tensors for n in names):
            setattr(config, setting, True)


def read_gguf_tokenizer(path: Path, config: PretrainedConfig) -> PreTrainedTokenizerBase:
    """The tokenizer, of the class that ``AutoTokenizer`` takes for this configuration."""
    from transformers import TOKENIZER_MAPPING, AutoTokenizer, PreTrainedTokenizerFast

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    if (path.parent / "tokenizer_config.json").exists():  # it may name another class
        return AutoTokenizer.from_pretrained(**where)  # type: ignore[no-any-return]
    kind: Any = PreTrainedTokenizerFast
    with suppress(KeyError):
        kind = TOKENIZER_MAPPING[type(config)] or kind
    if isinstance(kind, tuple):  # the slow and the fast one
        kind = kind[-1] or kind[0]
    return kind.from_pretrained(**where)  # type: ignore[no-any-return]


def _without_vocabulary(header: Header, tensors: Mapping[str, Any]) -> bytes:
    """The header without the long arrays, and with the names of the tensors but nothing in them."""
    entries = [
        header.entry_bytes(key)
        for key in header.entries
        if not (key.startswith(_VOCABULARY) and header.is_array(key))
    ]
    places = [_text(name) + struct.pack("<IQIQ", 1, 1, _FLOAT32, 0) for name in tensors]
    counts = struct.pack("<IQQ", 3, len(places), len(entries))
    return b"".join([b"GGUF", counts, *entries, *places, bytes(2 * ALIGNMENT + 4)])


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()
