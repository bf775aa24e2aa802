"""All attacks, one after another, in about a quarter of an hour on two cores (``make attack``).

python -m tests.attack --seed 7      # other numbers, other instants and other malformed files

Each part is a program of its own, which says how to repeat what it found. The exit code is that of
the worst.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time

PARTS = (
    ("malformed files", "tests.attack.malformed", True),
    ("hostile folders", "tests.attack.hostile", False),
    ("hostile caches", "tests.attack.caches", False),
    ("two writers", "tests.attack.writers", True),
    ("kills", "tests.attack.kills", True),
)
"""What is attacked, the program, and whether it takes a seed."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    worst, lines = 0, []
    for name, module, seeded in PARTS:
        print(f"== {name}", flush=True)
        began = time.perf_counter()
        words = [sys.executable, "-m", module]
        words += ["--seed", str(given.seed)] if seeded else []
        code = subprocess.run(words, check=False).returncode
        worst = max(worst, abs(code))
        seconds = time.perf_counter() - began
        lines.append(f"{name:16} {'held' if code == 0 else 'FAILED':7} {seconds:5.0f} s")
    print("\n".join(["", f"seed {given.seed}", *lines]))
    sys.exit(worst)


if __name__ == "__main__":
    main()
