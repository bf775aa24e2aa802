"""From settings to what the training loop needs, cheapest and likeliest mistakes first.

Nothing is written here. Everything that can be wrong before the weights are loaded is gathered
and raised as one error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lorita.base import Base, context_length, find_base, load_config, load_tokenizer
from lorita.data.duplicates import find_duplicates
from lorita.data.examples import Example, Tokenized
from lorita.data.finding import data_name
from lorita.data.formats import Wanted
from lorita.data.given import find_function, map_rows, rows_source
from lorita.data.overflow import cut_notes, token_note
from lorita.data.packing import fill_windows, packing_note
from lorita.data.problems import find_problems, refuse_pointless, short_form
from lorita.data.prompting import PromptFormat, shared_system
from lorita.data.readers import read_rows
from lorita.data.rows import Row, Rows, fingerprint
from lorita.data.sources import Source, load_source
from lorita.data.splits import Split, split_rows, unseen
from lorita.data.stored_rows import select_rows
from lorita.data.template import ChatTemplate
from lorita.data.templates import choose_template
from lorita.data.tokens import Treatment, tokenize_rows
from lorita.errors import DataError, SettingsError, UserError
from lorita.hub import check_can_push
from lorita.processes import is_lead
from lorita.rundir import SETTINGS_FILE, check_output_dir, check_resumable
from lorita.settings import RunSettings
from lorita.settings_io import ROWS_NAME

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

T = TypeVar("T")
LONGEST_DEFAULT = 2048
"""Rows are cut here when the user says nothing and the model could take more."""

MOST_LOOKED_AT = 5000
"""Rows that training looks through for problems; ``lorita preview`` looks at all."""


@dataclass(frozen=True)
class PreparedData:
    """Rows ready to train on and to measure with, and the sentences that explain them.

    ``shown`` are the rows whose prompts are asked before and after: held out, where any are.
    """

    train: Sequence[Example]
    held_out: Sequence[Example]
    shown: Sequence[Row]
    prompt_format: PromptFormat
    max_length: int
    notes: list[str]
    fingerprint: str
    warnings: list[str]
    windows: list[list[int]] | None = None


@dataclass(frozen=True)
class Prepared:
    """All that is known before the weights are loaded."""

    output_dir: Path
    base: Base
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    data: PreparedData


def default_output_dir(settings: RunSettings) -> Path:
    """``output_dir``, or ``runs/`` and the name of the data."""
    if settings.output_dir is not None:
        return settings.output_dir.expanduser()
    return Path("runs") / data_name(settings.data[0])


def resume_source(settings: RunSettings) -> str | None:
    """``last`` or the path of the checkpoint to continue from; None for a new run."""
    return settings.resume_from_checkpoint or ("last" if settings.resume else None)


def continues(settings: RunSettings, folder: Path) -> bool:
    """Whether there is a run in ``folder`` that goes on; one that was wanted may not have begun."""
    return resume_source(settings) is not None and (folder / SETTINGS_FILE).is_file()


_NOT_IDENTITY = {
    "model", "revision", "trust_remote_code", "data", "data_name", "data_split", "data_revision",
    "file_type", "text_unit", "streaming", "eval_data", "map_row", "max_eval_samples",
    "logging_steps", "eval_steps", "save_steps",
    "save_total_limit", "resume", "resume_from_checkpoint", "compare_prompt", "max_new_tokens",
    "repetition_penalty", "proof", "output_dir", "overwrite", "push_to_hub", "hub_model_id",
    "micro_batch_tokens", "max_skipped_steps", "probe",
}  # fmt: skip


def identity(settings: RunSettings, prepared: Prepared) -> dict[str, object]:
    """What a run that continues another must share with it: model, rows, and the settings that
    change the result. Where files lie and what is reported may change."""
    values = settings.model_dump(mode="json", exclude=_NOT_IDENTITY)
    if evaluation_decides(settings):
        values["eval_steps"] = settings.eval_steps
        ids = [example.input_ids for example in prepared.data.held_out]
        values["held-out rows"] = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    return {
        "base": prepared.base.reference,
        "revision": prepared.base.revision,
        "training rows": prepared.data.fingerprint,
        "prompt format": prepared.data.prompt_format.record(),
        **values,
    }


def evaluation_decides(settings: RunSettings) -> bool:
    """Whether held-out losses have a part in what the adapter becomes."""
    return settings.load_best_model_at_end or settings.early_stopping_patience is not None


def prepare(settings: RunSettings) -> Prepared:
    """Check the door, the model and the data; raise all their problems as one ``UserError``."""
    problems: list[UserError] = []
    output_dir = default_output_dir(settings)
    if not is_lead():
        pass  # the lead looks at the folder before it makes it; later it would look used
    elif continues(settings, output_dir):
        _try(problems, lambda: check_resumable(output_dir))
    else:
        _try(problems, lambda: check_output_dir(output_dir, overwrite=settings.overwrite))
    if settings.push_to_hub:
        _try(problems, lambda: check_can_push(settings.hub_model_id or output_dir.name))
    model = _try(problems, lambda: _find_model(settings))
    rows = _try(problems, lambda: _read_rows(settings))
    if problems or model is None or rows is None:
        raise problems[0] if len(problems) == 1 else _joined(problems)
    base, config = model
    tokenizer = load_tokenizer(base)
    data = _tokenize(settings, config, tokenizer, *rows)
    if evaluation_decides(settings) and not data.held_out:
        raise SettingsError(
            "load_best_model_at_end and early_stopping_patience need held-out rows, and there "
            "are none",
            hint="Give --eval-data FILE or an --eval-fraction above 0.",
        )
    return Prepared(output_dir, base, config, tokenizer, data)


def _try(problems: list[UserError], step: Callable[[], T]) -> T | None:
    try:
        return step()
    except UserError as error:
        problems.append(error)
        return None


def _joined(problems: list[UserError]) -> UserError:
    lines = [line for problem in problems for line in problem.problems]
    hints = list(dict.fromkeys(problem.hint for problem in problems if problem.hint))
    return UserError(lines, hint="\n".join(hints) or None)


def _find_model(settings: RunSettings) -> tuple[Base, PretrainedConfig]:
    base = find_base(
        settings.model,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )
    return base, load_config(base)


def find_source(settings: RunSettings) -> Source:
    """The data that the settings name, or the rows that Python code gave."""
    return _mapped(settings, _find_source(settings))


def _mapped(settings: RunSettings, source: Source) -> Source:
    if settings.map_row is None:
        return source
    function = settings.given("map_row") or find_function(settings.map_row)
    return map_rows(source, function, settings.map_row.rpartition(":")[2])


def _find_source(settings: RunSettings) -> Source:
    if settings.given("data") is not None:
        return rows_source(settings.given("data"), ROWS_NAME)
    if settings.data == [ROWS_NAME] and not Path(ROWS_NAME).exists():
        raise DataError(
            "the rows of this run were given in Python",
            hint="Give them again: lorita.train(config=..., data=rows).",
        )
    return load_source(
        settings.data,
        name=settings.data_name,
        split=settings.data_split,
        revision=settings.data_revision,
        text_unit=settings.text_unit,
        file_type=settings.file_type,
        streaming=_rows_to_stream(settings),
    )


def held_out_file(settings: RunSettings) -> Rows | None:
    """The rows of ``eval_data``; None where there is none."""
    if settings.eval_data is None:
        return None
    rows = settings.given("eval_data")
    source = (
        load_source(settings.eval_data, text_unit=settings.text_unit, file_type=settings.file_type)
        if rows is None
        else rows_source(rows, ROWS_NAME)
    )
    return read_rows(_mapped(settings, source), wanted_reading(settings))


def wanted_reading(settings: RunSettings) -> Wanted:
    """What the settings say about the columns."""
    return Wanted(
        format=settings.format,
        text_field=settings.text_field,
        text_template=settings.text_template,
        prompt_field=settings.prompt_field,
        completion_field=settings.completion_field,
    )


def longest_row(settings: RunSettings, config: PretrainedConfig) -> int:
    """``max_length``, or what the model takes, at most ``LONGEST_DEFAULT``."""
    context = context_length(config)
    return settings.max_length or min(LONGEST_DEFAULT, context or LONGEST_DEFAULT)


def treatment(settings: RunSettings, max_length: int, template: ChatTemplate | None) -> Treatment:
    """How the settings want rows to become tokens."""
    overflow = settings.overflow or ("split" if settings.packing else "truncate")
    return Treatment(max_length, template, settings.train_on, overflow)


def split_data(settings: RunSettings, num_rows: int, groups: Sequence[int]) -> Split:
    """Which rows are trained on and which are held out; ``groups`` are kept together."""
    return split_rows(
        num_rows,
        max_train_samples=settings.max_train_samples,
        eval_fraction=settings.eval_fraction,
        max_eval_samples=settings.max_eval_samples,
        has_eval_data=settings.eval_data is not None,
        seed=settings.seed,
        groups=groups,
    )


def _read_rows(settings: RunSettings) -> tuple[Rows, Rows | None]:
    """The rows of the data, and of ``eval_data`` where it is given."""
    rows = read_rows(find_source(settings), wanted_reading(settings))
    held = held_out_file(settings)
    if held is None:
        return rows, None
    if held.kind != rows.kind:
        raise DataError(
            f"{held.origin}: held-out rows are read as {held.understood}, "
            f"those that are trained on as {rows.understood}",
            hint="Give both the same columns.",
        )
    return rows, held


def _rows_to_stream(settings: RunSettings) -> int | None:
    """The rows that are trained on or held out: the same ones as without streaming."""
    if not settings.streaming or settings.max_train_samples is None:
        return None
    return settings.max_train_samples + settings.max_eval_samples


def _tokenize(
    settings: RunSettings,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
    eval_rows: Rows | None,
) -> PreparedData:
    context, max_length = context_length(config), longest_row(settings, config)
    num_rows = len(rows.rows)
    seen = find_duplicates(chain(rows.rows, eval_rows.rows if eval_rows else ()))
    split = split_data(settings, num_rows, seen.groups[:num_rows])
    problems = find_problems(
        rows.rows, range(num_rows), seen.first_rows(num_rows), most=MOST_LOOKED_AT
    )
    refuse_pointless(problems, str(rows.origin))
    template, template_notes = choose_template(tokenizer, settings.chat_template, rows.kind)
    how = treatment(settings, max_length, template)

    def encode(source: Rows, numbers: list[int]) -> tuple[Sequence[Row], Tokenized]:
        chosen = select_rows(source.rows, numbers)
        return chosen, tokenize_rows(chosen, numbers, tokenizer, how, origin=source.origin)

    train_rows, train = encode(rows, split.train)
    held_rows: Sequence[Row] = []
    held: Sequence[Example] = []
    if eval_rows is not None:
        places = range(num_rows, len(seen.groups))
        fresh = [place - num_rows for place in unseen(split.train, places, seen.groups)]
        held_rows, tokenized = encode(eval_rows, fresh[: settings.max_eval_samples])
        held = tokenized.examples
    elif split.held_out:
        held_rows, tokenized = encode(rows, split.held_out)
        held = tokenized.examples
    notes = [f"{len(rows.rows)} rows: {rows.understood}", split.how, *template_notes]
    notes += cut_notes(train, rows=len(train_rows), max_length=max_length)
    notes.append(token_note(train.examples))
    windows = None
    if settings.packing:
        lengths = [len(example.input_ids) for example in train.examples]
        windows = fill_windows(lengths, max_length)
        notes.append(packing_note(windows, lengths, max_length))
    if eval_rows is not None and len(fresh) < len(places):
        notes.append(
            f"{len(places) - len(fresh)} of {len(places)} held-out rows duplicate rows that are "
            "trained on and were left out"
        )
    if context is not None and max_length > context:
        _require_stretchable(config, max_length, context)
        notes.append(f"max_length {max_length} is beyond the model's context of {context} tokens")
    if template is not None:
        tokenizer.chat_template = template.source  # saved with the run
    asked = PromptFormat(rows.kind, template, shared_system(train_rows) if template else None)
    return PreparedData(
        train.examples,
        held,
        held_rows or train_rows,
        asked,
        max_length,
        notes,
        fingerprint(train_rows),
        short_form(problems),
        windows,
    )


def _require_stretchable(config: PretrainedConfig, max_length: int, context: int) -> None:
    """Models with a table of positions cannot go beyond it; rotary and linear ones can, badly."""
    if config.model_type in ("gpt2", "gpt_bigcode", "gpt_neo", "opt", "xglm"):
        raise SettingsError(
            f"max_length = {max_length}: {config.model_type} has positions for {context} tokens",
            hint=f"Set --max-length {context} or less.",
        )
