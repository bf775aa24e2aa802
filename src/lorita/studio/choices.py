"""The models that the page offers; any other is typed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from lorita.models.base import BUNDLED
from lorita.models.ollama_store import list_ollama
from lorita.studio.words import Words
from lorita.studio.workspace import Workspace

MOST = 50


def model_choices(words: Words, workspace: Workspace) -> list[tuple[str, str]]:
    """What is on this machine, as (shown, name): bundled models, Ollama's, GGUF files, folders."""
    found = [
        (words("bundled", name=name), name)
        for name, (package, *_) in BUNDLED.items()
        if find_spec(package) is not None
    ]
    try:
        names = list_ollama()
    except OSError:
        names = []
    names += _beside(Path())
    used = workspace.draft.fields.get("model")
    names += [used] if used and used not in names and used not in BUNDLED else []
    return [*found, *((name, name) for name in names[:MOST])]


def default_model(words: Words, workspace: Workspace) -> str:
    """The model that is chosen at first: what was used last, else the first there is."""
    choices = model_choices(words, workspace)
    return workspace.draft.fields.get("model") or (choices[0][1] if choices else "")


def _beside(folder: Path) -> list[str]:
    """GGUF files and model folders in the folder in which the studio was started."""
    try:
        inside = sorted(folder.iterdir())[:1000]
    except OSError:
        return []
    return [
        str(path)
        for path in inside
        if (path.suffix.lower() == ".gguf" and path.is_file())
        or ((path / "config.json").is_file() and any(path.glob("*.safetensors")))
    ]
