"""Run notebooks as Jupyter does: in a kernel of its own, cell by cell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from nbclient import NotebookClient


def executed(notebook: Any, folder: Path, *, seconds: int = 300, **variables: str) -> Any:
    """The notebook after its cells ran in ``folder``; raises where a cell fails."""
    source = str(Path(__file__).parent.parent / "src")
    given = {"PYTHONPATH": source, "IPYTHONDIR": str(folder / ".ipython"), **variables}
    with patch.dict(os.environ, given):
        NotebookClient(
            notebook,
            timeout=seconds,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        ).execute()
    return notebook


def notebook_of(*cells: str) -> Any:
    """A notebook of these cells of code."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def outputs(cell: Any, kind: str) -> list[str]:
    """What a cell shows as ``kind``, such as ``text/html``."""
    found = [output.get("data", {}).get(kind) for output in cell.outputs]
    return [text for text in found if text is not None]
