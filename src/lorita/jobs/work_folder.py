"""The folder in which a job's process and the server tell each other what they have to."""

from __future__ import annotations

DATA_FOLDER = ".lorita-jobs"
"""In the folder of runs: the database, ``files``, and ``work`` with a folder for each job."""
SETTINGS = "settings.json"
"""The options of the run, written once."""
NOTES = "notes.jsonl"
"""What the run has to say: a line for each note, with ``text`` and ``is_warning``."""
LOCK = "lock"
"""Held by the process as long as it lives."""
OUTCOME = "outcome.json"
"""How the process ended: its ``status``, and ``kind``, ``message`` and ``hint`` of an
error."""
DONE, FAILED, STOPPED = "done", "failed", "stopped"
