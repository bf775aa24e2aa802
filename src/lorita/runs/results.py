"""The files of a finished run: comparison, model card and record."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorita.data.examples import token_lengths
from lorita.data.lengths import histogram
from lorita.evaluation.comparison import (
    JSON_FILE,
    MARKDOWN_FILE,
    Answer,
    Comparison,
    held_out_figures,
)
from lorita.evaluation.measure import make_proof
from lorita.runs.model_card import model_card
from lorita.storage.files import write_atomic
from lorita.storage.manifest import claim
from lorita.storage.run_folder import CARD_FILE, RECORD_FILE
from lorita.storage.run_log import last_logged, last_loss
from lorita.storage.run_record import (
    BaseRecord,
    Check,
    DataRecord,
    FiguresRecord,
    PromptRecord,
    RowLengths,
    RunRecord,
    machine,
    versions,
)
from lorita.system.memory import peak_memory
from lorita.training.checkpoint import remove_unasked

if TYPE_CHECKING:
    from lorita.evaluation.measure import Measured, Questions
    from lorita.runs.loaded_base import LoadedBase
    from lorita.runs.prepare import Prepared
    from lorita.settings.schema import RunSettings
    from lorita.training.events import Event


def compare_measured(
    model: str, questions: Questions, before: Measured, after: Measured
) -> Generator[Event, None, Comparison]:
    """Base and tuned model side by side, with the proof if it was measured.

    ``model`` is the base's name as shown to people.
    """
    pairs = zip(questions.prompts, before.answers, after.answers, strict=True)
    proof = None
    if questions.proof is not None and before.proof is not None and after.proof is not None:
        proof = yield from make_proof(questions.proof, before.proof, after.proof)
    answers = tuple(Answer(*triple) for triple in pairs)
    return Comparison(model, answers, held_out_figures(before.held_out, after.held_out), proof)


def write_results(
    settings: RunSettings,
    prepared: Prepared,
    base: LoadedBase,
    comparison: Comparison,
    checks: Sequence[Check],
    *,
    parameter_line: str,
    seconds: float,
) -> None:
    """Write the comparison, the model card and, last of all, the record of the run.

    ``seconds`` is what the run has taken.
    """
    folder = prepared.output_dir
    claim(folder, [JSON_FILE, MARKDOWN_FILE, CARD_FILE, RECORD_FILE])
    comparison.save(folder)
    card = model_card(
        folder,
        settings,
        comparison,
        base=prepared.base,
        parameter_line=parameter_line,
        data_line=". ".join(prepared.data.notes) + ".",
        final_loss=last_loss(folder),
    )
    write_atomic(folder / CARD_FILE, card)
    held = comparison.held_out
    RunRecord(
        base=_base_record(prepared, base),
        prompt_format=cast(PromptRecord, prepared.data.prompt_format.record()),
        stop_tokens=_stop_tokens(prepared),
        data=DataRecord(
            origin=settings.data,
            fingerprint=prepared.data.fingerprint,
            train_rows=len(prepared.data.train),
            held_out_rows=len(prepared.data.held_out),
            lengths=[
                RowLengths(each.start, each.end, each.rows)
                for each in histogram(token_lengths(prepared.data.train))
            ],
        ),
        figures=FiguresRecord(
            final_training_loss=last_loss(folder),
            training_seconds=last_logged(folder, "TrainingEnded", "seconds"),
            held_out_loss_base=held.before if held else None,
            held_out_loss_tuned=held.after if held else None,
            trainable_parameters=parameter_line,
            steps=_step(last_logged(folder, "TrainingEnded", "steps")),
            kept_step=_step(last_logged(folder, "BestKept", "step")),
            run_seconds=seconds,
            peak_memory=peak_memory() or None,
        ),
        checks=list(checks),
        versions=versions(),
        machine=machine(),
        seed=settings.seed,
    ).save(folder)
    remove_unasked(folder)  # the training cannot be lost any more


def _step(logged: float) -> int | None:
    return int(logged) if math.isfinite(logged) else None


def _base_record(prepared: Prepared, loaded: LoadedBase) -> BaseRecord:
    base = prepared.base
    return BaseRecord(
        name=str(Path(base.name).absolute()) if Path(base.name).exists() else base.name,
        reference=base.reference,
        revision=base.revision,
        trust_remote_code=base.trust_remote_code,
        dtype=str(loaded.dtype).removeprefix("torch."),
        fingerprint=loaded.fingerprint,
        precision=loaded.precision,
    )


def _stop_tokens(prepared: Prepared) -> list[str]:
    tokenizer = prepared.tokenizer
    stops = prepared.data.prompt_format.stops(tokenizer)
    return [str(token) for token in tokenizer.convert_ids_to_tokens(stops)]
