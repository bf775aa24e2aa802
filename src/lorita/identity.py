"""Where a run's folder is, whether it continues one, and what both must have in common."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.finding import data_name
from lorita.rundir import SETTINGS_FILE
from lorita.settings import RunSettings

if TYPE_CHECKING:
    from lorita.prepare import Prepared


def default_output_dir(settings: RunSettings) -> Path:
    """``output_dir``, or ``runs/`` and the name of the data."""
    if settings.output_dir is not None:
        return settings.output_dir.expanduser()
    return Path("runs") / data_name(settings.data[0])


def resume_source(settings: RunSettings) -> str | None:
    """``last`` or the path of the checkpoint to continue from; None for a new run."""
    return settings.resume_from_checkpoint or ("last" if settings.resume else None)


def continues(settings: RunSettings, folder: Path) -> bool:
    """Whether there is a run in ``folder`` that goes on; one that was wanted may not have begun."""
    return resume_source(settings) is not None and (folder / SETTINGS_FILE).is_file()


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
    if evaluation_decides(settings):
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


def evaluation_decides(settings: RunSettings) -> bool:
    """Whether held-out losses have a part in what the adapter becomes."""
    return settings.load_best_model_at_end or settings.early_stopping_patience is not None
