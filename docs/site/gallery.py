"""The gallery: three complete examples, run anew with ``python docs/site/gallery.py``.

Each is one command on the bundled model. Its report and its comparison are kept in
``docs/site/gallery``; the page is made of them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KEPT = HERE / "gallery"


@dataclass(frozen=True)
class Example:
    """An example: ``command`` runs in the repository's folder and writes to ``runs/NAME``."""

    name: str
    title: str
    text: str
    command: str


EXAMPLES = (
    Example(
        "article",
        "A style from fifty prompts",
        "The article's story: fifty texts that each give a model a role, a LoRA of rank 4, and the "
        "same prompt answered before and after. The notebook explains it step by step.",
        "lorita train smollm2-135m examples/awesome-chatgpt-prompts.csv --text-field prompt "
        "--max-train-samples 50 --max-eval-samples 20 --max-length 128 --r 4 --lora-alpha 8 "
        "--learning-rate 2e-3 --num-train-epochs 3 --per-device-train-batch-size 5 "
        '--max-new-tokens 60 --compare-prompt "I want you to act as a motivational coach."',
    ),
    Example(
        "repairs",
        "A way of answering from chats",
        "Chats about things that are broken. Each answer says what is wrong and what to do, and "
        "ends with a question that begins with “Tell me”.",
        "lorita train smollm2-135m benchmarks/data/repairs.jsonl --max-train-samples 40 "
        "--learning-rate 3e-3 --num-train-epochs 2 --per-device-train-batch-size 4 "
        "--max-new-tokens 60 "
        '--compare-prompt "My umbrella turns inside out in the wind. What can I do?"',
    ),
    Example(
        "too-often",
        "What memorising looks like",
        "Four rows, seen ten times at a high learning rate. An example of what not to do: read "
        "in the proof what becomes of the loss on other rows, and how much is recited.",
        "lorita train smollm2-135m src/lorita/resources/role_prompts.csv --text-field prompt "
        "--max-train-samples 4 --max-eval-samples 12 --max-length 64 --num-train-epochs 10 "
        "--learning-rate 1e-2 --per-device-train-batch-size 2 --early-stopping-patience 0 "
        "--max-new-tokens 50 "
        '--compare-prompt "I want you to act as a ferry captain."',
    ),
)


def page(kept: Path = KEPT) -> str:
    """The gallery in Markdown; reports are linked at ``gallery/NAME/report.html``."""
    parts = [
        "# Gallery\n\nThree complete examples on the bundled model, which has 135 million "
        "parameters. The commands run as they are in the repository's folder, without a network. "
        "A small model shows what changes, not how good a larger one would be.\n"
    ]
    for each in EXAMPLES:
        compared = (kept / each.name / "compare.md").read_text(encoding="utf-8")
        result = compared.partition("\n\n")[2].replace("\n## ", "\n#### ")
        parts.append(
            f"## {each.title}\n\n{each.text}\n\n```\n{each.command}\n```\n\n"
            f"[The whole report](gallery/{each.name}/report.html)\n\n### Before and after: "
            f"{each.name}\n\n{result}"
        )
    return "\n".join(parts)


def make(example: Example) -> None:
    """Run an example and keep its report and comparison."""
    command = [sys.executable, "-m", *shlex.split(example.command)]
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / example.name
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        command += ["--output-dir", str(run)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        target = KEPT / example.name
        target.mkdir(parents=True, exist_ok=True)
        for name in ("report.html", "compare.md"):
            text = (run / name).read_text(encoding="utf-8")
            (target / name).write_text(text.replace(f"{place}/", "runs/"), encoding="utf-8")


if __name__ == "__main__":
    chosen = sys.argv[1:]
    for each in EXAMPLES:
        if not chosen or each.name in chosen:
            make(each)
