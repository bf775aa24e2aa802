"""Which Python code a base model brings along, to be shown and recognised. None of it is run."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from lorita.models.base import Base

_ELSEWHERE = re.compile(rb'"([\w.-]+/[\w.-]+)--[\w.]+"')
"""How a configuration names a class in another repository of the hub."""


@dataclass(frozen=True)
class BaseCode:
    """``files`` say what would be run, for people; ``content`` is a hash of it.

    Of a hub model, ``content`` is its commit. Code in other repositories is named, not hashed.
    """

    files: tuple[str, ...]
    content: str


def base_code(base: Base) -> BaseCode | None:
    """The code of a base; None where it has none, as a GGUF file, or a folder without any."""
    if base.gguf_file is not None:
        return None
    if base.is_hub:
        what = f"the code in {base.location} on the hub, at commit {base.revision}"
        return BaseCode((what,), f"{base.location}@{base.revision}")
    folder = Path(base.location)
    files, others = [], set()
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.py"), *folder.glob("*.json")]):
        if not path.is_file() or (path.suffix == ".json" and not _names_code(path)):
            continue
        content = path.read_bytes()
        inner = hashlib.sha256(content).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{inner}\0".encode())
        if path.suffix == ".py":
            files.append(f"{path} (sha256 {inner})")
        else:
            others |= {name.decode() for name in _ELSEWHERE.findall(content)}
    files += [f"the code in {name} on the hub" for name in sorted(others)]
    return BaseCode(tuple(files), digest.hexdigest()) if files else None


def _names_code(path: Path) -> bool:
    """Whether a JSON file of a model names classes; a vocabulary, the longest of them, does not."""
    return path.name.endswith("config.json") and b'"auto_map"' in path.read_bytes()
