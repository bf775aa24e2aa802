"""Models found in a folder with the layout of Ollama's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from lorita.errors import ModelError
from lorita.models.base import find_base
from lorita.models.ollama_store import find_ollama

GGUF = b"GGUF\3\0\0\0 and the rest"


def put(store: Path, place: str, layers: dict[str, bytes], **sizes: int) -> None:
    """A model as ``ollama pull`` leaves it."""
    described = []
    for kind, content in layers.items():
        digest = hashlib.sha256(content).hexdigest()
        blob = store / "blobs" / f"sha256-{digest}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        described.append(
            {
                "mediaType": f"application/vnd.ollama.image.{kind}",
                "digest": f"sha256:{digest}",
                "size": sizes.get(kind, len(content)),
            }
        )
    manifest = store / "manifests" / place
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": described}))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    put(
        tmp_path,
        "registry.ollama.ai/library/smollm2/135m",
        {"model": GGUF, "template": b"{{ .Prompt }}", "license": b"Apache License"},
    )
    put(tmp_path, "hf.co/someone/tiny-GGUF/Q8_0", {"model": GGUF + b"8"})
    return tmp_path


def test_by_name(store: Path) -> None:
    found = find_ollama("smollm2:135m")
    assert found.gguf.read_bytes() == GGUF
    assert found.license == "Apache License"
    assert find_ollama("hf.co/someone/tiny-GGUF:Q8_0").gguf.read_bytes() == GGUF + b"8"
    assert find_ollama("library/smollm2:135m") == find_ollama("smollm2:135m").__class__(
        "library/smollm2:135m", found.gguf, found.license
    )
    base = find_base("ollama:smollm2:135m")
    assert base.name == "ollama:smollm2:135m"
    assert base.gguf_path == found.gguf


def test_refused(store: Path) -> None:
    put(store, "registry.ollama.ai/library/cut/latest", {"model": GGUF + b"?"}, model=10_000)
    put(store, "registry.ollama.ai/library/tuned/latest", {"model": GGUF, "adapter": GGUF})
    put(store, "registry.ollama.ai/library/sees/latest", {"model": GGUF, "projector": GGUF})
    put(store, "registry.ollama.ai/library/cloud/latest", {"template": b"x"})
    broken = store / "manifests/registry.ollama.ai/library/broken/latest"
    broken.parent.mkdir()
    broken.write_text("{")
    said = {
        "smollm2": "smollm2:135m",  # no tag means latest; available models are listed
        "../x": "not a valid Ollama model name",
        "cut": "of 10,000 bytes",
        "tuned": "an adapter on a base",
        "sees": "a vision model",
        "cloud": "0 files",
        "broken": "not valid JSON",
    }
    for name, words in said.items():
        with pytest.raises(ModelError) as refused:
            find_base(f"ollama:{name}")
        assert words in str(refused.value), name
    with pytest.raises(ModelError, match=r"hf\.co/someone/tiny-GGUF:Q8_0"):
        find_base("ollama:nothing")
