"""Exports a run as a folder for ``ollama create``: a Modelfile, and the GGUF file it refers to.

The Modelfile's template is derived from the run's chat template (``chat_layout.py``). The caller
passes in the function that writes the GGUF file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.encoder import adds_bos
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.data.tokens.tokenizer_template import own_template
from lorita.errors import SettingsError
from lorita.export.ollama.chat_layout import CHATS, GoLayout, chat_text, derive_layout, go_data
from lorita.export.ollama.go_template import GoTemplateError, render_go
from lorita.export.ollama.modelfile import PLAIN, Modelfile, Sampling, stop_texts
from lorita.export.sources import check_apart
from lorita.inference.load import open_model
from lorita.inference.resolve import Resolved, resolve_adapter
from lorita.models.adapter_kinds import require_mergeable
from lorita.models.base import Base
from lorita.models.gguf_files import metadata
from lorita.models.ollama_store import PREFIX
from lorita.storage.files import write_atomic
from lorita.storage.manifest import OLLAMA
from lorita.storage.reading import read_text
from lorita.storage.targets import Target, check_target, replacing
from lorita.training.events import OnEvent, PhaseStarted, unseen

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.inference.tuned_model import TunedModel

ADAPTER, MODEL, FILE = "adapter.gguf", "model.gguf", "Modelfile"
ADAPTERS_UNTIL = "0.34.1"
"""The first version of Ollama that refuses to create a model from a Modelfile with ADAPTER."""
OLD_OLLAMA = (
    f"Only Ollama before {ADAPTERS_UNTIL} creates a model from an adapter. For later versions, "
    "export without --adapter-only."
)


@dataclass(frozen=True)
class OllamaExport:
    """The folder that was written, the text of its Modelfile, notes for the user, and what the
    check of the GGUF file found."""

    folder: Path
    modelfile: str
    notes: tuple[str, ...]
    checked: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What the user can choose.

    ``adapter_only`` asks for the adapter on a base instead of one merged model, and ``start`` is
    what FROM then names instead of the run's base; ``template`` is a file with a template for
    Ollama. The rest are sampling parameters; the penalty is by default that of the run
    (``PromptFormat.penalty``).
    """

    adapter_only: bool = False
    start: str | None = None
    template: Path | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None


def export_ollama(
    run: str | Path,
    out: Path,
    wanted: Wanted,
    write_gguf: Callable[[TunedModel, Path], tuple[list[str], list[str]]],
    *,
    base: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    on_event: OnEvent = unseen,
) -> OllamaExport:
    """Write the folder ``out``: a Modelfile, and the merged model or the adapter as a GGUF file.

    ``run`` is anything that ``adapter_sources`` understands. ``write_gguf`` writes the GGUF file at
    the path it is given, ``model.gguf`` or, with ``wanted.adapter_only``, ``adapter.gguf``, checks
    it, and returns notes and what the check found. Raises ``UserError``, and writes nothing, if a
    Modelfile cannot express what the run needs.
    """
    out = out.expanduser()
    if wanted.start is not None and not wanted.adapter_only:
        raise SettingsError(
            "from: a merged model holds its base, so it is not put on another one",
            hint=f"Leave out --from, or add --adapter-only. {OLD_OLLAMA}",
        )
    check_target(place := Target(out, overwrite, OLLAMA))
    resolved = resolve_adapter(run, base, trust_remote_code=trust_remote_code)
    check_apart(out, resolved, [run])
    require_mergeable(resolved.adapter, "be used by Ollama")
    tokenizer = resolved.tokenizer()
    asked = _prompt_format(resolved, tokenizer)
    layout = _layout(asked, wanted, _runner_bos(resolved.base, tokenizer))
    penalty = asked.penalty if wanted.repetition_penalty is None else wanted.repetition_penalty
    sampling = Sampling(wanted.temperature, wanted.top_k, wanted.top_p, penalty)
    start, adapter = _start(resolved.base, wanted)
    old = [OLD_OLLAMA] if wanted.adapter_only else []
    record = resolved.record
    stops = record.stop_tokens if record else [str(tokenizer.eos_token)]
    text = str(
        Modelfile(
            start,
            adapter,
            layout.source,
            stop_texts(asked, stops),
            asked.system,
            sampling,
            (
                f"{Path(run).name}, made with lorita. To use it:",
                *_how_to_use(out),
                *old,
            ),
        )
    )
    with replacing(place) as part:
        part.mkdir()
        file = part / (MODEL if adapter is None else ADAPTER)
        on_event(PhaseStarted(f"Loading {resolved.base.name}"))
        notes, checked = write_gguf(open_model(resolved, "float32"), file)
        write_atomic(part / FILE, text)
    return OllamaExport(out, text, (*layout.notes, *notes, *old), tuple(checked))


