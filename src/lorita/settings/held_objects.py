"""What comes with the settings of a run and is no option: objects that Python code passes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, PrivateAttr


class Holding(BaseModel):
    """Settings that hold objects beside their options."""

    # What Python code passes instead of a name, and the settings file; neither is written to one.
    _objects: dict[str, Any] = PrivateAttr(default_factory=dict)

    def given(self, name: str) -> Any:
        """What Python code passed as this option, or ``file_wishes.FROM_FILE``; else None."""
        return self._objects.get(name)

    def hold(self, objects: dict[str, Any]) -> None:
        """Keep what came with the settings, beside what is kept; ``given`` returns it."""
        self._objects = {**self._objects, **objects}
