"""Models that Ollama has downloaded, read from its folder; Ollama need not be running.

``manifests/HOST/NAMESPACE/MODEL/TAG`` lists the layers of a model, ``blobs/sha256-…`` holds them.
Nothing is written there, and nothing is downloaded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from lorita.errors import ModelError
from lorita.storage.reading import read_object

PREFIX = "ollama:"
_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_LAYER = "application/vnd.ollama.image."
_NAME = re.compile(
    r"(?:(?:(?P<host>[\w.:-]+)/)?(?P<space>[\w-]+)/)?(?P<model>[\w.-]+)(?::(?P<tag>[\w.-]+))?"
)


class Layer(BaseModel):
    """A part of a model: its kind, and the blob that holds it."""

    model_config = ConfigDict(extra="allow")

    mediaType: str
    digest: Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}:[0-9a-f]{1,200}$")]
    size: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """What Ollama writes about a model."""

    model_config = ConfigDict(extra="allow")

    layers: list[Layer]


@dataclass(frozen=True)
class OllamaModel:
    """A model in Ollama's folder: its ``name`` in Ollama, the ``gguf`` file of its weights."""

    name: str
    gguf: Path
    license: str | None = None


def store_folder() -> Path:
    """Where Ollama keeps its models: ``OLLAMA_MODELS``, or the user's or the service's folder."""
    if os.environ.get("OLLAMA_MODELS"):
        return Path(os.environ["OLLAMA_MODELS"]).expanduser()
    own = Path.home() / ".ollama" / "models"
    service = Path("/usr/share/ollama/.ollama/models")  # Ollama's installer for Linux
    return service if not own.is_dir() and service.is_dir() else own


def list_ollama() -> list[str]:
    """The models in Ollama's store under the names that lorita takes; none if there is no store."""
    store = store_folder()
    return [
        f"{PREFIX}{_shown(path.relative_to(store / 'manifests'))}" for path in _manifests(store)
    ]


def find_ollama(name: str) -> OllamaModel:
    """The model that Ollama calls ``name`` (``llama3.2:1b``).

    Raises ``ModelError`` if it is not downloaded, damaged, or not a plain text model.
    """
    store = store_folder()
    match = _NAME.fullmatch(name)
    if match is None:
        raise ModelError(f"{PREFIX}{name}: not a valid Ollama model name (such as llama3.2:1b)")
    parts = match.groupdict()
    place = Path(parts["host"] or _HOST, parts["space"] or _NAMESPACE, parts["model"])
    manifest = store / "manifests" / place / (parts["tag"] or _TAG)
    if not manifest.is_file():
        raise ModelError(f"{PREFIX}{name}: Ollama has no such model in {store}", hint=_hint(store))
    layers = _layers(name, manifest)
    if "adapter" in layers or "projector" in layers:
        what = "an adapter on a base" if "adapter" in layers else "a vision model"
        raise ModelError(
            f"{PREFIX}{name}: this is {what}; only plain text models can be trained",
            hint="Use the base itself (ollama show NAME --modelfile names it).",
        )
    weights = layers.get("model", [])
    if len(weights) != 1:
        raise ModelError(
            f"{PREFIX}{name}: its weights are in {len(weights)} files; lorita reads only one"
        )
    license_file = _blob(store, layers["license"][0]["digest"]) if "license" in layers else None
    return OllamaModel(
        name,
        _weights(store, name, weights[0]),
        license_file.read_text(encoding="utf-8", errors="replace")
        if license_file and license_file.is_file()
        else None,
    )


def _hint(store: Path) -> str:
    there = [_shown(path.relative_to(store / "manifests")) for path in _manifests(store)]
    has = f"Available: {', '.join(there[:10])}. " if there else ""
    return f"{has}Download it with: ollama pull NAME. OLLAMA_MODELS sets another folder."


def _manifests(store: Path) -> list[Path]:
    return sorted(path for path in (store / "manifests").glob("*/*/*/*") if path.is_file())


def _shown(place: Path) -> str:
    """A manifest's path as the short name that people type."""
    host, space, model, tag = place.parts
    front = "" if (host, space) == (_HOST, _NAMESPACE) else f"{space}/"
    front = front if host == _HOST else f"{host}/{front}"
    return f"{front}{model}:{tag}"


def _layers(name: str, manifest: Path) -> dict[str, list[dict[str, Any]]]:
    """The layers of a manifest by kind: model, template, license, adapter, …"""
    found: dict[str, list[dict[str, Any]]] = {}
    hint = f"Download the model again: ollama pull {name}."
    for layer in read_object(manifest, Manifest, ModelError, hint=hint)["layers"]:
        found.setdefault(layer["mediaType"].removeprefix(_LAYER), []).append(layer)
    return found


def _weights(store: Path, name: str, layer: dict[str, Any]) -> Path:
    blob = _blob(store, layer["digest"])
    size = blob.stat().st_size if blob.is_file() else 0
    if size != layer["size"] or size == 0:
        raise ModelError(
            f"{PREFIX}{name}: its weights are incomplete: {blob} has {size:,} of "
            f"{layer['size']:,} bytes",
            hint=f"Download the model again: ollama pull {name}.",
        )
    return blob


def _blob(store: Path, digest: str) -> Path:
    return store / "blobs" / digest.replace(":", "-")
