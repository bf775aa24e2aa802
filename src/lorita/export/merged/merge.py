"""Merge base and adapter into a plain model folder, as ``save_pretrained`` would write it.

Tensors are merged in float32 and written one by one: memory holds the base in its own dtype and one
layer. The result is compared with base and adapter before the folder gets its final name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.errors import CheckFailed, SettingsError
from lorita.export.merged import weights as tensors
from lorita.export.merged.combine import Part, combine
from lorita.export.merged.left_out import copy_processor, left_out_entries
from lorita.export.merged.original_names import entries
from lorita.export.merged.safetensors_writer import write_safetensors
from lorita.export.sources import check_apart
from lorita.export.verify import (
    Agreement,
    adapter_effect,
    agreement,
    ask_reference,
    prompts_of_run,
)
from lorita.inference.checked_base import torch_dtype
from lorita.inference.load import open_model
from lorita.inference.resolve import resolve_adapter
from lorita.models.adapter_kinds import require_mergeable
from lorita.models.base import Base, own_dtype
from lorita.models.base_weights import load_model
from lorita.models.language_part import left_out_names
from lorita.models.memory_needs import require_memory
from lorita.storage.manifest import MODEL
from lorita.storage.targets import Target, check_target, replacing
from lorita.system.memory import release_freed
from lorita.training.events import OnEvent, PhaseStarted, unseen

if TYPE_CHECKING:
    from lorita.inference.tuned_model import TunedModel

LIMITS = {"float32": 1e-3, "float16": 0.1, "bfloat16": 1.0}
"""Largest logit difference allowed between the merged model and base and adapter, by its dtype."""
SHARES = {"float32": 1e-4, "float16": 0.005, "bfloat16": 0.04}
"""The same as a part of what the adapter changes, where that is more: rounded weights differ by a
part of themselves. In float16, an adapter that moved logits by 24 came back within 0.05; with one
of its 120 layers left out, the one of those tried that mattered least, 0.2 were missing."""
SHARD = 5 * 10**9
"""Largest file in bytes, as in transformers; a tensor that is larger gets a file of its own."""


@dataclass(frozen=True)
class Merged:
    """The merged model: its folder, dtype, size in bytes, and agreement with base and adapter."""

    path: Path
    dtype: str
    size: int
    agreement: Agreement


def merge(
    run: str | Path,
    out: str | Path,
    *,
    others: Sequence[Part] = (),
    weight: float = 1.0,
    combination_type: str = "cat",
    base: str | None = None,
    dtype: str = "auto",
    max_shard_size: int = SHARD,
    allow_loss: bool = False,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    on_event: OnEvent = unseen,
) -> Merged:
    """Merge the adapter of ``run`` into its base and write the model to ``out``.

    ``dtype`` ``auto`` is the base's own. ``others`` are further adapters with their weights,
    combined by ``combination_type``; ``weight`` is that of ``run``. Raises ``CheckFailed``, and
    leaves nothing at ``out``, if the merged model's logits are further from base and adapter than
    ``LIMITS`` and ``SHARES`` allow and ``allow_loss`` is not set. ``on_event`` is told what is
    being done.
    """
    target = Path(out).expanduser()
    if dtype not in ("auto", *LIMITS):
        raise SettingsError(f"dtype = {dtype!r}: should be auto, {', '.join(LIMITS)}")
    check_target(place := Target(target, overwrite, MODEL))
    resolved = resolve_adapter(run, base, trust_remote_code=trust_remote_code)
    check_apart(target, resolved, [run, *(other.adapter for other in others)])
    require_mergeable(resolved.adapter)
    own = own_dtype(resolved.base, dtype)
    written = own if dtype == "auto" else dtype
    # What was merged is loaded again for the comparison, while the first may still be held.
    require_memory(resolved.base, torch_dtype(own).itemsize, copies=2)
    on_event(PhaseStarted(f"Loading {resolved.base.name}"))
    tuned = open_model(resolved, own)
    combine(
        tuned.model, weight, others, combination_type, base, trust_remote_code=trust_remote_code
    )
    asked = ask_reference(tuned, prompts_of_run(resolved.adapter), on_event)
    moved = adapter_effect(tuned.model, asked)
    with replacing(place) as part:
        part.mkdir()
        size = write_folder(tuned, part, written, max_shard_size=max_shard_size, on_event=on_event)
        del tuned
        release_freed()
        on_event(PhaseStarted("Loading the merged model"))
        made = Base(str(target), str(part), trust_remote_code=trust_remote_code)
        # Computed as the reference was.
        model = load_model(made, torch_dtype(own if own == "float32" else written))
        found = agreement(model, asked, on_event)
        limit = max(max(LIMITS[each], SHARES[each] * moved) for each in (written, own))
        if not found.largest_difference <= limit and not allow_loss:
            raise CheckFailed(
                f"the merged model differs from base and adapter: {found.line()} "
                f"(limit in {written}: {limit:.2g}; the adapter changes logits by up to "
                f"{moved:.2g})",
                hint="Nothing was written. Use --allow-loss to write it anyway.",
            )
    return Merged(target, written, size, found)


def write_folder(
    tuned: TunedModel,
    folder: Path,
    dtype: str,
    *,
    max_shard_size: int,
    on_event: OnEvent = unseen,
) -> int:
    """Write everything that makes a model folder; returns the bytes of the weights."""
    import copy

    model = tuned.model
    config = copy.deepcopy(model.get_base_model().config)
    config.dtype = torch_dtype(dtype)
    config.tie_word_embeddings = tensors.is_tied(model)
    config.architectures = [type(model.get_base_model()).__name__]
    config.save_pretrained(folder)
    generation = getattr(model.get_base_model(), "generation_config", None)
    if generation is not None:
        generation.save_pretrained(folder)
    tuned.tokenizer.save_pretrained(folder)
    wanted = torch_dtype(dtype)
    found = list(entries(model.get_base_model(), tensors.weights(model), wanted))
    if left_out_names(model.get_base_model()):
        found += left_out_entries(tuned, wanted)
        copy_processor(tuned.base, folder)
    return write_safetensors(found, folder, max_shard_size, on_event)
