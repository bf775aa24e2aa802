"""Every option of a run, defined once.

A field of ``RunSettings`` is at the same time the Python argument of ``lorita.train``, the key in
``run.yaml`` and the flag of ``lorita train``; its description is the help text. The layers below
never see this class: they take plain values. Reading, writing and the wording of mistakes are in
``build.py``; what an option states about itself is explained in ``option.py`` and looked up in
``facts.py``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict

from lorita.settings import types
from lorita.settings.combinations import Consistent
from lorita.settings.durations import Seconds
from lorita.settings.option import option
from lorita.settings.token_lists import Tokens
from lorita.settings.types import Alphas, Format, InitWeights, Layers, Names, Ranks, Targets, Texts

_base = partial(option, "Base model")
_data = partial(option, "Data")
_lora = partial(option, "LoRA")
_training = partial(option, "Training")
_chosen = partial(_training, default=None, chosen=True)
# Files may move: a run knows its base by revision and its rows by their fingerprint.
_base_place = partial(_base, identity=False)
_data_place = partial(_data, identity=False)
# What is reported, and when, does not change the adapter.
_report = partial(option, "Reports", identity=False)
_record = partial(_report, reused=False)


class RunSettings(Consistent):
    """All options of one training run. Unknown keys and impossible values are refused."""

    model_config = ConfigDict(extra="forbid", validate_default=False)

    # Base model
    model: str = _base_place(
        "Hub id, model folder, .gguf file, ollama:NAME, or the bundled smollm2-135m.", min_length=1
    )
    revision: str | None = _base_place("Branch, tag or commit of a hub model.", None)
    trust_remote_code: bool = _base_place("Run Python code that comes with the model.", False)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _base(
        "Number format of the frozen weights; auto chooses for this machine.", "auto"
    )
    base_precision: Literal["int8", "native", "q8", "q4"] | None = _base(
        "int8: multiply the frozen layers in 8-bit integers. native: keep a GGUF file's blocks in "
        "memory. q8, q4: quantise the weights when they are loaded. Default: numbers in dtype.",
        None,
    )

    # Data
    data: Texts = _data_place(
        "Files (.csv .tsv .jsonl .json .parquet .arrow .xlsx .ods .txt .md; text also as .gz or "
        '.zst), a folder, a pattern ("data/*.csv"), - for standard input, or a hub dataset id. '
        "Repeatable.",
        min_length=1,
    )
    data_name: str | None = _data_place(
        "Configuration (subset) of a dataset, list in a JSON file, or sheet of a spreadsheet.", None
    )
    data_split: str = _data_place("Split of a dataset that has several.", "train")
    data_revision: str | None = _data_place("Branch, tag or commit of a hub dataset.", None)
    file_type: (
        Literal["csv", "tsv", "json", "parquet", "arrow", "sheet", "text", "markdown"] | None
    ) = _data_place("Type of the files. Default: from their names.", None)
    text_unit: Literal["line", "paragraph", "file"] | None = _data_place(
        "What one row of a text file is. Default: line; for Markdown, file.", None
    )
    streaming: bool = _data_place(
        "Stream a hub dataset: read only the rows that max_train_samples and the held-out rows "
        "need, without downloading the rest.",
        False,
    )
    format: Format | None = _data("Format of the rows. Default: from the columns.", None)
    text_field: str | None = _data("Column with the text.", None)
    text_template: str | None = _data(
        'Text built from several columns, such as "{act}: {prompt}".', None
    )
    messages_field: str | None = _data("Column with the chat.", None)
    prompt_field: str | None = _data("Column with the prompt.", None)
    completion_field: str | None = _data("Column with the answer to the prompt.", None)
    map_row: str | None = _data_place(
        "Function applied to every row before it is read, as module.py:function. It takes a row "
        "(a dict) and returns a row, a text, or None to skip the row.",
        None,
    )
    chat_template: str | None = _data(
        "Chat template: chatml, llama3, gemma, mistral, alpaca, zephyr, a file, or none. Default: "
        "the tokenizer's own, else chatml.",
        None,
    )
    ignore_fields: Names | None = _data("Message keys and columns of chats to leave out.", None)
    control_tokens: Literal["text", "tokens"] | None = _data(
        "What <|im_end|> in a row means: text or the control token. Default: text, unless asked.",
        None,
    )
    add_tokens: Tokens | None = _data(
        "New words of the tokenizer (a file, one a line, or a list), whose embeddings are trained.",
        None,
    )
    add_special_tokens: Tokens | None = _data("The same for a template's control tokens.", None)
    train_on: Literal["completion", "assistant", "all"] | None = _data(
        "Train on the last answer (completion), every answer (assistant) or every token (all). "
        "Default: assistant; for plain text, all.",
        None,
    )
    max_train_samples: int | None = _data("Train on the first N rows only.", None, ge=1)
    eval_data: str | None = _data_place("File or hub dataset with held-out rows.", None)
    eval_fraction: float | None = _data(
        "Fraction of the rows to hold out; 0 holds out none. Default: the rows beyond "
        "max_train_samples, else 0.1.",
        None,
        ge=0,
        lt=1,
    )
    max_eval_samples: int = _data_place("Hold out at most N rows.", 100, ge=1)
    max_length: int | None = _data(
        "Maximum length of a row in tokens. Default: the model's context length, at most 2048.",
        None,
        ge=2,
    )
    overflow: Literal["truncate", "split", "drop"] | None = _data(
        "What to do with rows that are too long: cut text at its end (truncate), continue it in "
        "new rows (split), or skip the row (drop). A prompt is cut from the left and its answer "
        "kept. Default: truncate; with packing, split.",
        None,
    )
    packing: bool = _data(
        "Fill windows of max_length tokens with several rows, which do not see each other. Batch "
        "sizes then count windows.",
        False,
    )

    # LoRA
    r: int = _lora(
        "Rank of the adapter; a higher one can learn more and is larger.", 8, ge=1, on_card=True
    )
    lora_alpha: float = _lora(
        "The adapter's output is scaled by lora_alpha/r.", 16.0, gt=0, on_card=True
    )
    lora_dropout: float = _lora(
        "Dropout probability on the adapter's input.", 0.0, ge=0, lt=1, on_card=True
    )
    bias: Literal["none", "all", "lora_only"] = _lora(
        "Biases to train as well.", "none", on_card=True
    )
    target_modules: Targets = _lora(
        "Modules to adapt: names (q_proj,v_proj), a regex, or all-linear, which is every linear "
        "layer that can learn from text, but the output head.",
        "all-linear",
        on_card=True,
    )
    exclude_modules: Targets | None = _lora("Modules not to adapt: names or a regex.", None)
    layers_to_transform: Layers | None = _lora("Adapt only these layers (0,1,2).", None)
    modules_to_save: Names | None = _lora("Modules to train and save in full.", None)
    rank_pattern: Ranks | None = _lora("Ranks of single modules (q_proj=16).", None)
    alpha_pattern: Alphas | None = _lora("lora_alpha of single modules (q_proj=32).", None)
    use_rslora: bool = _lora("Scale by lora_alpha/sqrt(r) instead (rsLoRA).", False)
    use_dora: bool = _lora("Train direction and magnitude separately (DoRA).", False)
    init_lora_weights: InitWeights = _lora(
        "How the adapter starts: true, gaussian, orthogonal, pissa, pissa_niter_N, olora, mica; "
        "for quantised bases loftq; from rows eva, lora_ga, corda.", True,
    )  # fmt: skip
    alora_invocation_tokens: types.Invocation | None = _lora(
        "Activated LoRA (aLoRA): the adapter acts only from the last occurrence of this text in a "
        "row on; auto: the head of the assistant's turn.", None,
    )  # fmt: skip

    # Training
    learning_rate: float = _training(
        "Peak learning rate. The default suits small models and few rows; lorita sweep --find-lr "
        "suggests one.",
        2e-3,
        gt=0,
        le=1e3,
        on_card=True,
    )
    loraplus_lr_ratio: float | None = _training(
        "Learning rate of B as a multiple of A's (LoRA+); 16 is usual.", None, gt=0, on_card=True
    )
    num_train_epochs: float | None = _chosen(
        "Passes over the data. Default: by the number of rows.", gt=0, on_card=True
    )
    max_steps: int | None = _training(
        "Stop after N steps; overrides num_train_epochs.", None, ge=1, on_card=True
    )
    time_budget: Seconds | None = _training(
        "Train as many steps as end in this time (90s, 5m, 1h30m), loading and proof included.",
        None, gt=0, identity=False, swept=False,
    )  # fmt: skip
    per_device_train_batch_size: int | None = _chosen(
        "Rows per batch in each process. Default: by the number of rows.",
        ge=1, on_card=True, identity=False,
    )  # fmt: skip
    gradient_accumulation_steps: int = _training(
        "Batches per step.", 1, ge=1, on_card=True, identity=False
    )
    micro_batch_tokens: int | None = _training(
        "Tokens computed at once. Batches are split to fit; the result is the same. Default: what "
        "memory allows.", None, ge=1, identity=False,
    )  # fmt: skip
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = _training(
        "Learning rate schedule after warm-up.", "linear", on_card=True
    )
    warmup_steps: int = _training("Steps over which the learning rate rises to its peak.", 0, ge=0)
    weight_decay: float = _training("AdamW weight decay.", 0.0, ge=0)
    adam_beta1: float = _training("AdamW beta1.", 0.9, ge=0, lt=1)
    adam_beta2: float | None = _chosen("AdamW beta2. Default: by the tokens of a step.", ge=0, lt=1)
    adam_epsilon: float = _training("AdamW epsilon.", 1e-8, gt=0)
    max_grad_norm: float = _training(
        "Clip the gradient norm at this value; 0 turns clipping off.", 1.0, ge=0
    )
    max_skipped_steps: int = _training(
        "Steps in a row that may be skipped because loss or gradient is not finite; then the run "
        "stops.", 3, ge=0, identity=False,
    )  # fmt: skip
    early_stopping_patience: int | None = _chosen(
        "Stop after N evaluations in a row without a better held-out loss; 0: never. Default: 3 "
        "where evaluating costs little, else never.", ge=0,
    )  # fmt: skip
    load_best_model_at_end: bool | None = _chosen(
        "Keep the adapter with the best held-out loss, not the last one. Default: on where early "
        "stopping is."
    )
    gradient_checkpointing: bool = _training("Recompute activations: slower, less memory.", False)
    seed: int = _training(
        "Random seed of the whole run.", 42, ge=0, lt=2**32, previewed=True, on_card=True
    )
    use_cpu: bool = _training("Train on the CPU even if there is a GPU.", False, swept=False)
    speedup: bool = _training(
        "Use lorita's fast training step; --no-speedup uses plain PEFT.", True
    )
    use_liger_kernel: bool = _training(
        "On a GPU, use Liger's norms and activations (pip install liger-kernel).", False
    )

    # Reports
    probe: bool = _report("Time the first steps to forecast the whole run.", True)
    logging_steps: int = _record(
        "Print a line every N steps where there is no progress bar; log.jsonl has every step.",
        1,
        ge=1,
    )
    report_to: types.Trackers = _record(
        "Trackers that get the curves as well: tensorboard, wandb, mlflow, trackio.", []
    )
    eval_steps: int | None = _record(
        "Measure the held-out loss every N steps as well as at the end. Default: up to ten times "
        "if early_stopping_patience or load_best_model_at_end needs it.", None, ge=1, chosen=True,
    )  # fmt: skip
    save_steps: int | None = _record("Save a checkpoint every N steps.", None, ge=1)
    save_total_limit: int = _record("Checkpoints to keep: the newest N, and the best.", 2, ge=1)
    resume: bool = _record("Continue an interrupted run: lorita train runs/NAME --resume.", False)
    resume_from_checkpoint: str | None = _record("Checkpoint folder to continue, or last.", None)
    resume_inexact: bool = _record(
        "Continue although the processor, threads, processes, kernels or versions are others, "
        "which changes the result in its last digits.",
        False,
    )
    compare_prompt: Texts = _report(
        "Prompt to answer before and after training. Repeatable. Default: the beginnings of three "
        "held-out rows.",
        [],
    )
    max_new_tokens: int = _report("Maximum length of these answers in tokens.", 50, ge=1)
    repetition_penalty: float | None = _report(
        "Repetition penalty of these answers, and of later ones; 1: none. Default: 1.5 for texts, "
        "1.1 for chats.",
        None,
        gt=0,
    )
    proof: bool = _record(
        "Measure at the end what was learned, forgotten and memorised; --no-proof measures the "
        "held-out loss only.",
        True,
    )
    push_to_hub: bool = _report(
        "Upload the finished run to the Hugging Face Hub; otherwise nothing is uploaded.", False
    )
    hub_model_id: str | None = _report(
        "Hub repository to upload to: owner/name. Default: the run's name in your account.", None
    )
    output_dir: Path | None = _record("Run folder. Default: runs/ and the name of the data.", None)
    overwrite: bool = _record("Replace the run in output_dir.", False)

    @property
    def evaluation_decides(self) -> bool:
        """Whether the held-out loss influences the final adapter."""
        return bool(self.load_best_model_at_end) or bool(self.early_stopping_patience)
