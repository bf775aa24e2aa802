"""From settings to what the training loop needs, the cheapest and likeliest mistakes first.

Nothing is written here. Everything that can be wrong before the weights are loaded is collected and
raised as one error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lorita.data.examples import Example, Tokenized
from lorita.data.formats.stored_rows import select_rows
from lorita.data.packing import fill_windows, packing_note
from lorita.data.quality.duplicates import Duplicates, find_duplicates
from lorita.data.quality.problems import Problem, find_problems, refuse_pointless, short_form
from lorita.data.rows import Row, Rows
from lorita.data.splits import Split, unseen
from lorita.data.tokens.choose_template import choose_template
from lorita.data.tokens.invocation import Invocation, find_invocation, invocation_notes
from lorita.data.tokens.long_rows import chat_notes, cut_notes, token_note
from lorita.data.tokens.new_tokens import NewTokens, add_new_tokens, unused_note
from lorita.data.tokens.prompt_format import PromptFormat, shared_system, shared_tools
from lorita.data.tokens.tokenize import Treatment, tokenize_rows
from lorita.data.tokens.tokenizer_template import saved_sources
from lorita.errors import SettingsError, UserError
from lorita.inference.prompt_length import require_stretchable
from lorita.models.base import Base, load_config, load_tokenizer, require_loadable
from lorita.models.context import context_length
from lorita.models.empty_model import check_vocabulary
from lorita.runs.asked import asked_base, require_asked_upload
from lorita.runs.output_folder import check_folder, default_output_dir
from lorita.runs.read_data import (
    longest_row,
    read_all_rows,
    rendered_rows,
    split_data,
    treatment,
    unclear_tokens,
)
from lorita.runs.trackers import check_trackers
from lorita.runs.unused import unused_for_data, unused_for_run
from lorita.settings.schema import RunSettings
from lorita.storage.hub import check_can_push
from lorita.system.processes import check_launch, is_lead

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

T = TypeVar("T")
MOST_LOOKED_AT = 5000
"""Rows that training looks through for problems; ``lorita preview`` looks at all."""


@dataclass(frozen=True)
class PreparedData:
    """Tokenised rows for training and measuring, and the sentences that explain them.

    ``shown`` are the rows whose prompts are answered before and after training: held-out rows if
    there are any.
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
    """Everything known before the weights are loaded."""

    output_dir: Path
    base: Base
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    data: PreparedData
    new_tokens: NewTokens = field(default_factory=NewTokens)
    """Those that were added to the tokenizer; the model still needs rows for them."""
    invocation: Invocation | None = None
    """What an activated LoRA waits for."""

    @property
    def invocation_tokens(self) -> tuple[int, ...]:
        """Its tokens; none for a LoRA that acts on every token."""
        return () if self.invocation is None else self.invocation.tokens


def prepare(settings: RunSettings, *, writes: bool = True, weights: bool = True) -> Prepared:
    """Check folder, model and data; raise all their problems as one ``UserError``.

    Unless something ``writes`` a run there, the folder is not looked at. ``weights``: those of the
    model must be there.
    """
    check_launch()
    problems: list[UserError] = []
    output_dir = default_output_dir(settings)
    # The lead looks at the folder before it makes it; later it would look used.
    if writes and is_lead():
        _try(problems, lambda: check_folder(settings, output_dir))
    if settings.push_to_hub and _try(problems, lambda: _upload_asked(settings, output_dir)):
        _try(problems, lambda: check_can_push(settings.hub_model_id or output_dir.name))
    if settings.report_to and writes:
        _try(problems, lambda: check_trackers(settings))
    model = _try(problems, lambda: _find_model(settings, weights=weights))
    rows = _try(problems, lambda: read_all_rows(settings))
    if problems or model is None or rows is None:
        raise problems[0] if len(problems) == 1 else _joined(problems)
    base, config = model
    tokenizer = load_tokenizer(base)
    check_vocabulary(base, config, tokenizer)
    new = add_new_tokens(tokenizer, settings.add_tokens, settings.add_special_tokens)
    data = _tokenize(settings, config, tokenizer, *rows, new)
    if settings.evaluation_decides and not data.held_out:
        raise SettingsError(
            "load_best_model_at_end and early_stopping_patience need held-out rows, and there "
            "are none",
            hint="Give --eval-data FILE with rows that are not in --data, or an --eval-fraction "
            "above 0; or turn them off: --no-load-best-model-at-end --early-stopping-patience 0",
        )
    said = [
        *unused_for_data(settings, base, rows[0].kind),
        *unused_for_run(settings, len(data.held_out), on_gpu=has_gpu(settings)),
    ]
    invocation = None
    if settings.alora_invocation_tokens is not None:
        invocation = find_invocation(
            settings.alora_invocation_tokens, tokenizer, data.prompt_format, data.train
        )
        said += invocation_notes(invocation, data.train)
        data = replace(data, notes=[*data.notes, invocation.line()])
    data = replace(data, warnings=[*said, *data.warnings])
    return Prepared(output_dir, base, config, tokenizer, data, new, invocation)


