"""What a run that continues another must have in common with it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings

_NOT_IDENTITY = {
    "model", "revision", "trust_remote_code", "data", "data_name", "data_split", "data_revision",
    "file_type", "text_unit", "streaming", "eval_data", "map_row", "max_eval_samples",
    "logging_steps", "eval_steps", "save_steps",
    "save_total_limit", "resume", "resume_from_checkpoint", "compare_prompt", "max_new_tokens",
    "repetition_penalty", "proof", "output_dir", "overwrite", "push_to_hub", "hub_model_id",
    "micro_batch_tokens", "max_skipped_steps", "probe",
}  # fmt: skip


def identity(settings: RunSettings, prepared: Prepared) -> dict[str, object]:
    """What a run that continues another must share with it: model, rows, and the settings that
    change the result. Where files lie and what is reported may change."""
    values = settings.model_dump(mode="json", exclude=_NOT_IDENTITY)
    if settings.evaluation_decides:
        values["eval_steps"] = settings.eval_steps
        ids = [example.input_ids for example in prepared.data.held_out]
        values["held-out rows"] = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    return {
        "base": prepared.base.reference,
        "revision": prepared.base.revision,
        "training rows": prepared.data.fingerprint,
        "prompt format": prepared.data.prompt_format.record(),
        **values,
    }
