"""The GGUF file of an export for Ollama: written, and checked by llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import AdapterError
from lorita.export.gguf.adapter_file import NotAlone
from lorita.export.gguf.check import Checked, check_file
from lorita.export.gguf.file import write_run
from lorita.export.gguf.number_formats import AS_BASE, AT_LEAST_8
from lorita.inference import llamacpp
from lorita.training.events import OnEvent, unseen

if TYPE_CHECKING:
    from lorita.export.ollama.export import Wanted
    from lorita.inference.tuned_model import TunedModel


def checked_writer(
    folder: Path,
    wanted: Wanted,
    *,
    quantize: str | None,
    name: str,
    allow_loss: bool = False,
    on_event: OnEvent = unseen,
) -> Callable[[TunedModel, Path], tuple[list[str], list[str]]]:
    """What ``export_ollama`` has the file written by; ``folder`` is the adapter's.

    Without ``quantize``, a merged model has its base's own formats, if it keeps what the adapter
    learned in them, else at least eight bits. The function returns notes, and what the check found.
    It raises ``CheckFailed`` as ``check_file`` does, and ``AdapterError`` where an adapter cannot
    be a file of its own.
    """

    def write(tuned: TunedModel, path: Path) -> tuple[list[str], list[str]]:
        def checked(kind: str, *, merged: bool) -> tuple[list[str], Checked]:
            how: Any = {"merged": merged, "on_event": on_event}
            notes = write_run(tuned, folder, path, quantize=kind, name=name, **how)
            return notes, _check(tuned, folder, path, wanted, allow_loss=allow_loss, **how)

        if wanted.adapter_only:
            try:
                notes, found = checked("f32", merged=False)
            except NotAlone as error:
                raise AdapterError(error.problems, hint="Leave out --adapter-only.") from None
            return notes, found.lines
        if quantize is not None:
            notes, found = checked(quantize, merged=True)
            return notes, found.lines
        lost: list[str] = []
        if llamacpp.is_installed() and tuned.base.gguf_path is not None:
            notes, found = checked(AS_BASE, merged=True)
            if found.losses is None or found.losses.enough:
                return notes, found.lines
            lost = [
                f"rounded as in the base's file, the model would keep {found.losses.share} of what "
                "the adapter learned"
            ]
        notes, found = checked(AT_LEAST_8, merged=True)
        return lost + notes, found.lines

    return write


def _check(
    tuned: TunedModel, folder: Path, path: Path, wanted: Wanted, *, merged: bool, **how: Any
) -> Checked:
    """The file on the base that the Modelfile names, if that is a file."""
    start = None if merged or wanted.start is None else Path(wanted.start).expanduser()
    if start is not None and not start.is_file():
        return Checked([f"Not checked: only Ollama has {wanted.start}"])
    return check_file(tuned, folder, path, merged=merged, base_file=start, **how)
