"""What the JSON files of a base model must hold before transformers reads them.

The sizes bound what is built: a model is made of the numbers in ``config.json``, whatever its files
hold. What transformers itself rejects is not repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from lorita.errors import ModelError
from lorita.storage.reading import checked, read_object

_LAYERS = Annotated[int, Field(ge=1, le=1000)]
_WIDTH = Annotated[int, Field(ge=1, le=2**20)]
_VOCABULARY = Annotated[int, Field(ge=1, le=2**24)]
_COUNT = Annotated[int, Field(ge=0, le=2**16)]
_LENGTH = Annotated[int, Field(ge=1, le=2**40)]
_RATE = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
_TOKEN = Annotated[int, Field(ge=-1, lt=2**31)]

_SIZES: dict[Any, tuple[str, ...]] = {
    _LAYERS: ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers"),
    _WIDTH: (
        "hidden_size", "n_embd", "d_model", "model_dim", "intermediate_size", "n_inner", "ffn_dim",
        "ffn_hidden_size", "d_ff", "d_inner", "moe_intermediate_size", "hidden_dim", "head_dim",
        "shared_expert_intermediate_size", "word_embed_proj_dim", "embedding_size", "state_size",
    ),
    _VOCABULARY: ("vocab_size",),
    _COUNT: (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads",
        "num_kv_heads", "num_experts", "num_local_experts", "n_routed_experts", "n_shared_experts",
        "num_experts_per_tok", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim",
        "qk_nope_head_dim", "v_head_dim", "conv_kernel", "time_step_rank",
    ),
    _LENGTH: ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
    _RATE: (
        "rope_theta", "rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps",
        "initializer_range", "attention_dropout", "hidden_dropout", "partial_rotary_factor",
    ),
}  # fmt: skip
"""The sizes of a model by their names in all families. A family may have a list of them, one for
each layer, or leave one out with null."""
MOST_IDS = 10_000


class _Config(BaseModel):
    model_config = ConfigDict(extra="allow")

    model_type: Annotated[str, Field(max_length=200)] | None = None
    architectures: list[str] | None = None
    auto_map: dict[str, Any] | None = None
    dtype: str | dict[str, Any] | None = None
    torch_dtype: str | dict[str, Any] | None = None
    tie_word_embeddings: bool | None = None
    is_decoder: bool | None = None
    is_encoder_decoder: bool | None = None
    quantization_config: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    eos_token_id: _TOKEN | Annotated[list[_TOKEN], Field(max_length=MOST_IDS)] | None = None
    bos_token_id: _TOKEN | list[_TOKEN] | None = None
    pad_token_id: _TOKEN | list[_TOKEN] | None = None

    @field_validator("model_type")
    @classmethod
    def _is_word(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.-]*", value):
            raise ValueError("a model type is a word, such as llama")
        return value


def _with_sizes() -> Any:
    fields: dict[str, Any] = {
        name: (
            kind | Annotated[list[kind | None], Field(max_length=1000)] | None,  # type: ignore[valid-type]
            None,
        )
        for kind, names in _SIZES.items()
        for name in names
    }
    return create_model("ConfigFile", __base__=_Config, **fields)


ConfigFile = _with_sizes()
"""``config.json``; also each part of it that describes a model of its own (``text_config``)."""


class GenerationFile(BaseModel):
    """``generation_config.json``: the values that decide how a model answers."""

    model_config = ConfigDict(extra="allow")

    eos_token_id: _TOKEN | Annotated[list[_TOKEN], Field(max_length=MOST_IDS)] | None = None
    bos_token_id: _TOKEN | list[_TOKEN] | None = None
    pad_token_id: _TOKEN | list[_TOKEN] | None = None
    do_sample: bool | None = None
    temperature: _RATE | None = None
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    max_length: Annotated[int, Field(ge=0, le=2**40)] | None = None
    max_new_tokens: Annotated[int, Field(ge=0, le=2**40)] | None = None


class NamedTemplate(BaseModel):
    """One of several chat templates of a tokenizer."""

    name: str
    template: str


class AddedToken(BaseModel):
    """A token as transformers writes it with its options."""

    model_config = ConfigDict(extra="allow")

    content: str


_Token = str | AddedToken | None
_Id = Annotated[str, Field(pattern=r"^\d{1,9}$")]


class TokenizerFile(BaseModel):
    """``tokenizer_config.json`` and ``special_tokens_map.json``."""

    model_config = ConfigDict(extra="allow")

    tokenizer_class: str | None = None
    chat_template: str | list[NamedTemplate] | dict[str, str] | None = None
    auto_map: dict[str, Any] | list[Any] | None = None
    model_max_length: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    added_tokens_decoder: dict[_Id, AddedToken] | None = None
    bos_token: _Token = None
    eos_token: _Token = None
    pad_token: _Token = None
    unk_token: _Token = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    padding_side: str | None = None


_BESIDE = {
    "generation_config.json": GenerationFile,
    "tokenizer_config.json": TokenizerFile,
    "special_tokens_map.json": TokenizerFile,
    "added_tokens.json": dict[str, Annotated[int, Field(ge=0, lt=2**31)]],
}
_AGAIN = "Download or copy the file again."


def read_config(path: Path) -> dict[str, Any]:
    """A model's ``config.json``; ``ModelError`` if it is not one, or its sizes are impossible."""
    values = read_object(path, ConfigFile, ModelError)
    for name, part in values.items():
        if isinstance(part, dict) and "model_type" in part:
            checked(part, ConfigFile, f"{path}: {name}", ModelError)
    return values


def check_values(name: str, config: Any) -> None:
    """``ModelError`` if the sizes of a configuration are impossible, wherever it was read from.

    transformers makes it of a GGUF file's metadata, too. ``name`` is what the message calls the
    model.
    """
    parts = (config, config.get_text_config())
    for part in chain.from_iterable(map(layers_of, parts)):
        found = {key: getattr(part, key, None) for key in _NUMBERS}
        values = {key: value for key, value in found.items() if isinstance(value, (int, float))}
        checked(values, ConfigFile, f"{name}: unusable configuration", ModelError)


def layers_of(config: Any) -> Sequence[Any]:
    """The configurations of single layers where they differ (Gemma 4), else the one of all."""
    return config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]


_NUMBERS = [name for names in _SIZES.values() for name in names]


def check_json_files(folder: Path) -> None:
    """``ModelError`` if a small JSON file of the model or its tokenizer does not fit its schema.

    transformers reads them without a look at what they hold. ``tokenizer.json`` has its own strict
    reader.
    """
    for name, schema in _BESIDE.items():
        if (folder / name).exists():
            read_object(folder / name, schema, ModelError, hint=_AGAIN)


def check_tokenizer(name: str, tokenizer: Any) -> None:
    """``ModelError`` if it came from its files with values that nothing can use."""
    templates = tokenizer.chat_template
    sources = list(templates.values()) if isinstance(templates, dict) else [templates]
    if not all(source is None or isinstance(source, str) for source in sources):
        raise ModelError(f"{name}: the chat template of its tokenizer is no text")
    if not tokenizer.get_vocab():
        raise ModelError(f"{name}: its tokenizer has no tokens")
    tokenizer.decode(tokenizer("a", add_special_tokens=True)["input_ids"])
