"""End every command that writes at random instants, and look at what is left.

python -m tests.attack.kills --rounds 8

After a kill, what stands under the final name is what stood there before or the whole result, never
a part; the same command, given again, ends with the bytes of one that was left alone, and nothing
is left over. After SIGTERM and SIGINT the exit code is 130 besides.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lorita.storage.locks import LOCK_FILE
from tests.hub_server import TOKEN, HubServer, hub_server

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TRAIN = (
    "--text-field prompt --dtype float32 --max-steps 4 --save-steps 1 --learning-rate 1e-2 "
    "--per-device-train-batch-size 4 --max-new-tokens 4 --no-proof --no-probe --use-cpu"
)
VOLATILE = ("seconds", "time", "versions", "machine", "memory")
"""Parts of the names of what is measured, and so differs from run to run."""
NOT_COMPARED = ("log.jsonl", "report.html", LOCK_FILE)
"""Two show when things happened: a resumed run does not know how long the whole took. The third may
be what a killed process left, which the next one takes over."""


@dataclass(frozen=True)
class Target:
    """A command that writes to a place, and how to give it again if it was ended.

    ``replaces`` is the command that made what stands at the place before; None for nothing.
    """

    name: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    replaces: tuple[str, ...] | None = None
    keeps_parts: bool = False
    """Whether the place holds its finished parts before the command ends, as for a sweep."""


def targets(work: Path) -> list[Target]:
    """The commands; OUT stands for the place, which is new in every round."""
    run, other = str(work / "run"), str(work / "other")
    data = f"--model {work / 'model'} --data {work / 'data.csv'} {TRAIN}".split()
    train = ("train", *data, "--output-dir", "OUT")
    sweep = ("sweep", *data, "--r", "2,4", "--eval-fraction", "0.2", "--output-dir", "OUT")
    merged = ("merge", other, "OUT")
    gguf = ("export", "gguf", other, "OUT")
    over = ("--overwrite",)
    return [
        Target("train", train, ("--resume",), keeps_parts=True),
        Target("train --overwrite", (*train, *over), ("--resume",), train, keeps_parts=True),
        Target("sweep", sweep, keeps_parts=True),
        Target("merge", ("merge", run, "OUT")),
        Target("merge --overwrite", ("merge", run, "OUT", *over), (), merged),
        Target("export gguf", ("export", "gguf", run, "OUT")),
        Target("export gguf --overwrite", ("export", "gguf", run, "OUT", *over), (), gguf),
        Target("export gguf --merged", ("export", "gguf", run, "OUT", "--merged")),
        Target("export ollama", ("export", "ollama", run, "OUT")),
        Target("push", ("push", run, "someone/OUTNAME")),
    ]


def content(place: Path) -> dict[str, str]:
    """The files under a place with a hash of each, without what differs from run to run."""
    if place.is_file():
        # Its own name is in it; all names have the same length.
        raw = place.read_bytes().replace(place.name.encode(), b"PLACE")
        return {"": hashlib.sha256(raw).hexdigest()}
    return {
        str(file.relative_to(place)): hashlib.sha256(_constant(file)).hexdigest()
        for file in sorted(place.rglob("*"))
        if file.is_file() and "checkpoint-" not in str(file) and file.name not in NOT_COMPARED
    }


def _constant(file: Path) -> bytes:
    """The content of a file without times and without the name of its own folder."""
    raw = file.read_bytes()
    if file.suffix == ".json":
        raw = json.dumps(_without(json.loads(raw)), sort_keys=True).encode()
    lines = raw.split(b"\n")
    # A resumed run has --resume in its settings and a run that replaced another --overwrite.
    options = (b"output_dir:", b"resume:", b"overwrite:")
    if file.suffix in (".yaml", ".md"):
        lines = [line for line in lines if not line.startswith(options)]
    raw = b"\n".join(lines)
    for name in {file.parent.name, file.parent.parent.name}:
        raw = raw.replace(name.encode(), b"PLACE")
    return raw


def _without(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: _without(inner)
            for key, inner in value.items()
            if not any(word in key for word in VOLATILE)
        }
    return [_without(inner) for inner in value] if isinstance(value, list) else value


class Killer:
    """Ends commands in a folder of its own; ``tally`` counts what happened."""

    def __init__(self, work: Path, server: HubServer, seed: int) -> None:
        from tests.attack.forks import Forks

        self.work, self.server = work, server
        self.forks = Forks(work)
        self.dice = random.Random(seed)
        self.tally: Counter[str] = Counter()
        self.number = 0

    def prepare(self) -> None:
        """A model, data, and two finished runs that differ."""
        from tests import tiny
        from tests.export.models import save_base

        model = save_base(self.work / "model", "llama")  # one that llama.cpp reads, too
        self.server.add("someone/tiny-llama", model)
        tiny.write_csv(self.work / "data.csv", tiny.make_texts(24))
        for name, rate in (("run", "1e-2"), ("other", "2e-2")):
            words = ["train", "--model", "someone/tiny-llama", "--data", self.work / "data.csv"]
            words += [*TRAIN.split(), "--learning-rate", rate, "--output-dir", self.work / name]
            options = [str(word) for word in words]
            first = options.index("--learning-rate")
            self.forks.finish(options[:first] + options[first + 2 :])

    def attack(self, target: Target, rounds: int) -> None:
        """One command, left alone once and then ended ``rounds`` times."""
        for _ in range(2):  # the first imports what the command needs
            place, words = self._place(target)
            seconds = self.forks.finish(words)
            self.forks.import_all()
        whole = self._look(place)
        for _ in range(rounds):
            place, words = self._place(target)
            before = self._look(place)
            sign = self.dice.choice(SIGNALS)
            code = self._end(words, self.dice.uniform(0, seconds * 1.1), sign)
            self.tally[f"{target.name}: {code}"] += 1
            allowed = {0, -9} if sign == signal.SIGKILL else {0, 130}
            if code not in allowed:
                self._fail(target, f"ended with {code} after {signal.Signals(sign).name}")
            found = self._look(place)
            if not target.keeps_parts and found not in ({}, before, whole):
                self._fail(target, f"half a result after {signal.Signals(sign).name}: {found}")
            if found != whole or not target.keeps_parts:
                self.forks.finish(self._again(target, words, done=code == 0))
            if self._look(place) != whole:
                self._fail(target, f"other bytes: {_difference(whole, self._look(place))}")
            if left := self._left_over(place):
                self._fail(target, f"left over: {left}")
            self._remove(place)

    def _end(self, words: list[str], seconds: float, sign: int) -> int:
        from tests.attack.forks import end_after

        return end_after(self.forks.start(words), seconds, sign)

    def _place(self, target: Target) -> tuple[Path, list[str]]:
        """A new place, prepared, and the words of the command with it."""
        self.number += 1
        home = self.work / f"home{self.number:04}"
        home.mkdir()
        place = home / f"out{self.number:04}"

        def filled(words: tuple[str, ...]) -> list[str]:
            named = [word.replace("OUTNAME", place.name) for word in words]
            return [str(place) if word == "OUT" else word for word in named]

        if target.replaces is not None:
            self.forks.finish(filled(target.replaces))
        return place, filled(target.words)

    def _again(self, target: Target, words: list[str], *, done: bool) -> list[str]:
        """The command given again; what is there is replaced if it was completed."""
        if target.again:
            return [word for word in words if word != "--overwrite"] + list(target.again)
        there = done or self._pushed(Path(words[2])) if target.name == "push" else done
        can = target.name not in ("push", "sweep")
        place = next((Path(word) for word in words if "/home" in word), None)
        exists = place is not None and place.exists()
        more = ["--overwrite"] if can and (there or exists) and "--overwrite" not in words else []
        return [*words, *more]

    def _look(self, place: Path) -> dict[str, str]:
        pushed = self._pushed(place)
        return content(pushed) if pushed is not None else content(place)

    def _pushed(self, place: Path) -> Path | None:
        assert self.server.uploads is not None
        page = self.server.uploads / "someone" / place.name
        return page if page.is_dir() else None

    def _left_over(self, place: Path) -> list[str]:
        beside = [path for path in place.parent.iterdir() if path != place]
        inside = [path for path in place.rglob(".*") if path.name.endswith((".part", ".old"))]
        return [str(path) for path in (*beside, *inside)]

    def _remove(self, place: Path) -> None:
        shutil.rmtree(place.parent)
        pushed = self._pushed(place)
        if pushed is not None:
            shutil.rmtree(pushed)

    def _fail(self, target: Target, what: str) -> None:
        tail = self.forks.log.read_text(errors="replace")[-2000:]
        sys.exit(f"{target.name}: {what}\nin {self.work}; the last it said:\n{tail}")


def _difference(whole: dict[str, str], found: dict[str, str]) -> list[str]:
    names = sorted({*whole, *found})
    return [name for name in names if whole.get(name) != found.get(name)]


def kill_all(rounds: int, seed: int, only: str = "") -> Counter[str]:
    """Every target, ``rounds`` times; exits with a message at the first fault."""
    with attacked(seed) as killer:
        for target in targets(killer.work):
            if target.name.startswith(only):
                killer.attack(target, rounds)
                print(f"{target.name}: {rounds} rounds", flush=True)
        return killer.tally


@contextmanager
def attacked(seed: int) -> Iterator[Killer]:
    """Two finished runs to attack, and a local hub that all commands use.

    The hub's variables are read when libraries are imported: this comes before any import of them.
    """
    with ExitStack() as stack:
        server = stack.enter_context(hub_server())
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lorita-attack-")))
        os.environ |= {
            "HF_ENDPOINT": server.endpoint, "HF_HOME": str(work / "home"), "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_CACHE": str(work / "home/tables"), "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": TOKEN, "XDG_STATE_HOME": str(work / "state"),
        }  # fmt: skip
        server.uploads = work / "uploads"
        server.uploads.mkdir()
        killer = Killer(work, server, seed)
        killer.prepare()
        yield killer


def command_line(attack: Callable[[int, int, str], Counter[str]], rounds: int) -> None:
    """Run an attack with the rounds, the seed and the part that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", default="", help="what has a name that begins with this")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    for line, count in sorted(attack(given.rounds, given.seed, given.only).items()):
        print(f"  {line}: {count}")


if __name__ == "__main__":
    command_line(kill_all, rounds=8)
