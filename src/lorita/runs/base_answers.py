"""What a base answers to a run's questions, asked once and kept for the next run.

The base is the same in every run on the same data, and so are its losses and its answers. They are
kept in lorita's cache, under a name made of everything that they depend on.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.sources.table_cache import code_hash
from lorita.engine.causal_lm import head_of
from lorita.errors import UserError
from lorita.evaluation.measure import Measured, ProofAnswers
from lorita.evaluation.row_losses import HeldOutLoss
from lorita.evaluation.scores import Scores, States
from lorita.models.fingerprint import tokenizer_digest
from lorita.runs.identity import conditions
from lorita.storage.cache import find_kept, kept_folder
from lorita.storage.files import write_atomic
from lorita.storage.reading import read_as

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from lorita.data.examples import Example
    from lorita.evaluation.measure import Questions
    from lorita.runs.loaded_base import LoadedBase
    from lorita.settings.schema import RunSettings
    from lorita.training.events import Event

KIND = "base-answers"
VALUES, TENSORS = "answers.json", "answers.safetensors"


@dataclass(frozen=True)
class _Kept:
    """The part of ``Measured`` that is no tensor."""

    answers: list[str]
    held_out: HeldOutLoss | None
    proof_answers: list[list[int]] | None
    sample_counts: tuple[int, ...] | None
    general_counts: tuple[int, ...] | None


def base_answers(
    base: LoadedBase,
    questions: Questions,
    settings: RunSettings,
    ask: Callable[[], Generator[Event, None, Measured]],
) -> Generator[Event, None, Measured]:
    """The base's answers from the cache, or from ``ask`` if it was never asked the same before."""
    mark = _mark(base, questions, settings)
    folder = find_kept(KIND, mark)
    if folder is not None:
        with suppress(OSError, ValueError, KeyError, UserError):  # it is cleared meanwhile
            return _read(folder, base)
    measured = yield from ask()
    with suppress(OSError):  # a full disk does not spoil a finished run
        kept_folder(KIND, mark, partial(_write, measured))
    return measured


def is_answered(base: LoadedBase, questions: Questions, settings: RunSettings) -> bool:
    """Whether the base's answers are in the cache."""
    return find_kept(KIND, _mark(base, questions, settings)) is not None


def _mark(base: LoadedBase, questions: Questions, settings: RunSettings) -> str:
    """All that the answers depend on."""
    asked = {
        "base": base.fingerprint["digest"],
        "questions": _digest(questions),
        "code": _own_code(),
        "fast": settings.speedup,
        "conditions": conditions(settings, base),
    }
    return json.dumps(asked, sort_keys=True)


def _digest(questions: Questions) -> str:
    proof = questions.proof
    rows = [questions.held_out, *([proof.sample, proof.general] if proof is not None else [])]
    values = [
        tokenizer_digest(questions.tokenizer),
        questions.prompt_format.record(),
        list(questions.prompts),
        asdict(questions.options),
        [_ids(some) for some in rows],
        list(proof.prompts) if proof is not None else None,
        list(questions.invocation),
    ]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _ids(rows: Sequence[Example]) -> list[list[list[int]]]:
    return [[list(row.input_ids), list(row.labels)] for row in rows]


@cache
def _own_code() -> str:
    """A hash of the code that asks: other code may ask otherwise."""
    package = Path(__file__).parents[1]
    return " ".join(code_hash(package / name) for name in ("evaluation", "inference", "engine"))


def _write(measured: Measured, folder: Path) -> None:
    import torch
    from safetensors.torch import save

    proof = measured.proof
    kept = _Kept(
        measured.answers,
        measured.held_out,
        proof.answers if proof else None,
        proof.sample.counts if proof and proof.sample else None,
        proof.general.counts if proof else None,
    )
    tensors = {f"logits.{n}": logits for n, logits in enumerate(measured.logits)}
    if proof is not None:
        tensors |= {"hidden": proof.general.hidden_ND, "targets": proof.general.targets_N}
        if proof.sample is not None:
            tensors |= {"losses": proof.sample.losses_N, "hits": proof.sample.hits_N}
    write_atomic(folder / VALUES, json.dumps(asdict(kept)))
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with torch.inference_mode():
        (folder / TENSORS).write_bytes(save(plain))


def _read(folder: Path, base: LoadedBase) -> Measured:
    from safetensors.torch import load

    kept = read_as(folder / VALUES, _Kept, UserError)
    tensors = load((folder / TENSORS).read_bytes())
    device = base.accelerator.device
    count = sum(name.startswith("logits.") for name in tensors)
    logits = [tensors[f"logits.{n}"].to(device) for n in range(count)]
    measured = Measured(kept.answers, logits, kept.held_out, None)
    if kept.general_counts is None or kept.proof_answers is None:
        return measured
    hidden, targets = tensors["hidden"].to(device), tensors["targets"].to(device)
    sample = None
    if kept.sample_counts is not None:
        sample = Scores(tensors["losses"], tensors["hits"], kept.sample_counts)
    general = States(hidden, targets, kept.general_counts, head_of(base.model).copy())
    return replace(measured, proof=ProofAnswers(kept.held_out, sample, general, kept.proof_answers))
