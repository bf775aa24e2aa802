"""Export a run as a GGUF file: written under a temporary name, checked by llama.cpp, renamed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import CheckFailed, SettingsError
from lorita.export.gguf.file import write_run
from lorita.export.gguf.number_formats import check_format
from lorita.export.sources import check_apart
from lorita.export.verify import TOKENS, Reference, ask_reference, prompts_of_run
from lorita.inference import llamacpp
from lorita.inference.load import open_model
from lorita.inference.resolve import resolve_adapter
from lorita.models.base import own_dtype
from lorita.models.gguf_files import float_type
from lorita.models.gguf_layout import find_layout
from lorita.storage.targets import Target, check_target, replacing
from lorita.training.events import OnEvent, PhaseStarted, unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorita.inference.tuned_model import TunedModel

LIMITS = {"f32": 0.01, "f16": 0.1, "bf16": 0.5}
"""Largest difference allowed in the log-probabilities of the ten likeliest first tokens, by format.
For other formats it is reported only."""


@dataclass(frozen=True)
class Exported:
    """The file that was written, its bytes, notes for the user, and the result of the check.

    ``base`` is the GGUF file that an adapter is for; None for a merged model, or if there is none.
    """

    path: Path
    size: int
    notes: list[str]
    checked: list[str]
    base: str | None


@dataclass(frozen=True)
class LlamaAgreement:
    """How llama.cpp's answers compare with the reference.

    ``largest_difference`` is between the log-probabilities of likely first tokens. For each prompt,
    ``equal`` of ``tokens`` greedy tokens are the same before the first that differs.
    """

    largest_difference: float
    equal: list[int]
    tokens: list[int]

    @property
    def identical(self) -> int:
        """The number of prompts with identical answers."""
        return sum(a == b for a, b in zip(self.equal, self.tokens, strict=True))

    def lines(self) -> list[str]:
        """The comparison in two lines of text."""
        different = [
            f"after {same} of {of} tokens"
            for same, of in zip(self.equal, self.tokens, strict=True)
            if same != of
        ]
        parted = ""
        if different:
            parted = (
                f"; the other{'s part' if len(different) > 1 else ' parts'} from base and adapter "
                f"{', '.join(different)}, where rounding decides between likely tokens"
            )
        return [
            f"llama.cpp: {self.identical} of {len(self.equal)} answers are the same over up to "
            f"{TOKENS} tokens{parted}",
            f"llama.cpp: log-probabilities of the likeliest tokens differ by up to "
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
    trust_remote_code: bool = False,
    on_event: OnEvent = unseen,
) -> Exported:
    """Write the adapter of ``run``, or with ``merged`` the whole model, as a GGUF file.

    ``quantize`` (f16 by default) is the format of a merged model; an adapter is always float32. If
    xllamacpp is installed, llama.cpp is asked the run's comparison prompts; ``CheckFailed`` is
    raised, and nothing written, if its answers are further from base and adapter than ``LIMITS``
    allows and ``allow_loss`` is not set.
    """
    target = Path(out).expanduser()
    if quantize is not None and not merged:
        raise SettingsError("quantize needs --merged: an adapter is small and stays in float32")
    wanted = check_format(quantize or "f16")
    check_target(place := Target(target, overwrite, magic=b"GGUF"))
    resolved = resolve_adapter(run, base, trust_remote_code=trust_remote_code)
    check_apart(target, resolved, [run])
    folder = resolved.adapter
    on_event(PhaseStarted(f"Loading {resolved.base.name}"))
    tuned = open_model(resolved, _dtype(own_dtype(resolved.base), merged, wanted))
    find_layout(tuned.model.get_base_model().config, resolved.base.name)
    with replacing(place) as part:
        notes = write_run(
            tuned, folder, part, merged=merged, quantize=wanted, name=target.stem,
            on_event=on_event,
        )  # fmt: skip
        size = part.stat().st_size
        how = {"merged": merged, "quantize": wanted, "loss": allow_loss}
        checked = _check(tuned, folder, part, **how, on_event=on_event)  # type: ignore[arg-type]
    own = None if merged or tuned.base.gguf_path is None else str(tuned.base.gguf_path)
    return Exported(target, size, notes, checked, own)


def _dtype(own: str, merged: bool, quantize: str) -> str:
    """The dtype to load the base in: float32 if the file is, else the base's own."""
    return "float32" if not merged or quantize == "f32" else own


def _check(
    tuned: TunedModel,
    folder: Path,
    part: Path,
    *,
    merged: bool,
    quantize: str,
    loss: bool,
    on_event: OnEvent,
) -> list[str]:
    """Compare the file with base and adapter, through llama.cpp; returns what to print.

    An adapter can only be checked on a base that is a GGUF file itself.
    """
    if not llamacpp.is_installed():
        return ['Not checked: llama.cpp is not installed (pip install "lorita[llamacpp]")']
    model, adapter = (part, None) if merged else (tuned.base.gguf_path, part)
    if model is None:
        return ["Not checked: llama.cpp would need the base as a GGUF file"]
    references = ask_reference(tuned, prompts_of_run(folder), on_event)
    on_event(PhaseStarted("Asking llama.cpp"))
    found = ask_llamacpp(model, references, adapter=adapter)
    limit = LIMITS.get(quantize if merged else _format_of(model))
    problems = []
    if limit is not None and not found.largest_difference <= limit:
        problems = found.lines()
    if problems and not loss:
        raise CheckFailed(
            [f"the file differs from base and adapter (limit {limit:g})", *problems],
            hint="Nothing was written. Use --allow-loss to write it anyway.",
        )
    return found.lines()


def _format_of(path: Path) -> str:
    """The key into ``LIMITS`` for an adapter on this file: llama.cpp computes in its format."""
    names = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
    return names.get(float_type(path) or "", "quantised")


def ask_llamacpp(
    model: Path, references: Sequence[Reference], *, adapter: Path | None = None
) -> LlamaAgreement:
    """Answer the references' prompts with a GGUF file, through llama.cpp, and compare."""
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
