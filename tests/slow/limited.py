"""The article's job with 64 rows a step, for a few steps; prints its losses as JSON.

python -m tests.slow.limited FOLDER --limit     # 1.5 GB of address space above the loaded model
python -m tests.slow.limited FOLDER --apart     # 8 batches of 8 rows instead, without a limit
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import lorita
from lorita.training.events import Event, MicroBatchReduced, Note, StepDone
from lorita.workflows.demo import data_file

ABOVE = 1_500_000_000


def main(folder: str, *flags: str) -> None:
    losses: list[float] = []
    reduced: list[int] = []
    limited: list[int] = []

    def on_event(event: Event) -> None:
        # The base is loaded and says so with its numbers; the adapter and the fast step come after.
        if isinstance(event, Note) and "Number format:" in event.text and "--limit" in flags:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            size = pages * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + ABOVE, size + ABOVE))
            limited.append(size)
        if isinstance(event, StepDone):
            losses.append(event.loss)
        if isinstance(event, MicroBatchReduced):
            reduced.append(event.tokens)

    rows: dict[str, Any] = {"per_device_train_batch_size": 64}
    if "--apart" in flags:
        rows = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 8}
    if "--all-at-once" in flags:
        rows["micro_batch_tokens"] = 100_000
    lorita.train(
        model="smollm2-135m",
        data=str(data_file()),
        text_field="prompt",
        max_train_samples=50,
        max_eval_samples=2,
        r=4,
        lora_alpha=1,
        target_modules="q_proj,k_proj,v_proj",
        learning_rate=3e-2,
        max_steps=3,
        max_new_tokens=3,
        proof=False,
        use_cpu=True,
        output_dir=folder,
        on_event=on_event,
        **rows,
    )
    print(json.dumps({"losses": losses, "reduced": reduced, "limited": bool(limited)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
