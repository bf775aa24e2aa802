"""What it gains to keep what an activated LoRA's base computes for the prompts.

    python benchmarks/kept_prompts.py                        # prompts of 600 tokens, answers of 60
    python benchmarks/kept_prompts.py --prompt 100,600 --own 60

Every row has a prompt of its own. Three ways take turns in one process: whole rows, prompts that
are computed without a gradient and forgotten (a run of one epoch), and prompts that are kept (its
other epochs). The ratios are of the fastest epochs, in seconds of processor time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).parent))
from ready import CPU, ready_to_train

from jobs import WIDE, read_prompts
from lorita.data.examples import IGNORE, Example
from lorita.engine.kept_prompts import KeptPrompts, kept_prompts
from lorita.models.base import find_base, load_tokenizer
from lorita.training.objective import end_to_end_loss
from lorita.training.step import gradients
from lorita.training.stop_request import StopRequest
from lorita.training.token_budget import most_tokens

INVOCATION = "\nAnswer:"


def make_rows(prompt: int, own: int, count: int, invocation: list[int]) -> list[Example]:
    """Rows of ``prompt`` tokens that are masked, the invocation, and ``own`` that are trained."""
    _, texts = read_prompts(None)
    tokenizer = load_tokenizer(find_base("smollm2-135m"))
    rows = []
    for number in range(count):
        turned = texts[number:] + texts[:number]
        before = tokenizer("\n".join(turned)).input_ids[:prompt] + invocation
        answer = tokenizer(f"{number}. {texts[number]}").input_ids[:own]
        rows.append(Example(before + answer, [IGNORE] * len(before) + answer, number))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prompt", default="600", help="tokens of a prompt; several with commas")
    parser.add_argument("--own", type=int, default=60, help="tokens of an answer")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype")
    given = parser.parse_args()
    invocation = load_tokenizer(find_base("smollm2-135m"))(INVOCATION).input_ids
    ready = ready_to_train(given.dtype, {**WIDE, "alora_invocation_tokens": invocation})
    numerics, model, trainee = ready.numerics, ready.model, ready.trainee
    trainee.token_budget = most_tokens(numerics.dtype.itemsize, on_cpu=True)
    for prompt in map(int, given.prompt.split(",")):
        rows = make_rows(prompt, given.own, given.rows, invocation)
        steps = [rows[i : i + given.batch] for i in range(0, len(rows), given.batch)]
        ways = {"whole": None, "once": kept_prompts(model, 0), "kept": kept_prompts(model, 2**34)}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        losses = {}
        for _ in range(given.repeats + 1):
            for way, prompts in ways.items():
                assert prompts is None or isinstance(prompts, KeptPrompts), prompts
                trainee.cost = len if prompts is None else prompts.cost
                loss_sum = end_to_end_loss(model, device=CPU, prompts=prompts)
                started = time.process_time()
                for step in steps:
                    found = gradients(trainee, step, loss_sum, Accelerator(cpu=True), StopRequest())
                    losses[way] = found
                    trainee.forget_gradients()
                seconds[way].append(time.process_time() - started)
        whole, once, kept = (min(times[1:]) for times in seconds.values())
        print(
            f"prompts of {prompt} and answers of {given.own} tokens, {given.rows} rows, "
            f"{given.batch} a step, {numerics.dtype}: {whole:.2f} s whole, {once:.2f} s without a "
            f"gradient ({whole / once:.2f} times as fast), {kept:.2f} s kept "
            f"({whole / kept:.2f} times); losses "
            + ", ".join(f"{loss:.6f}" for loss in losses.values()),
            flush=True,
        )


if __name__ == "__main__":
    main()
