"""What an export must not write over: the base model and the adapters that it is made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lorita.storage.targets import require_apart

if TYPE_CHECKING:
    from lorita.inference.resolve import Resolved

_ADVICE = "Choose another name for what is written."


def check_apart(path: Path, resolved: Resolved, adapters: Iterable[str | Path]) -> None:
    """``OutputError`` if ``path`` is, or contains, what the export is made from.

    It must not lie in the base's own folder either. ``adapters`` are those that the user named.
    """
    if not resolved.base.is_hub:
        base = resolved.base.gguf_path or Path(resolved.base.location)
        require_apart(path, [("the base model", base)], inside=False, advice=_ADVICE)
    named = [resolved.adapter, *(Path(name).expanduser() for name in adapters)]
    require_apart(path, [("the adapter", adapter) for adapter in named], advice=_ADVICE)
