"""Every command and snippet in the documentation does what stands beside it.

A page is read from top to bottom in one folder, as its reader would: what an earlier command left
is there for the next one. A command in a sentence or a table is tried in a folder of its own, with
names in capitals replaced by what they mean (``MEANINGS``). What is not run here is in ``NOT_RUN``,
each with the reason. What takes longer is run by ``make slow``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from lorita.cli import COMMANDS
from tests.docs.pages import ROOT, Piece, pages, pieces, program
from tests.docs.place import OTHERS, World

MEANINGS = {
    "FILE": "prompts.csv",
    "ARCHIVO": "prompts.csv",
    "DATA": "prompts.csv",
    "CARPETA": "FOLDER",
    "M": "smollm2-135m",
    "MODEL": "smollm2-135m",
    "MODELO": "smollm2-135m",
    "BASE": "smollm2-135m",
    "OWNER/NAME": "someone/parrot",
    "…": "run.yaml",
}
"""A placeholder: what it stands for in the test. ``RUN``, ``OUT`` and the like are names as good as
any other."""

NOT_RUN = {
    r"lorita demo\b": "minutes with the bundled model; tests/slow runs it",
    r"HF_HUB_OFFLINE=1 lorita demo": "the same without a network; tests/slow runs it",
    r"torchrun|accelerate launch": "starts processes of its own; tests/runs/test_processes.py",
    r"git clone": "needs the network",
    r"pip install": "installs; that what it names exists is tested below",
    r"(LORITA_API_KEY=\S+ )?lorita serve .+": "does not end; tests/serving/test_command.py",
    r"(LORITA_STUDIO_PASSWORD=\S+ )?lorita studio.*": "does not end; tests/studio/test_page.py",
    r"lorita chat --url .+": "needs a server; tests/serving/test_chat.py",
    r"make \w+$": "minutes; that the target exists is tested below",
    r"pytest .*": "these tests are run by make; that they exist is tested below",
    r"python benchmarks/.*": "minutes; that the script exists is tested below",
    r"python docs/site/gallery.py": "minutes; tests/docs/test_site.py looks at what it made",
    r"lorita evaluate .*--lm-eval": "needs lm-eval; that it is asked for is tested below",
    r".*lorita completion": "changes a shell; tests/cli/test_completion.py asks a real one",
    r"lorita preview awesome.*": "tests/test_docs.py compares all of its output",
}
"""What is not run here, and why."""

SIZES = re.compile(r"lorita (plan|targets) bigscience/bloomz-560m(?!.*--data)")
"""These read nothing but the model's configuration, and get that of its real size."""

EXPECTED = {
    r"lorita train .*bloomz-560m.*prompts\.csv": ["files: runs/*/adapter_model.safetensors"],
    r"lorita generate .*": ["."],
    r"lorita merge \S+ (\S+).*": [r"files: \1/*.safetensors"],
    r"lorita export gguf \S+ (\S+).*": [r"files: \1"],
    r"lorita export ollama \S+ (\S+).*": [r"files: \1/Modelfile"],
    r"lorita export llama-server \S+ (\S+).*": [r"files: \1/start.sh", r"files: \1/base.gguf"],
    r"lorita push \S+ (\S+)": [r"\1"],
    r"lorita evaluate .*": ["held-out rows|rows", "general passages"],
    r"lorita compare .*": ["base", "tuned"],
    r"lorita doctor": ["Bundled model"],
    r"lorita plan bigscience/bloomz-560m .*query_key_value.*": [
        "466,944 .*559,607,808",
        r"Adapter on disk: 1\.87 MB",
    ],
    r"lorita targets .*": ["query_key_value|q_proj"],
    r"lorita sweep (?!.*find-lr).*": ["best", "files: runs/*-sweep/sweep.json"],
}
"""Command: patterns that its output must hold, or files that it must have left."""


def commands(page: Path, *, fenced: bool) -> list[Piece]:
    """The commands of a page that run here."""
    return [
        piece
        for piece in pieces(page)
        if piece.kind != "shell" or (not left_out(piece) and not mentions(piece.text))
        if piece.fenced is fenced
    ]


def left_out(piece: Piece) -> bool:
    return any(re.match(pattern, piece.text) for pattern in NOT_RUN)


def mentions(command: str) -> bool:
    """Whether a command is only named, as in "`lorita train` prints the same"."""
    words = shlex.split(command, comments=True)
    return len(words) == 2 and words[0] == "lorita" and words[1] not in ("doctor", "demo")


def as_meant(command: str) -> str:
    """A command from a sentence with its placeholders filled in."""
    for name, meaning in MEANINGS.items():
        command = re.sub(rf"(?<![\w./]){re.escape(name)}(?![\w/])", meaning, command)
    return command


def run(world: World, piece: Piece, place: Path) -> None:
    command = as_meant(piece.text)
    if program(command) in OTHERS and not piece.fenced:
        return  # it would use what a reader makes in the sentence before
    if "llama.cpp" in command and find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp is not installed")
    world.provide(command, place)
    result = world.shell(command, place, **(world.real_sizes if SIZES.match(command) else {}))
    assert result.code == 0, f"{piece}\n{result}"
    assert shape(piece.output) <= shape(result.out), f"{piece}\n{result}"
    expect(piece, command, place, result.out + result.err)


