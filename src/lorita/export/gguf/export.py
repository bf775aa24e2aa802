"""A run as a GGUF file: found, written under a temporary name, asked by llama.cpp, put in place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import CheckFailed, SettingsError
from lorita.export.gguf import file as gguf
from lorita.export.gguf.number_formats import check_format
from lorita.export.verify import TOKENS, Reference, ask_reference, prompts_of_run
from lorita.inference import llamacpp
from lorita.inference.load import open_model
from lorita.inference.resolve import resolve_adapter
from lorita.inference.tuned_model import TunedModel
from lorita.models.base import own_dtype
from lorita.models.gguf_files import float_type
from lorita.models.gguf_layout import find_layout
from lorita.storage.files import check_target, replacing
from lorita.storage.run_record import read_record

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMITS = {"f32": 0.01, "f16": 0.1, "bf16": 0.5}
"""Largest difference of the ten likeliest first tokens' log-probabilities; others are reported."""


@dataclass(frozen=True)
class Exported:
    """What an export made, and what llama.cpp says of it (nothing where it was not asked)."""

    path: Path
    size: int
    notes: list[str]
    checked: list[str]


@dataclass(frozen=True)
class LlamaAgreement:
    """How llama.cpp's answers compare: log-probabilities, and equal tokens for each prompt."""

    largest_difference: float
    equal: list[int]
    tokens: list[int]

    @property
    def identical(self) -> int:
        """Prompts whose answers are the same throughout."""
        return sum(a == b for a, b in zip(self.equal, self.tokens, strict=True))

    def lines(self) -> list[str]:
        each = ", ".join(f"{a}/{b}" for a, b in zip(self.equal, self.tokens, strict=True))
        return [
            f"llama.cpp: {self.identical} of {len(self.equal)} answers identical over {TOKENS} "
            f"tokens (equal from the start: {each})",
            f"llama.cpp: largest difference of the likeliest tokens' log-probabilities "
            f"{self.largest_difference:.1e}",
        ]


def export_gguf(
    run: str | Path,
    out: str | Path,
    *,
    merged: bool = False,
    quantize: str | None = None,
    base: str | None = None,
    allow_loss: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write the adapter of ``run``, or with ``merged`` the whole model, as a GGUF file.

    ``quantize`` (f16 by default) is for merged models; an adapter is float32. Where xllamacpp is
    installed, llama.cpp must answer as base and adapter do (``LIMITS``), or ``CheckFailed``.
    """
    target = Path(out).expanduser()
    if quantize is not None and not merged:
        raise SettingsError("quantize is for --merged: an adapter is small and kept in float32")
    wanted = check_format(quantize or "f16")
    check_target(target, overwrite=overwrite)
    resolved = resolve_adapter(run, base)
    folder = resolved.adapter
    tuned = open_model(resolved, _dtype(own_dtype(resolved.base), merged, wanted))
    find_layout(tuned.model.get_base_model().config, resolved.base.name)
    with replacing(target) as part:
        notes = write_run(tuned, folder, part, merged=merged, quantize=wanted, name=target.stem)
        size = part.stat().st_size
        checked = _check(tuned, folder, part, merged=merged, quantize=wanted, loss=allow_loss)
    return Exported(target, size, notes, checked)


def _dtype(own: str, merged: bool, quantize: str) -> str:
    """float32 where the file is, else the base's own dtype."""
    return "float32" if not merged or quantize == "f32" else own


def write_run(
    tuned: TunedModel, folder: Path | None, path: Path, *, merged: bool, quantize: str, name: str
) -> list[str]:
    """Write the adapter, or the whole model with the stop tokens of the run in ``folder``.

    Returns what there is to say; llama.cpp is not asked.
    """
    if not merged:
        return gguf.write_adapter(tuned.model, path, base_name=tuned.base.name)
    record = read_record(folder) if folder is not None else None
    return gguf.write_merged(
        tuned.model,
        tuned.tokenizer,
        path,
        quantize=quantize,
        base_name=tuned.base.name,
        base_file=tuned.base.gguf_path,
        name=name,
        stop_tokens=record.stop_tokens if record else (),
    )


def _check(
    tuned: TunedModel, folder: Path, part: Path, *, merged: bool, quantize: str, loss: bool
) -> list[str]:
    if not llamacpp.is_installed():
        return ['Not checked: llama.cpp is not installed (pip install "lorita[llamacpp]")']
    model, adapter = (part, None) if merged else (tuned.base.gguf_path, part)
    if model is None:
        return ["Not checked by llama.cpp: the base is no GGUF file"]
    references = ask_reference(tuned, prompts_of_run(folder))
    found = ask_llamacpp(model, references, adapter=adapter)
    limit = LIMITS.get(quantize if merged else _format_of(model))
    problems = []
    if limit is not None and not found.largest_difference <= limit:
        problems = found.lines()
    if problems and not loss:
        raise CheckFailed(
            [f"the file is not base and adapter (limit {limit:g})", *problems],
            hint="Nothing was written. --allow-loss writes it nevertheless.",
        )
    return found.lines()


def _format_of(path: Path) -> str:
    """Which of ``LIMITS`` fits an adapter on a file: llama.cpp computes as roughly as that is."""
    names = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
    return names.get(float_type(path) or "", "quantised")


def ask_llamacpp(
    model: Path, references: Sequence[Reference], *, adapter: Path | None = None
) -> LlamaAgreement:
    """Put the references' prompts to a GGUF file, through llama.cpp."""
    import torch

    longest = max(len(reference.ids) for reference in references)
    server = llamacpp.LlamaCpp(model, adapter=adapter, context=max(256, longest + TOKENS + 8))
    largest = 0.0
    equal, tokens = [], []
    for reference in references:
        said, _ = server.complete(reference.ids, tokens=max(1, len(reference.answer)))
        same = 0
        for ours, theirs in zip(reference.answer, said, strict=False):
            if ours != theirs:
                break
            same += 1
        equal.append(same)
        tokens.append(len(reference.answer))
        if reference.logits_NV is not None:
            likely_V = torch.log_softmax(reference.logits_NV[0], -1)
            top = server.likeliest(reference.ids)
            largest = max(largest, *(abs(float(likely_V[i]) - p) for i, p in top.items()))
    return LlamaAgreement(largest, equal, tokens)
