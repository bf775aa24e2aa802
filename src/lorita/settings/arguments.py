"""The options of a run as arguments of Python calls, for type checkers and editors.

Written by ``python -m tests.settings.arguments`` from ``schema.py``: change that, not this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict


class Table(Protocol):
    """A table of datasets, pandas or another library."""

    @property
    def shape(self) -> Any:
        """Rows and columns."""


Rows = Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]] | Mapping[str, Sequence[Any]] | Table
"""The rows themselves instead of the names of files."""


class Options(TypedDict, total=False):
    """Arguments of ``lorita.train``; ``RunSettings`` says what each means."""

    model: str | Path
    revision: str | None
    trust_remote_code: bool
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    base_precision: Literal["int8", "native", "q8", "q4"] | None
    data: str | Path | Sequence[str | Path] | Rows
    data_name: str | None
    data_split: str
    data_revision: str | None
    file_type: Literal["csv", "tsv", "json", "parquet", "arrow", "sheet", "text", "markdown"] | None
    text_unit: Literal["line", "paragraph", "file"] | None
    streaming: bool
    format: Literal["text", "prompt-completion", "messages", "sharegpt", "alpaca"] | None
    text_field: str | None
    text_template: str | None
    messages_field: str | None
    prompt_field: str | None
    completion_field: str | None
    map_row: str | Callable[[dict[str, Any]], Any] | None
    chat_template: str | Path | None
    ignore_fields: str | Sequence[str] | None
    control_tokens: Literal["text", "tokens"] | None
    add_tokens: str | Path | Sequence[str] | None
    add_special_tokens: str | Path | Sequence[str] | None
    train_on: Literal["completion", "assistant", "all"] | None
    max_train_samples: int | None
    eval_data: str | Path | Rows | None
    eval_fraction: float | None
    max_eval_samples: int
    max_length: int | None
    overflow: Literal["truncate", "split", "drop"] | None
    packing: bool
    r: int
    lora_alpha: float
    lora_dropout: float
    bias: Literal["none", "all", "lora_only"]
    target_modules: str | Sequence[str]
    exclude_modules: str | Sequence[str] | None
    layers_to_transform: str | Sequence[int] | None
    modules_to_save: str | Sequence[str] | None
    rank_pattern: str | Mapping[str, int] | None
    alpha_pattern: str | Mapping[str, float] | None
    use_rslora: bool
    use_dora: bool
    init_lora_weights: bool | str
    alora_invocation_tokens: str | Sequence[int] | None
    learning_rate: float
    loraplus_lr_ratio: float | None
    num_train_epochs: float | None
    max_steps: int | None
    time_budget: float | str | None
    per_device_train_batch_size: int | None
    gradient_accumulation_steps: int
    micro_batch_tokens: int | None
    lr_scheduler_type: Literal["linear", "cosine", "constant"]
    warmup_steps: int
    weight_decay: float
    adam_beta1: float
    adam_beta2: float | None
    adam_epsilon: float
    max_grad_norm: float
    max_skipped_steps: int
    early_stopping_patience: int | None
    load_best_model_at_end: bool | None
    gradient_checkpointing: bool
    seed: int
    use_cpu: bool
    speedup: bool
    use_liger_kernel: bool
    probe: bool
    logging_steps: int
    report_to: str | Sequence[str]
    eval_steps: int | None
    save_steps: int | None
    save_total_limit: int
    resume: bool
    resume_from_checkpoint: str | Path | None
    resume_inexact: bool
    compare_prompt: str | Path | Sequence[str | Path]
    max_new_tokens: int
    repetition_penalty: float | None
    proof: bool
    push_to_hub: bool
    hub_model_id: str | None
    output_dir: str | Path | None
    overwrite: bool
