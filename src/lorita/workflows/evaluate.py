"""The proof for a run on disk, on its own rows or on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.engine.speedup import speedup, unspeed
from lorita.errors import AdapterError, UserError
from lorita.evaluation.measure import ANSWERS, ask, make_proof, make_proof_questions
from lorita.evaluation.prompts import prompts_of
from lorita.evaluation.score_batches import scoring_bytes
from lorita.inference.checked_base import load_checked_base
from lorita.inference.load import load
from lorita.inference.prompt_length import fits
from lorita.inference.resolve import Resolved, resolve_folder
from lorita.models.load_adapter import load_adapter
from lorita.runs.prepare import prepare
from lorita.settings.build import build_settings
from lorita.storage.run_folder import SETTINGS_FILE
from lorita.training.events import OnEvent, PhaseStarted, follow, unseen
from lorita.workflows.answering import check_engine, open_answers

if TYPE_CHECKING:
    from lorita.evaluation.proof import Proof
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings


@dataclass(frozen=True)
class Evaluation:
    """The proof, and notes about how it was measured."""

    proof: Proof
    notes: list[str]


def evaluate(
    run: str | Path,
    *,
    data: Sequence[str] = (),
    base: str | None = None,
    dtype: str = "auto",
    max_samples: int | None = None,
    engine: str = "transformers",
    trust_remote_code: bool = False,
    map_row: str | Callable[[dict[str, Any]], Any] | None = None,
    on_event: OnEvent = unseen,
) -> Evaluation:
    """What the adapter in ``run`` learned, forgot and memorised, measured from its files.

    ``data`` are rows to measure learning with, read like the run's own; by default its held-out
    rows. ``engine`` generates the free answers: ``transformers`` or ``llama.cpp``.
    ``trust_remote_code`` allows code that comes with the base, whatever the run's files say;
    ``map_row`` is the run's own, which a run from elsewhere may use only if it is given again.
    ``on_event`` is told what is being done.
    Raises ``UserError`` if the folder, its base or the rows cannot be read.
    """
    check_engine(engine)
    folder = Path(run).expanduser()
    resolved = resolve_folder(folder, base, trust_remote_code=trust_remote_code)
    settings = _settings(resolved, base, max_samples, map_row)
    notes: list[str] = []
    on_event(PhaseStarted("Reading the rows"))
    own = _own_rows(resolved, settings, notes, needed=not data)
    asked = prepare(_only_rows(settings, list(data)), writes=False) if data else own
    assert asked is not None
    form = asked.data.prompt_format
    writer = open_answers(resolved, engine=engine).answer if engine != "transformers" else None
    on_event(PhaseStarted(f"Loading {resolved.base.name}"))
    beside = scoring_bytes(asked.config, 4, tight=True)
    model, tokenizer = load_checked_base(resolved, dtype, beside=beside, fast=True)
    if tokenizer.get_vocab() != asked.tokenizer.get_vocab():
        raise AdapterError(f"{resolved.folder}: its tokenizer is not that of {resolved.base.name}")
    questions = make_proof_questions(
        asked.tokenizer,
        form,
        prompts_of(asked.data.shown, ANSWERS, fits(model, asked.tokenizer, form)),
        held_out=asked.data.train if data else asked.data.held_out,
        train=own.data.train if own is not None else [],
    )
    speedup(model)
    of_base = partial(writer, with_adapter=False) if writer else None
    before = follow(ask(model, questions, "the base", of_base), on_event)
    unspeed(model)
    tuned = load_adapter(model, resolved.adapter).eval()
    speedup(tuned)
    after = follow(ask(tuned, questions, "the tuned model", writer), on_event)
    return Evaluation(follow(make_proof(questions, before, after), on_event), notes)


def _settings(
    resolved: Resolved, base: str | None, max_samples: int | None, map_row: Any
) -> RunSettings:
    folder = resolved.adapter
    if not (folder / SETTINGS_FILE).is_file():
        raise UserError(
            f"{folder}: has no {SETTINGS_FILE}, which says how its rows are read",
            hint="lorita evaluate takes run folders made by lorita train.",
        )
    change: dict[str, Any] = {"model": base or resolved.base.name}
    change |= {"trust_remote_code": resolved.base.trust_remote_code}
    change |= {"output_dir": folder, "push_to_hub": False}
    if max_samples is not None:
        change["max_eval_samples"] = max_samples
    change |= {"resume": False, "resume_from_checkpoint": None}
    if map_row is not None:
        change["map_row"] = map_row
    return build_settings(folder / SETTINGS_FILE, **change)


def _own_rows(
    resolved: Resolved, settings: RunSettings, notes: list[str], *, needed: bool
) -> Prepared | None:
    """The run's rows, if they are unchanged since training."""
    try:
        prepared = prepare(settings, writes=False)
    except UserError as error:
        if needed:
            raise
        notes.append(f"The run's own data cannot be read: {error.problems[0]}")
        return None
    record = resolved.record
    if record is None or record.data.fingerprint == prepared.data.fingerprint:
        return prepared
    changed = (
        f"{', '.join(settings.data)}: these are no longer the rows that the run was trained on"
    )
    if needed:
        raise UserError(changed, hint="Give rows to measure with: --data FILE.")
    notes.append(changed)
    return None


def _only_rows(settings: RunSettings, data: list[str]) -> RunSettings:
    """Settings that read ``data`` and hold out nothing, since nothing is trained."""
    change = {"data": data, "eval_data": None, "eval_fraction": 0.0}
    change |= {"load_best_model_at_end": None, "early_stopping_patience": None}
    return settings.model_copy(update=change | {"max_train_samples": settings.max_eval_samples})


def run_lm_eval(
    run: str | Path,
    tasks: Sequence[str],
    *,
    base: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> dict[str, dict[str, Any]]:
    """Results of EleutherAI's lm-eval for the tuned model: task to its metrics.

    ``UserError`` where lm-eval is not installed.
    """
    try:
        from lm_eval import simple_evaluate  # type: ignore[import-not-found,unused-ignore]
        from lm_eval.models.huggingface import (  # type: ignore[import-not-found,unused-ignore]
            HFLM,
        )
    except ImportError:
        raise UserError(
            "--lm-eval: lm-eval is not installed", hint="Install it: pip install lm-eval"
        ) from None
    tuned = load(run, base=base, dtype=dtype, trust_remote_code=trust_remote_code)
    wrapped = HFLM(pretrained=tuned.model, tokenizer=tuned.tokenizer)
    try:
        found = simple_evaluate(model=wrapped, tasks=list(tasks))
    except (KeyError, ValueError, OSError) as error:  # no such task, or its data is not available
        said = str(error.args[0]) if error.args else type(error).__name__
        raise UserError(f"--lm-eval: {' '.join(said.split())}") from None
    results: dict[str, dict[str, Any]] = found["results"]
    return results
