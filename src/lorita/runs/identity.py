"""What a run must have in common with the run that it continues."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from lorita.settings.schema import options_where

if TYPE_CHECKING:
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings


def identity(settings: RunSettings, prepared: Prepared) -> dict[str, object]:
    """Model, rows, and the settings that change the result, as checkpoints store them.

    Where the files are and what is reported may differ.
    """
    values = settings.model_dump(mode="json", exclude=set(options_where(identity=False)))
    if settings.evaluation_decides:
        values["eval_steps"] = settings.eval_steps
        ids = [example.input_ids for example in prepared.data.held_out]
        values["held-out rows"] = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    asked = prepared.data.prompt_format.record()
    del asked["control_tokens"]  # an option of its own, which earlier runs did not have
    return {
        "base": prepared.base.reference,
        "revision": prepared.base.revision,
        "training rows": prepared.data.fingerprint,
        "prompt format": asked,
        **values,
    }