def _how_to_use(out: Path) -> tuple[str, str]:
    return f"  ollama create {out.name} -f Modelfile", f'  ollama run {out.name} "..."'


def _prompt_format(resolved: Resolved, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
    """The run's own; for a folder written by another tool, the tokenizer's chat template."""
    if resolved.record is None and (own := own_template(tokenizer)) is not None:
        return PromptFormat("chat", own)
    return resolved.prompt_format(tokenizer)


def _layout(asked: PromptFormat, wanted: Wanted, bos: str) -> GoLayout:
    if wanted.template is not None:
        return _given_layout(wanted.template, asked.template, bos)
    if asked.template is None:
        return GoLayout(PLAIN)
    layout = derive_layout(asked.template, bos=bos)
    if asked.system and "system" not in layout.source:
        raise SettingsError("the run has a system message, but its chat template ignores it")
    return layout


def _given_layout(path: Path, template: ChatTemplate | None, bos: str) -> GoLayout:
    """A template written by hand: used as is, and compared with the run's chat template."""
    source = read_text(path.expanduser(), SettingsError)
    if template is None:
        return GoLayout(source)
    try:
        same = [
            render_go(source, go_data(turns)) == chat_text(template, turns, bos=bos)
            for turns in CHATS
        ]
    except (GoTemplateError, ValueError) as error:
        return GoLayout(source, (f"{path} was not compared with the chat template ({error})",))
    note = f"{path}: renders {sum(same)} of {len(same)} chats like the chat template"
    return GoLayout(source, (note,))


def _runner_bos(base: Base, tokenizer: PreTrainedTokenizerBase) -> str:
    """The beginning-of-text token if llama.cpp adds it to a prompt by itself, else ``""``."""
    if base.gguf_path is None:
        return str(tokenizer.bos_token) if adds_bos(tokenizer) else ""
    keys = [f"tokenizer.ggml.{key}" for key in ("add_bos_token", "model", "pre")]
    found = metadata(base.gguf_path, *keys)
    adds, model, pre = (found.get(key) for key in keys)
    if adds is None:  # llama.cpp's defaults for this kind of tokenizer
        adds = model == "llama" or pre in ("llama3", "llama-v3", "llama-bpe")
    return str(tokenizer.bos_token or "") if adds else ""


def _start(base: Base, wanted: Wanted) -> tuple[str, str | None]:
    """The values of FROM and ADAPTER; no ADAPTER (None) for a merged model."""
    if not wanted.adapter_only:
        return f"./{MODEL}", None
    if base.gguf_path is None and wanted.start is None:
        raise SettingsError(
            f"adapter_only: the base {base.name} is no GGUF file, so Ollama needs another one",
            hint="Name a model that Ollama has, or a GGUF file of the same base, with --from; or "
            "leave out --adapter-only.",
        )
    if wanted.start is not None:
        path = Path(wanted.start).expanduser()
        start = str(path.absolute()) if path.exists() else wanted.start.removeprefix(PREFIX)
    elif base.name.startswith(PREFIX):
        start = base.name.removeprefix(PREFIX)
    else:
        start = str(base.gguf_path)
    return start, f"./{ADAPTER}"
