"""A run as a folder for ``ollama create``: a Modelfile, and the GGUF file that it names.

The layout of chats is derived from the run's chat template and checked (``chat_layout.py``). What
the GGUF files hold is decided in ``gguf.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.chat_template import ChatTemplate
from lorita.data.tokens.choose_template import adds_bos, own_template
from lorita.data.tokens.prompt_format import PromptFormat
from lorita.errors import OutputError, SettingsError
from lorita.export.ollama.chat_layout import CHATS, GoLayout, chat_text, derive_layout, go_data
from lorita.export.ollama.go_template import GoTemplateError, render_go
from lorita.export.ollama.modelfile import PLAIN, Modelfile, Sampling, stop_texts
from lorita.inference.load import open_model
from lorita.inference.resolve import Resolved, resolve_adapter
from lorita.inference.tuned_model import TunedModel
from lorita.models.base import Base
from lorita.models.ollama_store import PREFIX
from lorita.settings.build import read_yaml
from lorita.storage.files import replacing
from lorita.storage.run_folder import SETTINGS_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ADAPTER, MODEL, FILE = "adapter.gguf", "model.gguf", "Modelfile"


@dataclass(frozen=True)
class OllamaExport:
    """Where it was written, and what there is to say."""

    folder: Path
    modelfile: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What an export may be told; see the command's help."""

    start: str | None = None
    merged: bool = False
    quantize: str = "q8_0"
    template: Path | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None


def export_ollama(
    run: str | Path,
    out: Path,
    wanted: Wanted,
    write_gguf: Callable[[TunedModel, Path], list[str]],
    *,
    base: str | None = None,
    overwrite: bool = False,
) -> OllamaExport:
    """Write ``out``: a Modelfile, and the adapter or the merged model as GGUF.

    ``run`` is anything that ``adapter_sources`` understands.
    ``write_gguf`` makes the GGUF file, ``adapter.gguf`` or ``model.gguf`` by its name, and returns
    what there is to say: the adapter where the base is a GGUF file or ``wanted.start`` names one,
    else the whole model. Raises ``UserError`` where a Modelfile cannot say something; nothing
    is written then.
    """
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: is there already", hint="Replace it with --overwrite.")
    resolved = resolve_adapter(run, base)
    tokenizer = resolved.tokenizer()
    asked = _prompt_format(resolved, tokenizer)
    layout = _layout(asked, wanted, _runner_bos(resolved.base, tokenizer))
    sampling = Sampling(
        wanted.temperature,
        wanted.top_k,
        wanted.top_p,
        _penalty(resolved.adapter, wanted.repetition_penalty),
    )
    start, adapter = _start(resolved.base, wanted)
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
            (f"{Path(run).name}, made with lorita. Use it with:", *_how_to_use(out)),
        )
    )
    with replacing(out) as part:
        part.mkdir()
        file = part / (MODEL if adapter is None else ADAPTER)
        said = write_gguf(open_model(resolved, "float32"), file)
        (part / FILE).write_text(text, encoding="utf-8")
    return OllamaExport(out, text, (*layout.notes, *said))


def _how_to_use(out: Path) -> tuple[str, str]:
    return f"  ollama create {out.name} -f Modelfile", f'  ollama run {out.name} "..."'


def _prompt_format(resolved: Resolved, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
    """The run's own; for a folder that another tool wrote, the chat template in it."""
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
        raise SettingsError("the run has a system message that its chat template does not write")
    return layout


def _given_layout(path: Path, template: ChatTemplate | None, bos: str) -> GoLayout:
    """A template written by hand: taken as it is, and compared where both can be rendered."""
    try:
        source = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"template {path}: cannot be read ({error})") from None
    if template is None:
        return GoLayout(source)
    try:
        same = [
            render_go(source, go_data(turns)) == chat_text(template, turns, bos=bos)
            for turns in CHATS
        ]
    except (GoTemplateError, ValueError) as error:
        return GoLayout(source, (f"{path} was not compared with the chat template ({error})",))
    note = f"{path}: the same text as the chat template on {sum(same)} of {len(same)} chats"
    return GoLayout(source, (note,))


def _runner_bos(base: Base, tokenizer: PreTrainedTokenizerBase) -> str:
    """The beginning-of-text token, where llama.cpp puts it before a prompt by itself."""
    if base.gguf_path is None:
        return str(tokenizer.bos_token) if adds_bos(tokenizer) else ""
    from gguf import GGUFReader

    fields = GGUFReader(base.gguf_path).fields

    def value(key: str) -> Any:
        field = fields.get(f"tokenizer.ggml.{key}")
        return field.contents() if field is not None else None

    adds = value("add_bos_token")
    if adds is None:  # llama.cpp's own defaults, by the kind of tokenizer
        adds = value("model") == "llama" or value("pre") in ("llama3", "llama-v3", "llama-bpe")
    return str(tokenizer.bos_token or "") if adds else ""


def _penalty(folder: Path, wanted: float | None) -> float:
    """What the comparison of the run was made with, unless another is wanted."""
    if wanted is not None:
        return wanted
    settings = folder / SETTINGS_FILE
    values = read_yaml(settings) if settings.is_file() else {}
    return float(values.get("repetition_penalty", Sampling.repetition_penalty))


def _start(base: Base, wanted: Wanted) -> tuple[str, str | None]:
    """What FROM and ADAPTER name."""
    if wanted.merged or (base.gguf_path is None and wanted.start is None):
        return f"./{MODEL}", None
    if wanted.start is not None:
        path = Path(wanted.start).expanduser()
        start = str(path.absolute()) if path.exists() else wanted.start.removeprefix(PREFIX)
    elif base.name.startswith(PREFIX):
        start = base.name.removeprefix(PREFIX)
    else:
        start = str(base.gguf_path)
    return start, f"./{ADAPTER}"
