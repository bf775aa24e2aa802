"""Every option of a run, defined once.

A field of ``RunSettings`` is at the same time the Python argument of ``lorita.train``, the key in
``run.yaml`` and the flag of ``lorita train``; its description is the help text. The layers below
never see this class: they take plain values. Reading, writing and the error messages are in
``settings_io.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from lorita.settings.types import Alphas, Format, InitWeights, Layers, Names, Ranks, Targets, Texts


def option(group: str, description: str, default: Any = ..., **limits: Any) -> Any:
    """A field with its help text and the heading that it stands under."""
    return Field(default, description=description, json_schema_extra={"group": group}, **limits)


class RunSettings(BaseModel):
    """All options of one training run. Unknown keys and impossible values are refused."""

    model_config = ConfigDict(extra="forbid", validate_default=False)

    # Base model
    model: str = option(
        "Base model",
        "Hub id, folder in HF format, .gguf file, ollama:NAME, or the bundled smollm2-135m.",
        min_length=1,
    )
    revision: str | None = option("Base model", "Branch, tag or commit of a hub model.", None)
    trust_remote_code: bool = option("Base model", "Run code that comes with the model.", False)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "Base model", "Number format of the frozen weights; auto asks the machine.", "auto"
    )

    base_precision: Literal["int8"] | None = option(
        "Base model",
        "int8: products of the frozen layers in 8-bit whole numbers while training; about 1.4 "
        "times as fast on a CPU, a little less exact. By default in dtype.",
        None,
    )

    # Data
    data: Texts = option(
        "Data",
        "Files (.csv .tsv .jsonl .json .parquet .txt .md, also packed as .gz or .zst), a folder, a "
        'pattern ("data/*.csv"), - for standard input, or a hub data set id. Repeatable.',
        min_length=1,
    )
    data_name: str | None = option("Data", "Configuration of a hub data set.", None)
    data_split: str = option("Data", "Split of a hub data set.", "train")
    data_revision: str | None = option("Data", "Branch, tag or commit of a hub data set.", None)
    file_type: Literal["csv", "tsv", "json", "parquet", "text", "markdown"] | None = option(
        "Data", "What the files are. By default what their names say.", None
    )
    text_unit: Literal["line", "paragraph", "file"] | None = option(
        "Data",
        "What a row of a text file is. By default a line; of Markdown, the file.",
        None,
    )
    streaming: bool = option(
        "Data",
        "Read only the rows of a hub data set that max_train_samples and held-out rows ask for, "
        "without downloading the others.",
        False,
    )
    format: Format | None = option(
        "Data",
        "What a row is: text, prompt-completion, messages, sharegpt or alpaca. By default what "
        "the columns say.",
        None,
    )
    text_field: str | None = option("Data", "Column that holds the text.", None)
    text_template: str | None = option(
        "Data", 'Text made from several columns, such as "{act}: {prompt}".', None
    )
    prompt_field: str | None = option("Data", "Column that holds the prompt.", None)
    completion_field: str | None = option("Data", "Column that holds the answer to it.", None)
    map_row: str | None = option(
        "Data",
        "Function that changes every row before it is read, as module.py:function. It takes a row "
        "(a dict) and returns one, a text, or None to leave the row out.",
        None,
    )
    chat_template: str | None = option(
        "Data",
        "Layout of chats: chatml, llama3, gemma, mistral, alpaca, zephyr, a file, or none. By "
        "default the tokenizer's own, else chatml.",
        None,
    )
    train_on: Literal["completion", "assistant", "all"] | None = option(
        "Data",
        "completion (the last answer), assistant (every answer) or all (every token). By default "
        "every answer, and all of a text.",
        None,
    )
    max_train_samples: int | None = option("Data", "Train on the first N rows only.", None, ge=1)
    eval_data: str | None = option("Data", "File or hub data set of held-out rows.", None)
    eval_fraction: float | None = option(
        "Data",
        "Share of the rows that is held out. By default rows beyond max_train_samples are held "
        "out, else a tenth.",
        None,
        ge=0,
        lt=1,
    )
    max_eval_samples: int = option("Data", "Hold out at most N rows.", 100, ge=1)
    max_length: int | None = option(
        "Data",
        "Longest row in tokens. By default the model's context, at most 2048.",
        None,
        ge=2,
    )
    overflow: Literal["truncate", "split", "drop"] | None = option(
        "Data",
        "What happens to longer rows: text is cut at its end (truncate) or continued in further "
        "rows (split), a prompt is cut from the left before its answer, or the row is left out "
        "(drop). By default truncate; split with packing.",
        None,
    )
    packing: bool = option(
        "Data",
        "Fill windows of max_length tokens with rows; a batch counts windows. Rows never see each "
        "other.",
        False,
    )

    # LoRA
    r: int = option("LoRA", "Rank of the two small matrices.", 8, ge=1)
    lora_alpha: float = option("LoRA", "The update is scaled by lora_alpha/r.", 16.0, gt=0)
    lora_dropout: float = option("LoRA", "Dropout on the adapter's input.", 0.0, ge=0, lt=1)
    bias: Literal["none", "all", "lora_only"] = option(
        "LoRA", "Which biases are trained along.", "none"
    )
    target_modules: Targets = option(
        "LoRA",
        "Names (q_proj,v_proj), a regex, or all-linear: all but the output head.",
        "all-linear",
    )
    exclude_modules: Targets | None = option("LoRA", "Names or a regex to leave out.", None)
    layers_to_transform: Layers | None = option("LoRA", "Only these layers (0,1,2).", None)
    modules_to_save: Names | None = option("LoRA", "Modules trained and saved whole.", None)
    rank_pattern: Ranks | None = option("LoRA", "Ranks of single modules (name=16).", None)
    alpha_pattern: Alphas | None = option("LoRA", "Alphas of single modules (name=32).", None)
    use_rslora: bool = option("LoRA", "Scale by lora_alpha/sqrt(r) instead.", False)
    use_dora: bool = option("LoRA", "Train direction and magnitude apart (DoRA).", False)
    init_lora_weights: InitWeights = option(
        "LoRA", "How A and B start: true, false, gaussian or orthogonal.", True
    )

    # Training
    learning_rate: float = option(
        "Training",
        "Highest learning rate. The default suits small models and few rows; sweep --find-lr "
        "proposes one.",
        2e-3,
        gt=0,
        le=1e3,
    )
    num_train_epochs: float = option("Training", "Times through the data.", 3.0, gt=0)
    max_steps: int | None = option(
        "Training", "Stop after N steps; wins over num_train_epochs.", None, ge=1
    )
    per_device_train_batch_size: int = option("Training", "Rows per step and process.", 8, ge=1)
    gradient_accumulation_steps: int = option("Training", "Batches per step.", 1, ge=1)
    micro_batch_tokens: int | None = option(
        "Training",
        "Tokens computed at once; a batch is split to fit and the result stays the same. By "
        "default what the memory allows.",
        None,
        ge=1,
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = option(
        "Training", "How the learning rate falls.", "linear"
    )
    warmup_steps: int = option("Training", "Steps over which the rate rises.", 0, ge=0)
    weight_decay: float = option("Training", "AdamW's weight decay.", 0.0, ge=0)
    adam_beta1: float = option("Training", "AdamW's first beta.", 0.9, ge=0, lt=1)
    adam_beta2: float = option("Training", "AdamW's second beta.", 0.999, ge=0, lt=1)
    adam_epsilon: float = option("Training", "AdamW's epsilon.", 1e-8, gt=0)
    max_grad_norm: float = option("Training", "Gradients are clipped here; 0: never.", 1.0, ge=0)
    max_skipped_steps: int = option(
        "Training",
        "Steps in a row that may be skipped because loss or gradient is not finite.",
        3,
        ge=0,
    )
    early_stopping_patience: int | None = option(
        "Training",
        "Stop after N evaluations in a row without a better held-out loss.",
        None,
        ge=1,
    )
    load_best_model_at_end: bool = option(
        "Training", "End with the adapter that had the best held-out loss.", False
    )
    gradient_checkpointing: bool = option(
        "Training", "Recompute activations to save memory.", False
    )
    seed: int = option("Training", "Seed of everything random.", 42, ge=0, lt=2**32)
    use_cpu: bool = option("Training", "Stay on the CPU although there is a GPU.", False)
    speedup: bool = option("Training", "Use lorita's fast step (--no-speedup: plain PEFT).", True)
    use_liger_kernel: bool = option(
        "Training", "On a GPU: norms and activations by Liger (pip install liger-kernel).", False
    )

    # Reports
    probe: bool = option("Reports", "Time the first steps for a forecast of the whole run.", True)
    logging_steps: int = option("Reports", "Log every N steps.", 1, ge=1)
    eval_steps: int | None = option(
        "Reports",
        "Held-out loss every N steps as well as at the end. By default only at the end, and once "
        "an epoch where early_stopping_patience or load_best_model_at_end needs it.",
        None,
        ge=1,
    )
    save_steps: int | None = option("Reports", "A checkpoint every N steps.", None, ge=1)
    save_total_limit: int = option("Reports", "Keep the newest N checkpoints.", 2, ge=1)
    resume: bool = option(
        "Reports", "Continue an interrupted run: lorita train runs/NAME --resume.", False
    )
    resume_from_checkpoint: str | None = option(
        "Reports", "Continue from this checkpoint folder, or from the last one (last).", None
    )
    compare_prompt: Texts = option(
        "Reports",
        "Prompt answered before and after (repeatable). By default the starts of three held-out "
        "rows.",
        [],
    )
    max_new_tokens: int = option("Reports", "Length of the compared answers.", 50, ge=1)
    repetition_penalty: float = option("Reports", "Of the compared answers.", 1.5, gt=0)
    proof: bool = option(
        "Reports",
        "At the end measure what was learned, forgotten and memorised (--no-proof: held-out loss "
        "only).",
        True,
    )
    push_to_hub: bool = option(
        "Reports", "Upload the finished run to the Hugging Face hub; never without this.", False
    )
    hub_model_id: str | None = option(
        "Reports", "Where to: owner/name. By default the run's name under your own.", None
    )
    output_dir: Path | None = option(
        "Reports", "Folder of the run. By default runs/ and the name of the data.", None
    )
    overwrite: bool = option("Reports", "Replace the run in output_dir.", False)

    # What Python code gives instead of a name: it cannot stand in a file.
    _objects: dict[str, Any] = PrivateAttr(default_factory=dict)

    def given(self, name: str) -> Any:
        """The rows or the function that Python code gave as this option, if it did."""
        return self._objects.get(name)

    def hold(self, objects: dict[str, Any]) -> None:
        """Keep what Python code gave."""
        self._objects = dict(objects)

    @property
    def evaluation_decides(self) -> bool:
        """Whether held-out losses have a part in what the adapter becomes."""
        return self.load_best_model_at_end or self.early_stopping_patience is not None

    def lora_options(self) -> dict[str, Any]:
        """The options of the adapter itself, under the names of PEFT's ``LoraConfig``."""
        names = [name for name in type(self).model_fields if _group(name) == "LoRA"]
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def _combinations(self) -> RunSettings:
        if self.base_precision is not None and not self.speedup:
            raise ValueError("base_precision is part of the fast step: it needs speedup")
        if self.text_field is not None and self.text_template is not None:
            raise ValueError("text_field and text_template exclude each other")
        if self.streaming and self.max_train_samples is None:
            raise ValueError("streaming needs max_train_samples: how many rows are to be read")
        self._check_columns()
        return self

    def _check_columns(self) -> None:
        """Columns of one format with the name of another are a contradiction."""
        text = self.text_field is not None or self.text_template is not None
        pair = self.prompt_field is not None or self.completion_field is not None
        if text and pair:
            raise ValueError("text_field and prompt_field or completion_field exclude each other")
        if text and self.format not in (None, "text"):
            raise ValueError(f"text_field and text_template do not go with format {self.format}")
        if pair and self.format not in (None, "prompt-completion"):
            raise ValueError(
                f"prompt_field and completion_field do not go with format {self.format}"
            )


def _group(name: str) -> str:
    extra = RunSettings.model_fields[name].json_schema_extra
    return str(extra["group"]) if isinstance(extra, dict) else ""


ALIASES = {
    "base_model": "model",
    "model_name_or_path": "model",
    "dataset": "data",
    "train_file": "data",
    "dataset_text_field": "text_field",
    "template": "chat_template",
    "lora_r": "r",
    "lora_rank": "r",
    "rank": "r",
    "lora_target": "target_modules",
    "lora_target_modules": "target_modules",
    "cutoff_len": "max_length",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "sequence_len": "max_length",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "lr_scheduler": "lr_scheduler_type",
    "val_set_size": "eval_fraction",
    "validation_file": "eval_data",
    "max_samples": "max_train_samples",
    "output": "output_dir",
    "overwrite_output_dir": "overwrite",
    "torch_dtype": "dtype",
}
"""Names that other tools taught people, and what they are called here."""
