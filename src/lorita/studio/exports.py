"""Exports of finished runs: made by the same commands as in a terminal, then downloaded."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lorita.storage.links import is_plain
from lorita.storage.run_folder import LOG_FILE, RECORD_FILE, REPORT_FILE, SETTINGS_FILE
from lorita.studio.jobs import launch, printed, printed_error
from lorita.studio.words import Told
from lorita.studio.workspace import Workspace

ADAPTER = "adapter"
ENDINGS = {
    "gguf": "-adapter.gguf",
    "gguf_merged": "-q8_0.gguf",
    "ollama": "-ollama",
    "merged": "-merged",
}
"""Kind of export: how the name of what is written ends."""
KINDS = (ADAPTER, *ENDINGS)
RUN_FILES = {"report": REPORT_FILE, "run.yaml": SETTINGS_FILE, "log": LOG_FILE}
_NOT_ZIPPED = (".lorita-lock", ".lorita-files", ".DS_Store")


@dataclass
class Export:
    """A command at work on one export."""

    name: str
    kind: str
    output: Path
    process: subprocess.Popen[bytes]
    began: float

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self.began

    def ended(self) -> bool:
        """Whether it is done; ``ExportFailed`` if it ended with an error."""
        code = self.process.poll()
        if code:
            raise ExportFailed(printed_error(self.output) or printed(self.output)[-500:])
        return code is not None


class ExportFailed(Told):
    """An export that ended with an error; ``detail`` is what its command said."""

    def __init__(self, detail: str) -> None:
        super().__init__("refused", detail=detail)


def export_arguments(workspace: Workspace, name: str, kind: str) -> list[str]:
    """The arguments of lorita that make an export."""
    run, out = str(workspace.folder / name), str(place(workspace, name, kind))
    return {
        "gguf": ["export", "gguf", run, out, "--overwrite"],
        "gguf_merged": [
            "export", "gguf", run, out, "--merged", "--quantize", "q8_0", "--overwrite",
        ],
        "ollama": ["export", "ollama", run, out, "--merged", "--overwrite"],
        "merged": ["merge", run, out, "--overwrite"],
    }[kind]  # fmt: skip


def export_command(workspace: Workspace, name: str, kind: str) -> str:
    """The same as a command for a shell; empty for the adapter, which is the run itself."""
    if kind == ADAPTER:
        return ""
    return shlex.join(["lorita", *export_arguments(workspace, name, kind)])


def place(workspace: Workspace, name: str, kind: str) -> Path:
    """Where an export of a run is written; for the adapter, the run itself."""
    if kind == ADAPTER:
        return workspace.folder / name
    return workspace.exports / f"{name}{ENDINGS[kind]}"


def begin_export(workspace: Workspace, name: str, kind: str) -> Export:
    """Start the command of an export; ``Told`` if the run is not finished."""
    if kind not in ENDINGS:
        raise Told("no_such_run")
    require_finished(workspace, name)
    workspace.make(workspace.exports)
    output = workspace.output(f"{name}.{kind}")
    workspace.make(output.parent)
    process = launch(export_arguments(workspace, name, kind), output)
    return Export(name, kind, output, process, time.monotonic())


def require_finished(workspace: Workspace, name: str) -> Path:
    """The folder of a finished run; ``Told`` if there is none of this name."""
    folder = workspace.run(name)
    if not (folder / RECORD_FILE).is_file():
        raise Told("not_finished", name=name)
    return folder


def ready(workspace: Workspace, name: str) -> list[str]:
    """The kinds of export of a run that can be downloaded now."""
    folder = workspace.folder / name
    if not (folder / RECORD_FILE).is_file():
        return []
    return [kind for kind in KINDS if place(workspace, name, kind).exists()]


def download(workspace: Workspace, name: str, kind: str) -> tuple[Path, str, bool]:
    """A file to send, the name to save it as, and whether it is to be deleted when it is sent.

    Folders are sent as a zip archive. ``Told`` if there is no such run or export.
    """
    if kind in RUN_FILES:
        path = workspace.run(name) / RUN_FILES[kind]
        if not is_plain(path):
            raise Told("no_such_run")
        return path, path.name, False
    if kind not in KINDS:
        raise Told("no_such_run")
    require_finished(workspace, name)
    path = place(workspace, name, kind)
    if is_plain(path):
        return path, path.name, False
    if not path.is_dir():
        raise Told("no_such_run")
    return _zipped(path), f"{path.name}.zip", True


def _zipped(folder: Path) -> Path:
    """The files of a folder, without checkpoints, in a new archive."""
    with tempfile.NamedTemporaryFile(prefix="lorita-", suffix=".zip", delete=False) as file:
        archive = Path(file.name)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            own = path.name in _NOT_ZIPPED or inside.parts[0].startswith("checkpoint-")
            if is_plain(path) and not own:
                zipped.write(path, Path(folder.name) / inside)
    return archive