def has_gpu(settings: RunSettings) -> bool:
    """Whether the run will be computed on a GPU."""
    import torch

    return torch.cuda.is_available() and not settings.use_cpu


def _upload_asked(settings: RunSettings, folder: Path) -> bool:
    require_asked_upload(settings, folder)
    return True


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


def _find_model(settings: RunSettings, *, weights: bool) -> tuple[Base, PretrainedConfig]:
    base = asked_base(settings)
    config = load_config(base)
    if weights:
        require_loadable(base)
    return base, config


def _tokenize(
    settings: RunSettings,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
    eval_rows: Rows | None,
    new: NewTokens,
) -> PreparedData:
    max_length = longest_row(settings, context := context_length(config))
    num_rows = len(rows.rows)
    seen = find_duplicates(chain(rows.rows, eval_rows.rows if eval_rows else ()))
    split = split_data(settings, num_rows, seen.groups[:num_rows])
    template, template_notes = choose_template(
        tokenizer, settings.chat_template, rows.kind, rows.rows
    )
    how = treatment(settings, max_length, template)
    first_rows = seen.first_rows(num_rows)
    problems = _problems(settings, rows, first_rows, tokenizer, how, new)

    def encode(source: Rows, numbers: list[int]) -> tuple[Sequence[Row], Tokenized]:
        chosen = select_rows(source.rows, numbers)
        return chosen, tokenize_rows(chosen, numbers, tokenizer, how, origin=source.origin)

    train_rows, train = encode(rows, split.train)
    chosen, omitted = _held_out(rows, eval_rows, split, seen.groups, settings.max_eval_samples)
    held_rows, held = encode(*chosen) if chosen is not None else ([], None)
    notes = [f"{len(rows.rows)} rows: {rows.understood}", split.how, *new.notes, *template_notes]
    notes += chat_notes(train.rows_divided, train.left_out, rows=len(train_rows))
    notes += cut_notes(train, rows=len(train_rows), max_length=max_length)
    notes.append(token_note(train.examples))
    windows, packed = _windows(train, max_length) if settings.packing else (None, [])
    notes += [*packed, *omitted]
    if context is not None and max_length > context:
        require_stretchable(config, max_length, context)
        notes.append(f"max_length {max_length} is beyond the model's context of {context} tokens")
    if template is not None:
        tokenizer.chat_template = saved_sources(template)  # saved with the run
    asked = PromptFormat(
        rows.kind,
        template,
        shared_system(train_rows) if template else None,
        how.control_tokens,
        shared_tools(train_rows),
        settings.repetition_penalty,
    )
    return PreparedData(
        train.examples,
        held.examples if held is not None else [],
        held_rows or train_rows,
        asked,
        max_length,
        notes,
        train.fingerprint,
        [*unused_note(new, train.examples), *short_form(problems)],
        windows,
    )


def _windows(train: Tokenized, max_length: int) -> tuple[list[list[int]], list[str]]:
    """Which rows share a window of ``max_length`` tokens, and what is said of it."""
    lengths = [len(example.input_ids) for example in train.examples]
    windows = fill_windows(lengths, max_length)
    return windows, [packing_note(windows, lengths, max_length)]


def _problems(
    settings: RunSettings,
    rows: Rows,
    seen: Duplicates,
    tokenizer: PreTrainedTokenizerBase,
    how: Treatment,
    new: NewTokens,
) -> list[Problem]:
    """What is wrong with the rows; ``DataError`` if it makes training pointless."""
    numbers, control = range(len(rows.rows)), how.encoder(tokenizer).control
    found = find_problems(rows.rows, numbers, seen, most=MOST_LOOKED_AT, control=control)
    rendered = rendered_rows(settings, rows.rows, numbers, tokenizer, how.template)
    unclear = unclear_tokens(settings, rows.rows, numbers, new)
    refuse_pointless([*found, *filter(None, (rendered, unclear))], str(rows.origin))
    return found


def _held_out(
    rows: Rows, eval_rows: Rows | None, split: Split, groups: Sequence[int], most: int
) -> tuple[tuple[Rows, list[int]] | None, list[str]]:
    """Where the held-out rows are and their numbers there (None: none), and a note.

    Rows of a held-out file that duplicate training rows (the same of ``groups``) are omitted.
    """
    if eval_rows is None:
        return ((rows, split.held_out) if split.held_out else None), []
    places = range(len(rows.rows), len(groups))
    fresh = [place - len(rows.rows) for place in unseen(split.train, places, groups)]
    duplicates = len(places) - len(fresh)
    note = f"{duplicates} of {len(places)} held-out rows duplicate training rows and were omitted"
    return (eval_rows, fresh[:most]), [note] if duplicates else []
