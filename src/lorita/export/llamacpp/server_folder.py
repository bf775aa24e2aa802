"""Exports runs as a folder for ``llama-server``: the base and its adapters, each a GGUF file."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorita.errors import AdapterError, SettingsError
from lorita.export.gguf.adapter_file import NotAlone
from lorita.export.gguf.check import check_file
from lorita.export.gguf.file import write_run
from lorita.export.gguf.number_formats import check_format
from lorita.export.llamacpp.files import write_base
from lorita.export.llamacpp.server_text import BASE, TEMPLATE, ServerFolder
from lorita.export.ollama.modelfile import stop_texts
from lorita.export.sources import check_apart
from lorita.inference.load import open_model
from lorita.inference.resolve import Resolved, resolve_adapter
from lorita.models.base import Base
from lorita.storage.files import check_room, write_atomic
from lorita.storage.manifest import LLAMA_SERVER
from lorita.storage.targets import Target, check_target, replacing
from lorita.training.events import OnEvent, PhaseStarted, unseen


@dataclass(frozen=True)
class ServerExport:
    """The folder that was written, notes for the user, and what the checks found."""

    folder: Path
    notes: list[str]
    checked: list[str]


def export_llama_server(
    run: str,
    out: Path,
    *,
    others: Sequence[str] = (),
    quantize: str | None = None,
    base: str | None = None,
    allow_loss: bool = False,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    on_event: OnEvent = unseen,
) -> ServerExport:
    """Write the folder ``out``: base and adapters, start scripts, and how to ask for each adapter.

    ``others`` are more adapters on the same base. A base that is a GGUF file becomes a hard link
    or, on another disk, a copy; any other is converted to ``quantize`` (f16 by default). Raises
    ``UserError``, and writes nothing, for adapters that cannot be GGUF files of their own.
    """
    out = out.expanduser()
    kind = check_format(quantize or "f16")
    check_target(place := Target(out, overwrite, LLAMA_SERVER))
    first = resolve_adapter(run, base, trust_remote_code=trust_remote_code)
    more = [resolve_adapter(one, base, trust_remote_code=trust_remote_code) for one in others]
    found = [first, *more]
    check_apart(out, first, [run, *others])
    names = _names(found, [run, *others])
    if quantize is not None and first.base.gguf_path is not None:
        raise SettingsError(
            f"quantize: the base is a GGUF file already ({first.base.gguf_path.name})",
            hint="Leave out --quantize.",
        )
    folder, template = _described(first, names)
    checked = []
    with replacing(place) as part:
        part.mkdir()
        notes = [_put_base(first.base, part / BASE, kind, on_event)]
        for name, one in zip(names, found, strict=True):
            file = part / f"{name}.gguf"
            checked += [f"{name}: {line}" for line in _put_adapter(
                one, file, part / BASE, allow_loss=allow_loss, on_event=on_event
            )]  # fmt: skip
        if template is not None:
            write_atomic(part / TEMPLATE, template)
        write_atomic(part / "start.sh", folder.shell_script())
        (part / "start.sh").chmod(0o755)
        write_atomic(part / "start.bat", folder.batch_file().encode())
        write_atomic(part / "README.md", folder.page())
    if len({repr(one.prompt_format(one.tokenizer()).template) for one in found}) > 1:
        notes.append(f"the adapters have different chat templates; that of {names[0]} is served")
    return ServerExport(out, notes, checked)


def _names(found: Sequence[Resolved], given: Sequence[str]) -> list[str]:
    """A name for each adapter: that of its folder, as it can stand in a script."""
    first = found[0].base
    for one, name in zip(found, given, strict=True):
        if one.base.reference != first.reference:
            raise SettingsError(
                f"{name} was trained on {one.base.name}, but the base here is {first.name}",
                hint="Export it into a folder of its own.",
            )
    names = [re.sub(r"[^\w.-]", "_", Path(name).expanduser().resolve().name, flags=re.ASCII)
             .removesuffix(".gguf").lstrip("-.") or "adapter" for name in given]  # fmt: skip
    if len({name.lower() for name in [*names, "base"]}) <= len(names):
        raise SettingsError(
            f"two files would have one name: base, {', '.join(names)}",
            hint="Rename one of the run folders.",
        )
    return names


def _described(first: Resolved, names: Sequence[str]) -> tuple[ServerFolder, str | None]:
    """What the scripts say, and the chat template; None for a run on plain texts."""
    tokenizer = first.tokenizer()
    asked = first.prompt_format(tokenizer)
    stops = first.record.stop_tokens if first.record else [str(tokenizer.eos_token)]
    template = None if asked.template is None else asked.template.source
    texts = stop_texts(asked, stops)
    return ServerFolder(names, template is not None, asked.system, texts, asked.penalty), template


def _put_base(base: Base, path: Path, quantize: str, on_event: OnEvent) -> str:
    """Put the base's GGUF file there; returns how."""
    if base.gguf_path is None:
        on_event(PhaseStarted(f"Converting {base.name}"))
        write_base(base, path, quantize)
        return f"{BASE}: {base.name}, converted to {quantize}"
    source = base.gguf_path.resolve()
    try:
        os.link(source, path)
    except OSError:  # another disk, or not allowed
        check_room(path, source.stat().st_size)
        on_event(PhaseStarted(f"Copying {source.name}"))
        shutil.copyfile(source, path)
        return f"{BASE}: a copy of {source}"
    return f"{BASE}: the file {source} under another name (a hard link), which takes no space"


def _put_adapter(
    found: Resolved, path: Path, base_file: Path, *, allow_loss: bool, on_event: OnEvent
) -> list[str]:
    """Write an adapter's file and check it on the base's; returns what the check found."""
    on_event(PhaseStarted(f"Loading {found.base.name}"))
    tuned = open_model(found, "float32")
    how = {"merged": False, "on_event": on_event}
    try:
        write_run(tuned, found.adapter, path, quantize="f32", name=path.stem, **how)  # type: ignore[arg-type]
    except NotAlone as error:
        raise AdapterError(error.problems, hint=error.hint) from None
    return check_file(
        tuned, found.adapter, path, base_file=base_file, allow_loss=allow_loss, **how  # type: ignore[arg-type]
    ).lines  # fmt: skip
