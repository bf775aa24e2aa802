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
from lorita.inference.resolve import resolve_folder
from lorita.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from lorita.models.base import BUNDLED, Base
from lorita.models.gguf_files import read_gguf
from lorita.storage import hub
from lorita.storage.run_folder import CARD_FILE, RECORD_FILE
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
        for name in (WEIGHTS_FILE, *_TOKENIZER_FILES):
            if (folder / name).is_file():
                (part / name).parent.mkdir(exist_ok=True)
                (part / name).symlink_to((folder / name).absolute())
        (part / CONFIG_FILE).write_text(_config(folder, origin), encoding="utf-8")
        if run_found.record is not None:
            record = _public(run_found.record, base, origin)
            (part / RECORD_FILE).write_text(record, encoding="utf-8")
        full_id = hub.make_repository(hub_id or folder.name, private=private)
        card = _card(folder, full_id, base, origin, found)
        (part / CARD_FILE).write_text(card, encoding="utf-8")
        address = hub.upload(full_id, part, f"LoRA adapter {folder.name}, made with lorita")
    return address, notes


def hub_origin(base: Base) -> str | None:
    """The base's id on the hub; None if it is unknown, as for files and folders."""
    if base.name in BUNDLED:
        return BUNDLED[base.name][2]
    return base.location if base.is_hub else None


def _file_license(base: Base) -> str | None:
    """The license named in a GGUF file or in the model card of a folder."""
    if base.gguf_path is not None:
        field = read_gguf(base.gguf_path).fields.get("general.license")
        return str(field.contents()) if field is not None else None
    card = Path(base.location) / CARD_FILE
    if base.is_hub or not card.is_file():
        return None
    from huggingface_hub import ModelCard

    return ModelCard.load(card).data.get("license")  # type: ignore[no-any-return]


def _config(folder: Path, origin: str | None) -> str:
    values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
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


def _card(folder: Path, hub_id: str, base: Base, origin: str | None, license: str | None) -> str:
    """The run's model card under its name on the hub, with the metadata that the hub reads."""
    from huggingface_hub import ModelCard, ModelCardData

    path = folder / CARD_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {hub_id}\n"
    for call in ('lorita.load("', 'from_pretrained(base, "'):
        text = text.replace(f'{call}{folder.name}"', f'{call}{hub_id}"')
    if origin is not None:
        text = _with_origin(text, base, origin)
    text = text if text.startswith("---") else f"---\n---\n{text}"
    card = ModelCard(text, ignore_metadata_errors=True)
    data: dict[str, Any] = vars(card.data)
    known = {"base_model": origin, "license": license, "pipeline_tag": "text-generation"}
    if origin is not None:
        known["base_model_relation"] = "adapter"
    tags = sorted({*(data.get("tags") or []), "lora", "lorita"})
    card.data = ModelCardData(**{**data, **known, "tags": tags, "library_name": "peft"})
    return str(card)


def _with_origin(text: str, base: Base, origin: str) -> str:
    """The card's text with the base's hub id in place of paths of this machine."""
    if base.gguf_file is not None:
        spelled = f'"{base.location}", gguf_file="{base.gguf_file}"'
        text = text.replace(spelled, f'"{origin}"')
    return text.replace(base.reference, origin).replace(f"`{base.name}`", f"`{origin}`")
