"""Put hundreds of broken files through the commands that read them.

python -m tests.attack.malformed --cases 300 --seed 0
python -m tests.attack.malformed --seed 0 --only 17       # one case again, with what it printed

A case is a file of ``material.TARGETS``, broken by ``mutations``, and a command; its number and the
seed decide all three. It passes if the command ends with exit code 0, 1 or 2 and, unless it is 0,
exactly one message; without a traceback or a bug's message, within ten seconds of processor time,
and with less than 1 GB more memory. Each runs in a fork of a process that has imported everything.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ |= {
    "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "COLUMNS": "200",
}  # fmt: skip

import lorita.cli
from tests.attack import material, mutations

SECONDS = 10.0
"""Processor time that a case may take."""
WAIT = 120.0
"""Seconds after which a case is ended, whatever it does."""
MEMORY = 2**30
IMPORTED = (
    "peft datasets accelerate gguf transformers.models.llama.modeling_llama pyarrow.parquet rich "
    "lorita.cli.train lorita.workflows.train lorita.workflows.preview lorita.workflows.evaluate "
    "lorita.workflows.sweep lorita.export.gguf.export lorita.export.merged.merge "
    "lorita.export.ollama.export lorita.export.push python_calamine"
)


@dataclass(frozen=True)
class Case:
    """What is run: the broken file, what was done to it, and the command."""

    number: int
    file: str
    done: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number}: {self.file}: {self.done}: lorita {' '.join(self.arguments)}"


@dataclass(frozen=True)
class Outcome:
    """How a case ended; ``problem`` is None where it passed."""

    case: Case
    code: int
    said: str
    seconds: float
    memory: int
    problem: str | None


class Attack:
    """Material in a folder of its own, and cases on copies of it."""

    def __init__(self, folder: Path) -> None:
        os.environ["HF_HOME"] = str(folder / "hub")
        os.environ["OLLAMA_MODELS"] = str(folder / "case/ollama")
        os.environ["HF_TOKEN"] = "x"
        _import_everything(folder)
        self.folder = folder
        self.material = folder / "material"
        code, said, _, _ = _forked(lambda: _make(self.material), folder / "log.txt")
        if code:
            raise RuntimeError(f"the material cannot be made: {said}")

    def run(self, seed: int, number: int) -> Outcome:
        """Make case ``number`` of this seed, run it and judge it."""
        rng = random.Random(f"{seed}:{number}")
        place = self.folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(self.folder / "hub/lorita", ignore_errors=True)
        material.copy(self.material, place)
        target = rng.choice(material.TARGETS)
        command = rng.choice(target.commands)
        done = mutations.break_file(place / target.file, rng)
        arguments = material.arguments(command, place)
        case = Case(number, target.file, done, arguments)
        code, said, seconds, memory = _forked(
            lambda: lorita.cli.run(arguments), self.folder / "log.txt"
        )
        return Outcome(case, code, said, seconds, memory, _problem(code, said, seconds, memory))


def _problem(code: int, said: str, seconds: float, memory: int) -> str | None:
    if code == -signal.SIGKILL:
        return "ended by the watchdog (time or memory)"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    for mark in ("Traceback (most recent", "bug in lorita", "panicked at"):
        if mark in said:
            return mark
    messages = len(re.findall(r"^(Error|Interrupted):", said, flags=re.MULTILINE))
    if messages != (code != 0):
        return f"{messages} messages with exit code {code}"
    if seconds > SECONDS:
        return f"{seconds:.0f} seconds"
    return f"{memory >> 20} MB" if memory > MEMORY else None


def _import_everything(folder: Path) -> None:
    import importlib

    for name in IMPORTED.split():
        importlib.import_module(name)
    sys.modules["xllamacpp"] = None  # type: ignore[assignment] # what it loads, lorita has written
    import datasets

    datasets.config.HF_DATASETS_CACHE = str(folder / "tables")
    tempfile.tempdir = str(folder / "tmp")
    (folder / "tmp").mkdir(parents=True, exist_ok=True)


def _make(folder: Path) -> int:
    def command(arguments: Sequence[str]) -> None:
        code = lorita.cli.run(arguments)
        if code:
            raise RuntimeError(f"{' '.join(arguments)}: {code}")

    material.make(folder, command)
    return 0


def _forked(work: object, log: Path) -> tuple[int, str, float, int]:
    """Exit code, output, processor seconds and additional memory of ``work`` in a fork."""
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        _child(work, log)
    status, before, most = 0, 0, 0
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        size, seconds = _usage(pid)
        before = before or size
        most = max(most, size - before)
        if most > 3 * MEMORY or seconds > 3 * SECONDS or time.monotonic() - start > WAIT:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    said = log.read_text(encoding="utf-8", errors="replace")
    seconds = usage.ru_utime + usage.ru_stime
    return os.waitstatus_to_exitcode(status), said, seconds, most


def _child(work: object, log: Path) -> None:
    code = 70
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = work()  # type: ignore[operator]
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _usage(pid: int) -> tuple[int, float]:
    """Resident bytes and processor seconds of a process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return 0, 0.0
    ticks = int(fields[11]) + int(fields[12])
    return pages * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK")


def run_cases(
    folder: Path, seed: int, numbers: Sequence[int], *, tell: bool = False
) -> list[Outcome]:
    """The outcomes of these cases; their files are in ``folder``."""
    attack = Attack(folder)
    outcomes = []
    for number in numbers:
        outcome = attack.run(seed, number)
        outcomes.append(outcome)
        if tell and (outcome.problem or len(numbers) == 1):
            print(f"{'FAILED' if outcome.problem else 'passed'} {outcome.case}", flush=True)
            print(
                f"  {outcome.problem or outcome.code}\n{outcome.said.strip()[-3000:]}", flush=True
            )
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of single cases")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lorita-malformed-") as place:
        numbers = given.only if given.only else range(given.cases)
        outcomes = run_cases(Path(place), given.seed, numbers, tell=True)
    failed = [outcome for outcome in outcomes if outcome.problem]
    codes = Counter(outcome.code for outcome in outcomes)
    print(
        f"{len(outcomes)} cases in {time.monotonic() - started:.0f} s: {len(failed)} failed; exit "
        f"codes {dict(sorted(codes.items()))}; at most {max(o.seconds for o in outcomes):.1f} s "
        f"and {max(o.memory for o in outcomes) >> 20} MB"
    )
    if failed:
        again = " ".join(str(outcome.case.number) for outcome in failed)
        print(f"Again: python -m tests.attack.malformed --seed {given.seed} --only {again}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
