"""``lorita serve`` under load: right answers, lost requests, seconds, throughput and memory.

    python benchmarks/serving.py                                     # an hour on two cores
    python benchmarks/serving.py --each 2 --tokens 8 --requests 200  # a trial

Three adapters are trained for a moment (kept in --runs and used again) and served in float32, to 32
clients. Expected answers are those of ``lorita generate``. Ends with exit code 1 if one is wrong or
lost, if eight chats at once have less than three times the throughput of one, or if the server's
memory grows by more than 5 % from --requests requests to twice as many.
"""

from __future__ import annotations

import argparse
import atexit
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
from generation import prompts

import lorita
from lorita.workflows.demo import data_file

MODELS, CLIENTS = ("red", "green", "blue"), 32
Key = tuple[str, str]  # a model and a prompt


def train(runs: Path, model: str) -> None:
    """Adapters of different seeds; what is there already is kept."""
    for seed, name in enumerate(MODELS):
        if not (runs / name / "lorita.json").is_file():
            lorita.train(
                model=model, data=str(data_file()), text_field="prompt", seed=seed, max_steps=4,
                output_dir=str(runs / name), overwrite=True, learning_rate=5e-3, proof=False,
                per_device_train_batch_size=1, eval_fraction=0, probe=False, dtype="float32",
            )  # fmt: skip


def expected_answers(runs: Path, tokens: int) -> dict[Key, str]:
    """What each model answers to each prompt."""
    asked, answers = prompts(10), {}
    for name in MODELS:
        tuned = lorita.load(runs / name, dtype="float32")
        said = tuned.generate_batch(asked, max_new_tokens=tokens)
        answers |= {(name, prompt): text for prompt, text in zip(asked, said, strict=True)}
    return answers


class Server:
    """The command in a process of its own."""

    def __init__(self, runs: Path) -> None:
        words = ["serve", *(str(runs / name) for name in MODELS), "--dtype", "float32"]
        process = subprocess.Popen(
            [sys.executable, "-m", "lorita", *words, "--port", "0", "--max-queue", "1000"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._id = process.pid
        atexit.register(process.terminate)
        assert process.stdout is not None
        found = re.search(r"http://\S+/v1", process.stdout.readline())
        assert found is not None
        self._client = openai.OpenAI(base_url=found[0], api_key="none", max_retries=0)

    def ask(self, key: Key, tokens: int, *, stream: bool = False) -> str:
        """The answer of a model to a prompt."""
        asked = {"messages": [{"role": "user", "content": key[1]}], "max_tokens": tokens}
        answer = self._client.chat.completions.create(model=key[0], stream=stream, **asked)
        if stream:
            return "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        return str(answer.choices[0].message.content)

    def memory(self) -> float:
        """The process's resident memory in MB."""
        status = Path(f"/proc/{self._id}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def together(count: int, clients: int, one: Callable[[int], object]) -> float:
    """Do so many requests with so many clients; the seconds that it took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(count)))
    return time.perf_counter() - began


def speedup(server: Server, keys: list[Key], tokens: int) -> float:
    """How many times as many tokens a second eight chats get as one: the best of three pairs."""
    ratios = []
    for _ in range(3):
        alone = together(2, 1, lambda n: server.ask(keys[n], tokens)) / 2
        eight = together(8, 8, lambda n: server.ask(keys[n], tokens)) / 8
        ratios.append(alone / eight)
    return max(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--runs", type=Path, default=Path("runs/serving"))
    parser.add_argument("--each", type=int, default=20, help="requests of each client")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer")
    parser.add_argument("--requests", type=int, default=1000, help="while memory is looked at")
    given = parser.parse_args()
    train(given.runs, given.model)
    expected = expected_answers(given.runs, given.tokens)
    keys, dice = list(expected), random.Random(0)
    dice.shuffle(keys)
    server = Server(given.runs)
    took: list[float] = []
    wrong: list[Key] = []
    count = CLIENTS * given.each

    def one(number: int) -> None:
        key, began = keys[number % len(keys)], time.perf_counter()
        try:
            answer = server.ask(key, given.tokens, stream=number % 2 == 0)
        except openai.OpenAIError:
            return  # lost
        took.append(time.perf_counter() - began)
        if answer != expected[key]:
            wrong.append(key)

    faster = speedup(server, keys, 2 * given.tokens)
    seconds = together(count, CLIENTS, one)
    cuts = statistics.quantiles(took, n=20)
    sizes = []
    for _ in range(2):
        together(given.requests, 8, lambda n: server.ask(keys[n % len(keys)], 4))
        sizes.append(server.memory())
    print(f"requests, clients      {count}, {CLIENTS}")
    print(f"wrong, lost            {len(wrong)}, {count - len(took)}")
    print(f"p50, p95               {cuts[9]:.2f} s, {cuts[18]:.2f} s")
    print(f"answers per second     {count / seconds:.2f}")
    print(f"8 chats against 1      {faster:.2f} times the throughput")
    print(f"memory                 {sizes[0]:.0f} MB, {sizes[1]:.0f} MB {given.requests} later")
    if wrong or len(took) < count or faster < 3 or sizes[1] > 1.05 * sizes[0]:
        sys.exit(1)


if __name__ == "__main__":
    main()