def shape(text: str) -> set[str]:
    """The lines without their figures."""
    return {re.sub(r"\d[\d,.]*", "#", line.strip()) for line in text.splitlines()} - {""}


def expect(piece: Piece, command: str, place: Path, printed: str) -> None:
    for pattern, wanted in EXPECTED.items():
        match = re.fullmatch(pattern, command.partition("  #")[0].strip())
        for what in wanted if match else ():
            filled = match.expand(what) if "\\" in what else what
            if filled.startswith("files: "):
                assert list(place.glob(filled.removeprefix("files: "))), f"{piece}\nno {filled}"
            else:
                assert re.search(filled, printed), f"{piece}\nno {filled!r} in:\n{printed}"


def first_few(page: Path) -> pytest.ParameterSet:
    """The pages that a newcomer reads are tried each time; the others with ``-m slow``."""
    quick = page.stem.startswith("README") or page.stem in ("lora", "models", "plan", "use")
    return pytest.param(page, id=page.name, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("page", map(first_few, pages()))
def test_blocks_of_a_page(page: Path, world: World) -> None:
    found = commands(page, fenced=True)
    if page.name == "README.es.md":  # tests/test_readme_es.py: its blocks are the English ones
        found = []
    place = world.new_place(page.stem)
    snippets = [piece for piece in found if piece.kind == "python"]
    for piece in found:
        if piece.kind == "shell":
            run(world, piece, place)
        elif piece.kind == "yaml":
            name = re.match(r"# (\S+\.yaml)\n", piece.text)
            assert name, f"{piece}: the first line names the file"
            (place / name[1]).write_text(piece.text, encoding="utf-8")
        elif piece is snippets[-1]:
            run_snippets(world, snippets, place)


def run_snippets(world: World, snippets: list[Piece], place: Path) -> None:
    """All snippets of a page as one script: a later one uses the names of an earlier one."""
    text = "\n".join(piece.text for piece in snippets)
    (place / "snippets.py").write_text(PRELUDE + text, encoding="utf-8")
    world.provide(text, place)
    result = world.shell("python snippets.py", place)
    assert result.code == 0, f"{snippets[0].page}\n{result}"


PRELUDE = """
import lorita
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained("bigscience/bloomz-560m")
peft_model = get_peft_model(base, LoraConfig(r=4, target_modules=["query_key_value"]))
dataset = Dataset.from_list([{"text": f"Row number {i}."} for i in range(24)])
del base
"""
"""What the pages take for granted: "your own script" has a PEFT model, and a data set."""


TAKES_LONGER = re.compile(r"lorita (train|sweep|evaluate|merge|export|doctor)|.*llama.cpp")


def inline() -> Iterator[pytest.ParameterSet]:
    """Commands in sentences and tables, each once."""
    found: dict[str, Piece] = {}
    for page in pages():
        for piece in commands(page, fenced=False):
            found.setdefault(as_meant(piece.text), piece)
    for piece in found.values():
        marks = pytest.mark.slow if TAKES_LONGER.match(piece.text) else ()
        yield pytest.param(piece, id=piece.text, marks=marks)


@pytest.mark.parametrize("piece", inline())
def test_command_in_a_sentence(piece: Piece, world: World) -> None:
    place = world.new_place(f"line-{Path(piece.page).stem}-{piece.line}-{abs(hash(piece.text))}")
    run(world, piece, place)


def test_commands_that_are_only_named_exist() -> None:
    for page in pages():
        for piece in pieces(page):
            if piece.kind == "shell" and mentions(piece.text):
                assert piece.text.split()[1] in COMMANDS, piece


def everything(name: str) -> list[Piece]:
    """All commands of one program."""
    return [
        piece
        for page in pages()
        for piece in pieces(page)
        if piece.kind == "shell" and program(piece.text) == name
    ]


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for piece in everything("make"):
        assert re.search(rf"^{piece.text.split()[1]}:", makefile, re.MULTILINE), piece


def test_tests_and_scripts_that_are_named_exist() -> None:
    for piece in [*everything("pytest"), *everything("python")]:
        for word in shlex.split(piece.text)[1:]:
            if "/" in word:
                assert (ROOT / word).exists(), piece


def test_what_pip_is_told_to_install_is_ours() -> None:
    about = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = re.search(r"^\[project.optional-dependencies\]\n(.*?)^\[", about, re.M | re.S)
    assert extras
    for piece in everything("pip"):
        for word in shlex.split(piece.text, comments=True)[2:]:
            if extra := re.fullmatch(r"(?:lorita|\.)\[(\w+)\]", word):
                assert re.search(rf"^{extra[1]} = ", extras[1], re.MULTILINE), piece
            elif "==" in word:
                assert word in makefile, piece
            elif word.endswith(".txt"):
                assert (ROOT / word).exists(), piece


def test_lm_eval_is_asked_for(world: World) -> None:
    if find_spec("lm_eval") is not None:
        pytest.skip("lm-eval is installed")
    place = world.new_place("lm-eval")
    [piece] = [p for p in everything("lorita") if "--lm-eval" in p.text]
    world.provide(piece.text, place)
    result = world.shell(piece.text, place)
    assert result.code == 2
    assert "pip install lm-eval" in result.err
