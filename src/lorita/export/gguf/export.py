"""Export a run as a GGUF file: written under a temporary name, checked by llama.cpp, renamed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorita.errors import SettingsError
from lorita.export.gguf.check import check_file
from lorita.export.gguf.file import write_run
from lorita.export.gguf.number_formats import check_format
from lorita.export.sources import check_apart
from lorita.inference.load import open_model
from lorita.inference.resolve import resolve_adapter
from lorita.models.adapter_kinds import require_mergeable
from lorita.models.base import own_dtype
from lorita.models.gguf_layout import find_layout
from lorita.storage.targets import Target, check_target, replacing
from lorita.training.events import OnEvent, PhaseStarted, unseen


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
    if merged:
        require_mergeable(resolved.adapter)
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
        checked = check_file(
            tuned, folder, part, merged=merged, allow_loss=allow_loss, on_event=on_event
        )
    own = None if merged or tuned.base.gguf_path is None else str(tuned.base.gguf_path)
    return Exported(target, size, notes, checked.lines, own)


def _dtype(own: str, merged: bool, quantize: str) -> str:
    """The dtype to load the base in: float32 if the file is, else the base's own."""
    return "float32" if not merged or quantize == "f32" else own
