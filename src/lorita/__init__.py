"""lorita: LoRA fine-tuning of causal language models on the machine you already have.

    import lorita

    run = lorita.train(model="smollm2-135m", data="prompts.csv", text_field="prompt", r=4)
    print(run.compare())
    print(run.generate("I want you to act as a gardener. "))

    tuned = lorita.load("runs/prompts")

Names are imported when first used, so that ``import lorita`` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorita.engine.report import SpeedupReport
    from lorita.engine.speedup import speedup, unspeed
    from lorita.errors import Interrupted, LoritaError, RunFailed, UserError
    from lorita.inference.load import load
    from lorita.inference.options import GenerationOptions
    from lorita.inference.tuned_model import TunedModel
    from lorita.settings.schema import RunSettings
    from lorita.training.events import (
        CheckpointSaved,
        Compared,
        EarlyStopped,
        Evaluated,
        Event,
        Forecasted,
        MicroBatchReduced,
        Note,
        RunEnded,
        StepDone,
        StepSkipped,
        TrainingEnded,
        TrainingStarted,
    )
    from lorita.workflows.evaluate import evaluate
    from lorita.workflows.preview import Preview, preview
    from lorita.workflows.sweep import sweep
    from lorita.workflows.sweep_result import SweepResult
    from lorita.workflows.train import RunResult, train

__version__ = "0.1.0"

_HOME = {
    "CheckpointSaved": "lorita.training.events",
    "Compared": "lorita.training.events",
    "EarlyStopped": "lorita.training.events",
    "Evaluated": "lorita.training.events",
    "Event": "lorita.training.events",
    "Forecasted": "lorita.training.events",
    "GenerationOptions": "lorita.inference.options",
    "Interrupted": "lorita.errors",
    "LoritaError": "lorita.errors",
    "MicroBatchReduced": "lorita.training.events",
    "Note": "lorita.training.events",
    "Preview": "lorita.workflows.preview",
    "RunEnded": "lorita.training.events",
    "RunFailed": "lorita.errors",
    "RunResult": "lorita.workflows.train",
    "RunSettings": "lorita.settings.schema",
    "SpeedupReport": "lorita.engine.report",
    "StepDone": "lorita.training.events",
    "StepSkipped": "lorita.training.events",
    "SweepResult": "lorita.workflows.sweep_result",
    "TrainingEnded": "lorita.training.events",
    "TrainingStarted": "lorita.training.events",
    "TunedModel": "lorita.inference.tuned_model",
    "UserError": "lorita.errors",
    "evaluate": "lorita.workflows.evaluate",
    "load": "lorita.inference.load",
    "preview": "lorita.workflows.preview",
    "speedup": "lorita.engine.speedup",
    "sweep": "lorita.workflows.sweep",
    "train": "lorita.workflows.train",
    "unspeed": "lorita.engine.speedup",
}

__all__ = [
    "CheckpointSaved",
    "Compared",
    "EarlyStopped",
    "Evaluated",
    "Event",
    "Forecasted",
    "GenerationOptions",
    "Interrupted",
    "LoritaError",
    "MicroBatchReduced",
    "Note",
    "Preview",
    "RunEnded",
    "RunFailed",
    "RunResult",
    "RunSettings",
    "SpeedupReport",
    "StepDone",
    "StepSkipped",
    "SweepResult",
    "TrainingEnded",
    "TrainingStarted",
    "TunedModel",
    "UserError",
    "__version__",
    "evaluate",
    "load",
    "preview",
    "speedup",
    "sweep",
    "train",
    "unspeed",
]


if not TYPE_CHECKING:  # or a name that does not exist would pass a type checker

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'lorita' has no attribute {name!r}")
        if "IPython" in sys.modules:
            import_module("lorita.system.quiet").settle_tqdm()
        with import_module("lorita.system.imports").importing():
            return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
