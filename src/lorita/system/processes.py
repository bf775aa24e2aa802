"""Several processes on one job (``torchrun``, ``accelerate launch``, MPI): how many, and which
one reports.

Launchers tell it by environment variables, and a process must not go by half of them: a run that
takes itself for the second of two processes would write nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from lorita.errors import SettingsError

RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables of torch and of MPI launchers, in accelerate's order."""
_ALONE = (
    "These variables are set by a launcher such as torchrun. If none is meant to be at work: "
    "unset RANK WORLD_SIZE LOCAL_RANK"
)


def is_lead() -> bool:
    """Whether this process writes files and prints; always true if it is the only one."""
    return not in_group() or _number(RANKS) in (None, 0)


def in_group() -> bool:
    """Whether a launcher has made this process one of several."""
    return (_number(SIZES) or 1) > 1


def check_launch() -> None:
    """``SettingsError`` if the variables of a launcher contradict each other."""
    problems = [
        f"{name}={os.environ[name]}: not a number"
        for name in (*RANKS, *SIZES, "LOCAL_RANK")
        if name in os.environ and not os.environ[name].isdecimal()
    ]
    if problems:
        raise SettingsError(problems, hint=_ALONE)
    rank, size = _number(RANKS), _number(SIZES)
    if size is None and (rank or _number(("LOCAL_RANK",)) is not None):
        name = "RANK" if rank else "LOCAL_RANK"
        raise SettingsError(
            f"{name}={os.environ.get(name, rank)} is set, but not WORLD_SIZE: there is no group of "
            "processes to which this one could belong",
            hint=_ALONE,
        )
    if size is not None and size > 1 and rank is None:
        raise SettingsError(
            f"WORLD_SIZE={size} is set, but not RANK: it cannot be told which of the {size} "
            "processes this is",
            hint=_ALONE,
        )
    if size is not None and rank is not None and rank >= size:
        raise SettingsError(
            f"RANK={rank} is not below WORLD_SIZE={size}: ranks are counted from 0", hint=_ALONE
        )
    local = _number(("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"))
    if size is not None and size > 1 and local == size:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")  # MPI launchers name no meeting point


def launch_warning(processes: int) -> str | None:
    """What a launcher seems to have meant, if it is not a group of ``processes``; None if it is."""
    wanted = _number(SIZES) or 1
    tasks = _number(("SLURM_STEP_NUM_TASKS",)) or 1
    if wanted > processes or tasks > max(1, processes):
        return (
            f"the launcher has started {max(wanted, tasks)} processes, but this one trains alone "
            "and knows nothing of the others: use torchrun, which joins them"
        )
    if processes == 1 and "ACCELERATE_MIXED_PRECISION" in os.environ and _wanted_by_accelerate():
        return (
            "accelerate launch was asked for several processes, but it has started only one: on "
            "CPUs use torchrun --nproc-per-node N -m lorita ..."
        )
    return None


def _wanted_by_accelerate() -> bool:
    """Its launcher of one process names a meeting point only if it was asked for more."""
    return "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ


def _number(names: Sequence[str]) -> int | None:
    """The first of these variables that is a number, as accelerate reads them."""
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdecimal()), None)
