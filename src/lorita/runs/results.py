"""What a finished run leaves: comparison, model card and record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorita.evaluation.checks import Check
from lorita.evaluation.comparison import Comparison
from lorita.runs.model_card import model_card
from lorita.runs.run_model import Session
from lorita.storage.files import write_atomic
from lorita.storage.run_folder import CARD_FILE
from lorita.storage.run_log import last_logged, last_loss
from lorita.storage.run_record import RunRecord, machine, versions


def write_results(
    folder: Path, session: Session, comparison: Comparison, checks: Sequence[Check]
) -> None:
    """Write the comparison, the model card and, last of all, the record of the run."""
    comparison.save(folder)
    base, data = session.prepared.base, session.prepared.data
    card = model_card(
        folder.name,
        session.settings,
        comparison,
        base_reference=base.reference,
        parameter_line=session.parameter_line,
        data_line=". ".join(data.notes) + ".",
        final_loss=last_loss(folder),
    )
    write_atomic(folder / CARD_FILE, card)
    held = comparison.held_out
    RunRecord(
        base={
            "name": str(Path(base.name).absolute()) if Path(base.name).exists() else base.name,
            "reference": base.reference,
            "revision": base.revision,
            "trust_remote_code": base.trust_remote_code,
            "dtype": str(session.dtype).removeprefix("torch."),
            "fingerprint": session.fingerprint,
        },
        prompt_format=data.prompt_format.record(),
        stop_tokens=_stop_tokens(session),
        data={
            "origin": session.settings.data,
            "fingerprint": data.fingerprint,
            "train_rows": len(data.train),
            "held_out_rows": len(data.held_out),
        },
        figures={
            "final_training_loss": last_loss(folder),
            "training_seconds": last_logged(folder, "TrainingEnded", "seconds"),
            "held_out_loss_base": held.before if held else None,
            "held_out_loss_tuned": held.after if held else None,
            "trainable_parameters": session.parameter_line,
        },
        checks=[vars(check) for check in checks],
        versions=versions(),
        machine=machine(),
        seed=session.settings.seed,
    ).save(folder)


def _stop_tokens(session: Session) -> list[str]:
    tokenizer = session.prepared.tokenizer
    stops = session.prepared.data.prompt_format.stops(tokenizer)
    return [str(token) for token in tokenizer.convert_ids_to_tokens(stops)]
