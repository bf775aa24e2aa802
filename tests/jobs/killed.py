"""A server's part that does jobs, in a process that a test can kill: python -m tests.jobs.killed.

It creates a job if it is given a file, begins an upload that never ends, and says so.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lorita.jobs.desk import Desk
from lorita.jobs.records import TRAINING_FILE, Request
from tests.serving.jobs import EPOCHS, QUICK


def open_desk(runs: Path, base: str) -> Desk:
    """The desk of a folder; the base and no proof."""
    return Desk(runs, {"model": base, "dtype": "float32", **QUICK}, ["base"])


def request(file: str) -> Request:
    """What all jobs of these tests are asked to do."""
    return Request("base", file, n_epochs=EPOCHS, batch_size=4)


def main() -> None:
    """The arguments: folder of runs, base, file of training data."""
    runs, base, data = sys.argv[1:]
    desk = open_desk(Path(runs), base)
    desk.start()
    file = desk.files.write(Path(data).read_bytes(), "chats.jsonl", TRAINING_FILE)
    job = desk.create(request(file.id))
    upload = desk.files.begin()
    upload.write(b"half of a file")
    upload.flush()
    print(job.id, file.id, flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
