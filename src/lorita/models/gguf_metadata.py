"""The metadata of one GGUF file, as questions about its architecture.

Each key that is asked for counts as understood. What is left over may change what the model
computes, so that whoever reads a configuration refuses it (``refuse_unknown``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import ModelError

if TYPE_CHECKING:
    from lorita.models.gguf_header import Header

OTHERWISE = "Use the model's folder in Hugging Face format."


class Metadata:
    """The keys of a file's architecture, without its name in front, and the tensors' names."""

    def __init__(self, path: Path, header: Header, tensors: Mapping[str, Any]) -> None:
        self.path, self.header, self.tensors = path, header, tensors
        self.architecture = str(header.get("general.architecture"))
        self._asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """A value; floats are the shortest that are the same in the file's float32."""
        import numpy as np

        self._asked.add(key)
        value = self.header.get(f"{self.architecture}.{key}", default)
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def number(self, key: str, default: float | None = None) -> Any:
        """A number; ``ModelError`` if there is something else, or nothing and no default."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            found = "missing" if value is None else f"{str(value)[:40]!r}, no number"
            raise self.error(f"{self.architecture}.{key} is {found}")
        return value

    def per_layer(self, key: str, layers: int, default: int) -> list[int]:
        """A whole number for each layer, of which the file may have one for all."""
        value = self.get(key, default)
        values = value if isinstance(value, list) else [value] * layers
        if len(values) != layers or any(not isinstance(each, int) for each in values):
            raise self.error(f"{self.architecture}.{key} has no number for each layer")
        return values

    def must_be(self, key: str, *wanted: Any) -> None:
        """``ModelError`` if the file has another value of a key than these."""
        value = self.get(key)
        if value is not None and value not in wanted:
            raise self.error(f"{self.architecture}.{key} is {value!r}, which is not supported")

    def asked(self, key: str) -> bool:
        """Whether somebody has asked for this key."""
        return key in self._asked

    def unasked(self) -> list[str]:
        """The architecture's keys for which nobody has asked."""
        start = f"{self.architecture}."
        keys = {key.removeprefix(start) for key in self.header.entries if key.startswith(start)}
        return sorted(keys - self._asked)

    def token(self, name: str) -> int | None:
        """The id of a special token."""
        value = self.header.get(f"tokenizer.ggml.{name}_token_id")
        return value if isinstance(value, int) else None

    def refuse_unknown(self, harmless: set[str]) -> None:
        """``ModelError`` that names the keys which nobody has asked for."""
        unknown = [key for key in self.unasked() if key not in harmless]
        if unknown:
            names = ", ".join(f"{self.architecture}.{key}" for key in unknown[:5])
            raise self.error(f"lorita does not know what it says about the model ({names})")

    def error(self, problem: str) -> ModelError:
        """An error about this file."""
        return ModelError(f"{self.path}: GGUF metadata: {problem}", hint=OTHERWISE)
