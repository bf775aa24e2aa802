"""What an adapter's files must hold before anything is done with them.

Only what lorita and PEFT rely on is checked; other keys may hold anything. What a kind of adapter
means, and whether lorita uses it, is in ``adapter_kinds``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lorita.errors import AdapterError
from lorita.storage.reading import one_message, read_object

MOST_RANK = 2**16
MOST_UNSEEN_RANK = 1024
"""The highest rank of an adapter whose file has no matrices to compare it with."""


def _is_name(text: str) -> str:
    if "\0" in text:
        raise ValueError("no name can hold a NUL byte")
    return text


Name = Annotated[str, Field(max_length=4096), AfterValidator(_is_name)]
"""A name or path that may be looked for."""
Rank = Annotated[int, Field(ge=0, le=MOST_RANK)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Number = Annotated[int, Field(ge=0, lt=2**31)]


class PeftFile(BaseModel):
    """``adapter_config.json`` as PEFT and mlx-lm write it; None stands for PEFT's default."""

    model_config = ConfigDict(extra="allow")

    peft_type: Name | None = None
    task_type: Name | None = None
    base_model_name_or_path: Name | None = None
    revision: Name | None = None
    r: Rank | None = None
    lora_alpha: Finite | None = None
    alpha: Finite | None = None
    lora_dropout: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    bias: Literal["none", "all", "lora_only"] | str | None = None
    target_modules: list[Name] | Name | None = None
    exclude_modules: list[Name] | Name | None = None
    modules_to_save: list[Name] | None = None
    target_parameters: list[Name] | None = None
    layers_to_transform: list[Number] | Number | None = None
    layers_pattern: list[Name] | Name | None = None
    rank_pattern: dict[Name, Rank | list[bool]] | None = None
    alpha_pattern: dict[Name, Finite] | None = None
    trainable_token_indices: list[Number] | dict[Name, list[Number]] | None = None
    alora_invocation_tokens: Annotated[list[Number], Field(min_length=1)] | None = None
    use_rslora: bool | None = None
    use_dora: bool | None = None
    lora_bias: bool | None = None
    fan_in_fan_out: bool | None = None
    inference_mode: bool | None = None
    init_lora_weights: bool | Name | None = None


class MlxLora(BaseModel):
    """The LoRA options of mlx-lm."""

    model_config = ConfigDict(extra="allow")

    rank: Annotated[int, Field(ge=1, le=MOST_RANK)]
    scale: Finite


class MlxFile(BaseModel):
    """``adapter_config.json`` as mlx-lm writes it."""

    model_config = ConfigDict(extra="allow")

    fine_tune_type: Name = "lora"
    model: Name | None = None
    lora_parameters: MlxLora


def read_adapter_file(path: Path, schema: Any = PeftFile) -> dict[str, Any]:
    """The values of an ``adapter_config.json``; ``AdapterError`` lists what does not fit."""
    return read_object(path, schema, AdapterError)


def check_tensors(weights: Path, values: dict[str, Any]) -> None:
    """``AdapterError`` if the matrices in the file contradict the configuration in ``values``.

    Every tensor holds something, and no rank is larger than those of the matrices: PEFT makes room
    for the ranks of the configuration before it looks into the file.
    """
    from safetensors import safe_open

    found = MOST_UNSEEN_RANK
    with one_message(f"{weights}: damaged", AdapterError), safe_open(weights, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    empty = [name for name, shape in shapes.items() if 0 in shape]
    if empty:
        raise AdapterError(
            f"{weights}: {empty[0]} has the shape {shapes[empty[0]]}, without values"
        )
    if values.get("peft_type") != "LORA":
        return
    ranks = [s[0] for n, s in shapes.items() if s and ("lora_A" in n or "lora_embedding_A" in n)]
    found = max(ranks, default=MOST_UNSEEN_RANK)
    claimed = {"r": values.get("r"), **(values.get("rank_pattern") or {})}
    for name, rank in claimed.items():
        if isinstance(rank, int) and rank > found:
            raise AdapterError(
                f"{weights.with_name('adapter_config.json')}: the rank {name} = {rank} does not "
                f"fit {weights.name}, whose matrices have at most rank {found}"
            )
