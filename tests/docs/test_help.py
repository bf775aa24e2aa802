"""Commands and flags that help texts and messages name exist."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module

import pytest

from lorita.cli import COMMANDS, EXPORTS
from lorita.settings.aliases import ALIASES
from lorita.settings.schema import RunSettings
from tests.docs.pages import ROOT

MODULES = {
    **{name: f"lorita.cli.{name}" for name in COMMANDS if name != "export"},
    **{f"export {name}": f"lorita.cli.export_{name.replace('-', '_')}" for name in EXPORTS},
}
OTHERS = {"help", "version"}
_COMMAND = re.compile(r"lorita ((?:export )?[a-z]+)((?: (?:--)?[\w./{}-]+)*)")
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?![\w-])")


def flags(module: str) -> set[str]:
    """The flags of a command, without their hyphens."""
    from lorita.cli.options import Sampling

    names = set()
    for name, parameter in inspect.signature(import_module(module).command).parameters.items():
        names.add(name)
        kind = getattr(import_module(module), str(parameter.annotation), parameter.annotation)
        undecided = parameter.default is None and "bool" in str(kind)
        if parameter.default is True or undecided:
            names.add(f"no_{name}")
        if "Sampling" in str(parameter.annotation):
            names |= set(Sampling.__dataclass_fields__)
        for found in re.findall(r"--([a-z][a-z-]+)", str(parameter.annotation)):
            names.add(found)
    return {name.replace("_", "-") for name in names}


EVERY = {
    *(name.replace("_", "-") for name in (*RunSettings.model_fields, *ALIASES)),
    *(f"no-{name.replace('_', '-')}" for name in RunSettings.model_fields),
    *OTHERS,
    *(flag for module in MODULES.values() for flag in flags(module)),
}


def texts() -> Iterator[tuple[str, str]]:
    """All texts in the source that people may see, each with where it is."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.name}:{node.lineno}", " ".join(node.value.split())
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "X" for p in node.values)
                yield f"{path.name}:{node.lineno}", " ".join("".join(map(str, parts)).split())


def test_commands_that_are_named_exist() -> None:
    seen = 0
    for place, text in texts():
        for command, rest in _COMMAND.findall(text.replace("``", "")):
            first = command.split()[0]
            if " --" not in rest and first not in COMMANDS:
                continue  # prose: "lorita trains", "lorita reads"
            assert first in COMMANDS, f"{place}: lorita {command}{rest}"
            for flag in _FLAG.findall(rest):
                assert flag in EVERY, f"{place}: lorita {command}{rest}"
            seen += 1
    assert seen > 20


def test_flags_that_are_named_exist() -> None:
    for place, text in texts():
        for flag in _FLAG.findall(text):
            assert flag in EVERY | FOREIGN, f"{place}: --{flag}"


FOREIGN = {
    "jinja", "lora", "no-deps", "modelfile", "nproc-per-node", "alias", "chat-template-file",
    "temp", "repeat-penalty", "repeat-last-n", "lora-init-without-apply", "no-cache-prompt",
    "merge", "upgrade", "mmproj",
}  # fmt: skip
"""Flags of other programs: llama.cpp, pip, Ollama, torchrun."""


@pytest.mark.parametrize("command", MODULES)
def test_examples_in_the_help_of_a_command_use_its_own_flags(command: str) -> None:
    if command in ("train", "plan", "sweep", "preview"):
        own = EVERY
    else:
        own = flags(MODULES[command]) | OTHERS | {"data", "no-probe"}
    for flag in _FLAG.findall(import_module(MODULES[command]).command.__doc__ or ""):
        assert flag in own
