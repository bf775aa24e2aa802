"""The types of Python calls are those of the one definition of the options."""

from __future__ import annotations

import subprocess
import sys
import typing
from dataclasses import fields
from pathlib import Path

import pytest

from lorita.inference.options import GenerationArguments, GenerationOptions
from lorita.settings.build import build_settings
from lorita.settings.schema import RunSettings
from tests.settings import arguments

RIGHT = """
from pathlib import Path
import lorita

def watch(event: lorita.Event) -> None:
    if isinstance(event, lorita.StepDone):
        print(event.loss)

run = lorita.train(model="m", data="a.csv", r=4, target_modules=["q_proj"], on_event=watch)
run.generate("x", max_new_tokens=3)
lorita.train(config="run.yaml", data=Path("a.csv"), output_dir="out", learning_rate=1)
lorita.train(model=Path("m"), data=[{"text": "x"}], map_row=lambda row: None)
lorita.sweep({"r": [4, 16]}, model="m", data=["a", "b"], layers_to_transform=[0, 1])
lorita.preview(model="m", data={"text": ["x"]}, train_on="completion")
lorita.load("runs/x").generate_batch(["x"], do_sample=True)
report: lorita.SpeedupReport = lorita.speedup(run.tuned.model)
options = lorita.GenerationOptions(temperature=0.5)
try:
    lorita.evaluate("runs/x")
except (lorita.UserError, lorita.RunFailed, lorita.Interrupted) as error:
    print(error.hint)
"""
CONFIG = """
[mypy]
strict = true
[mypy-lorita.*]
follow_imports = silent
disallow_subclassing_any = false
[mypy-torch.*,transformers.*,peft.*,datasets.*,pydantic.*,numpy.*,safetensors.*,huggingface_hub.*]
follow_imports = skip
[mypy-rich.*,accelerate.*,yaml.*,jinja2.*,tokenizers.*,gguf.*,pyarrow.*,xllamacpp.*,psutil.*]
follow_imports = skip
"""
WRONG = {
    'lorita.train(model=3, data="a")': 'Argument "model"',
    'lorita.train(model="m", datta="x")': '"datta"',
    'lorita.train(model="m", data="a", r="4")': 'Argument "r"',
    'lorita.train(model="m", data="a", bias="some")': 'Argument "bias"',
    'lorita.sweep({"r": [4]}, model="m", data="a", seeds=3)': '"seeds"',
    'lorita.preview(model="m", data="a", max_length="long")': 'Argument "max_length"',
    'lorita.load("r").generate("x", max_tokens=3)': '"max_tokens"',
    'lorita.load("r", dtyp="auto")': '"dtyp"',
    "lorita.GenerationOptions(temperatur=1)": '"temperatur"',
    "lorita.trian()": '"trian"',
}


def test_the_file_is_what_its_definition_gives() -> None:
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(arguments.FILE), "-"],
        input=arguments.source(),
        capture_output=True,
        text=True,
        check=True,
        cwd=arguments.FILE.parents[3],
    ).stdout
    assert arguments.FILE.read_text() == formatted, "run python -m tests.settings.arguments"


def test_every_option_is_an_argument() -> None:
    from lorita.settings.arguments import Options

    assert list(Options.__annotations__) == list(RunSettings.model_fields)


def test_generation_arguments_are_the_options() -> None:
    told = typing.get_type_hints(GenerationArguments)
    assert told == typing.get_type_hints(GenerationOptions)
    assert list(told) == [field.name for field in fields(GenerationOptions)]


@pytest.mark.parametrize("data", [Path("a.csv"), [Path("a.csv"), "b.csv"], "a.csv"])
def test_paths_are_taken(data: object) -> None:
    settings = build_settings(model=Path("base"), data=data, output_dir="out")
    assert (settings.model, settings.data[0]) == ("base", "a.csv")


def test_mypy_sees_mistakes(tmp_path: Path) -> None:
    """In one run, and without a look into other libraries: that would take minutes."""
    (tmp_path / "mypy.ini").write_text(CONFIG)
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text("import lorita\n" + "\n".join(WRONG) + "\n")
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "right.py", "wrong.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    ).stdout
    lines = [line for line in told.splitlines() if ": error: " in line]
    assert not [line for line in lines if "wrong.py" not in line], told
    for number, (call, said) in enumerate(WRONG.items(), start=2):
        about = [line for line in lines if f"wrong.py:{number}:" in line]
        assert len(about) == 1 and said in about[0], (call, told)
