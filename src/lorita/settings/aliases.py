"""Names of options in other tools, so that a flag or key people already know is understood."""

from __future__ import annotations

ALIASES = {
    "base_model": "model",
    "model_name_or_path": "model",
    "dataset": "data",
    "train_file": "data",
    "dataset_text_field": "text_field",
    "field_messages": "messages_field",
    "template": "chat_template",
    "lora_r": "r",
    "lora_rank": "r",
    "rank": "r",
    "alora_invocation": "alora_invocation_tokens",
    "invocation_string": "alora_invocation_tokens",
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
"""The other name, and the name here."""
