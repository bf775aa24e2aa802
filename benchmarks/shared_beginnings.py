"""What it gains to compute a system prompt once for all rows of a micro-batch.

    python benchmarks/shared_beginnings.py                          # 16 chats, 600 shared tokens
    python benchmarks/shared_beginnings.py --shared 16,50,600 --own 60

Both ways train on the same rows in one process, in turn; the ratio is of the fastest epochs, in
seconds of processor time, which other programs disturb less.
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
from lorita.data.shared_beginnings import find_groups
from lorita.models.base import find_base, load_tokenizer
from lorita.training.objective import end_to_end_loss
from lorita.training.step import gradients
from lorita.training.stop_request import StopRequest
from lorita.training.token_budget import most_tokens


def make_rows(shared: int, own: int, count: int) -> list[Example]:
    """Rows of ``shared`` tokens that are the same and masked, and ``own`` that are trained."""
    _, prompts = read_prompts(None)
    tokenizer = load_tokenizer(find_base("smollm2-135m"))
    beginning = tokenizer("\n".join(prompts[count:])).input_ids[:shared]
    rows = []
    for number, prompt in enumerate(prompts[:count]):
        answer = tokenizer(f"{number}. {prompt}").input_ids[:own]
        rows.append(Example(beginning + answer, [IGNORE] * shared + answer, number))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shared", default="600", help="shared tokens; several with commas")
    parser.add_argument("--own", type=int, default=60, help="tokens of a row's own")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--budget", type=int, help="tokens at a time; default: as a run chooses")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype")
    given = parser.parse_args()
    ready = ready_to_train(given.dtype, WIDE)
    numerics, model, trainee = ready.numerics, ready.model, ready.trainee
    loss_sum, accelerator = end_to_end_loss(model, device=CPU), Accelerator(cpu=True)
    for shared in map(int, given.shared.split(",")):
        rows = make_rows(shared, given.own, given.rows)
        steps = [rows[i : i + given.batch] for i in range(0, len(rows), given.batch)]
        seconds: dict[bool, list[float]] = {False: [], True: []}
        losses = {}
        for _ in range(given.repeats + 1):
            for way in seconds:
                trainee.shares_beginnings = way
                beginning = find_groups(steps[0])[0].shared if way else 0
                usual = most_tokens(numerics.dtype.itemsize, on_cpu=True)
                trainee.token_budget = given.budget or usual + beginning
                started = time.process_time()
                for step in steps:
                    losses[way] = gradients(trainee, step, loss_sum, accelerator, StopRequest())
                    trainee.forget_gradients()
                seconds[way].append(time.process_time() - started)
        apart, once = (min(times[1:]) for times in seconds.values())
        print(
            f"{shared} shared and {given.own} own tokens, {given.rows} rows, {given.batch} a step, "
            f"{numerics.dtype}: {apart:.2f} s apart, {once:.2f} s shared, {apart / once:.2f} times "
            f"as fast; losses {losses[False]:.6f} and {losses[True]:.6f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
