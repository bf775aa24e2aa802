"""Two commands that write to the same place at the same time.

python -m tests.attack.writers --rounds 3

One of them wins. The other is refused with one message (exit code 2), or it comes later and
replaces the whole. What stands at the place in the end is what one of them makes when it is alone,
never a mixture.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from tests.attack.kills import TRAIN, Killer, attacked, command_line, content


def pairs(work: Path) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Pairs of commands whose results differ; OUT stands for the place."""
    data = ("train", "--model", str(work / "model"), "--data", str(work / "data.csv"))
    base = (*data, *TRAIN.split(), "--output-dir", "OUT")
    slow, fast = (*base, "--seed", "1"), (*base, "--seed", "2")
    over = ("--overwrite",)
    run, other = str(work / "run"), str(work / "other")
    sweep = ("sweep", *base[1:], "--eval-fraction", "0.2")
    return {
        "train": (slow, fast),
        "train --overwrite": ((*slow, *over), (*fast, *over)),
        "train --resume": ((*slow, "--resume"), (*fast, "--resume")),
        "sweep": ((*sweep, "--r", "2,4"), (*sweep, "--r", "4,8")),
        "merge": (("merge", run, "OUT"), ("merge", other, "OUT")),
        "merge --overwrite": (("merge", run, "OUT", *over), ("merge", other, "OUT", *over)),
        "export gguf": (("export", "gguf", run, "OUT"), ("export", "gguf", other, "OUT")),
    }


def fight(killer: Killer, name: str, rounds: int) -> None:
    """One pair, ``rounds`` times with random distances between their starts."""
    from tests.attack.forks import wait

    both = pairs(killer.work)[name]
    alone = []
    for words in both:
        killer.forks.finish([str(killer.work / "unopposed") if w == "OUT" else w for w in words])
        killer.forks.import_all()
        alone.append(content(killer.work / "unopposed"))
        _remove(killer.work / "unopposed")
    for number in range(rounds):
        place = killer.work / f"fought{number}"
        started = []
        for words in both:
            started.append(killer.forks.start([str(place) if w == "OUT" else w for w in words]))
            time.sleep(killer.dice.choice([0, 0.05, 0.3]))
        codes = [wait(pid) for pid in started]
        killer.tally[f"{name}: {sorted(codes)}"] += 1
        if 0 not in codes or not set(codes) <= {0, 2}:
            _fail(killer, f"{name}: exit codes {codes}")
        if (found := content(place)) not in alone:
            _fail(killer, f"{name}: a mixture: {found}\nof {alone}")
        _remove(place)


def _remove(place: Path) -> None:
    shutil.rmtree(place) if place.is_dir() else place.unlink()


def _fail(killer: Killer, what: str) -> None:
    tail = killer.forks.log.read_text(errors="replace")[-2000:]
    sys.exit(f"{what}\nin {killer.work}; the last they said:\n{tail}")


def fight_all(rounds: int, seed: int, only: str = "") -> Counter[str]:
    """Every pair; exits with a message at the first fault."""
    with attacked(seed) as killer:
        for name in pairs(killer.work):
            if name.startswith(only):
                fight(killer, name, rounds)
                print(f"{name}: {rounds} rounds", flush=True)
        return killer.tally


if __name__ == "__main__":
    command_line(fight_all, rounds=3)
