"""Uploads a run to the hub: the adapter, its tokenizer, and a model card with the run's figures.

This happens only when the user asks for it. Nothing that is uploaded names paths of this machine:
settings are not uploaded, and folders are removed from the record and the card.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorita.errors import AdapterError
from lorita.evaluation.markdown import code, escaped
from lorita.export.usage import hub_origin, hub_section, public_name, with_section
from lorita.inference.resolve import resolve_folder
from lorita.models.adapter_embeddings import tokens_needed
from lorita.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from lorita.models.adapter_kinds import read_adapter_config
from lorita.models.base import Base
from lorita.models.gguf_files import metadata
from lorita.storage import hub
from lorita.storage.files import write_atomic
from lorita.storage.links import leads_out
from lorita.storage.reading import one_message, read_text
from lorita.storage.run_folder import CARD_FILE, LOSS_FILE, LOSS_PICTURE, RECORD_FILE, REPORT_FILE
from lorita.storage.run_record import RunRecord

_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model",
    "additional_chat_templates/tool_use.jinja",
)  # fmt: skip


def push_run(
    run: Path,
    hub_id: str | None = None,
    *,
    base_model: str | None = None,
    license: str | None = None,
    private: bool = False,
) -> tuple[str, list[str]]:
    """Upload the run in a folder; returns the page's address and notes for the user.

    ``hub_id`` is ``owner/name``, or a name in the user's own account; by default the folder's name.
    ``base_model`` is the base's hub id, needed if the run does not know it. ``license`` is the
    base's own by default.
    """
    folder = run.expanduser()
    # The base is named, not loaded: none of its code is run.
    run_found = resolve_folder(folder, trust_remote_code=True)
    base = run_found.base
    if not (folder / WEIGHTS_FILE).is_file():
        raise AdapterError(f"{folder}: no {WEIGHTS_FILE}, so there is nothing to push")
    hub.check_can_push(hub_id or folder.name)
    origin = base_model or hub_origin(base)
    notes = []
    if origin is None:
        notes.append("the hub id of the base is unknown: give it with --base-model")
    found = license or hub.license_of(origin) if origin else license
    found = found or _file_license(base)
    if found is None:
        notes.append("the license of the base is unknown: give it with --license")
    with tempfile.TemporaryDirectory(prefix="lorita-push-") as place:
        part = Path(place)
        for name in (WEIGHTS_FILE, REPORT_FILE, LOSS_FILE, LOSS_PICTURE, *_TOKENIZER_FILES):
            if (folder / name).is_file():
                _require_inside(folder / name, folder)
                (part / name).parent.mkdir(exist_ok=True)
                (part / name).symlink_to((folder / name).absolute())
        write_atomic(part / CONFIG_FILE, _config(folder, origin))
        if run_found.record is not None:
            record = _public(run_found.record, base, origin)
            write_atomic(part / RECORD_FILE, record)
        full_id = hub.make_repository(hub_id or folder.name, private=private)
        runs_code = run_found.record is not None and run_found.record.base.trust_remote_code
        card = _card(folder, full_id, base, origin, found, runs_code)
        write_atomic(part / CARD_FILE, card)
        address = hub.upload(full_id, part, f"LoRA adapter {folder.name}, made with lorita")
    return address, notes


def _require_inside(file: Path, folder: Path) -> None:
    """``AdapterError`` if a file to upload is a link to one elsewhere on this machine."""
    real = leads_out(file, folder)
    if real is not None:
        raise AdapterError(
            f"{file}: a link that leads out of the run's folder, to {real}; it is not uploaded",
            hint="Replace the link by the file, if it belongs to the run.",
        )


def _file_license(base: Base) -> str | None:
    """The license named in a GGUF file or in the model card of a folder."""
    if base.gguf_path is not None:
        found = metadata(base.gguf_path, "general.license").get("general.license")
        return found if isinstance(found, str) else None
    card = Path(base.location) / CARD_FILE
    if base.is_hub or not card.is_file():
        return None
    from huggingface_hub import ModelCard

    with one_message(f"{card}: the front matter of the model card is damaged"):
        named = ModelCard(read_text(card), ignore_metadata_errors=True).data.get("license")
        return named if isinstance(named, str) else None


def _config(folder: Path, origin: str | None) -> str:
    values = read_adapter_config(folder)
    values["base_model_name_or_path"] = origin
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


def _public(record: RunRecord, base: Base, origin: str | None) -> str:
    """The run's record without paths of this machine."""
    name = origin or Path(base.name).name
    names = [name if "://" in name else Path(name).name for name in record.data.origin]
    return replace(
        record,
        base=replace(record.base, name=name, reference=name),
        data=replace(record.data, origin=names),
    ).to_json()


def _card(
    folder: Path,
    hub_id: str,
    base: Base,
    origin: str | None,
    license: str | None,
    runs_code: bool,
) -> str:
    """The run's model card under its name on the hub, with the metadata that the hub reads."""
    from huggingface_hub import ModelCard, ModelCardData

    path = folder / CARD_FILE
    text = read_text(path) if path.is_file() else f"# {hub_id}\n"
    tokens = tokens_needed(folder)
    section = hub_section(hub_id, origin, trust_remote_code=runs_code, tokens=tokens)
    text = with_section(text, section)
    text = _without_place(text, base, origin or public_name(base))
    text = text if text.startswith("---") else f"---\n---\n{text}"
    with one_message(f"{path}: the front matter of the model card is damaged"):
        card = ModelCard(text, ignore_metadata_errors=True)
        data: dict[str, Any] = vars(card.data)
        known = {"base_model": origin, "license": license, "pipeline_tag": "text-generation"}
        if origin is not None:
            known["base_model_relation"] = "adapter"
        tags = sorted({*(data.get("tags") or []), "lora", "lorita"})
        card.data = ModelCardData(**{**data, **known, "tags": tags, "library_name": "peft"})
        return str(card)


def _without_place(text: str, base: Base, name: str) -> str:
    """The card's text with ``name`` for the base, also where an older card has its path."""
    text = text.replace(base.reference, name)
    for old in (base.name, public_name(base)):
        text = text.replace(code(old), code(name))
        text = text.replace(f"Base model: {escaped(old)}\n", f"Base model: {escaped(name)}\n")
    return text
