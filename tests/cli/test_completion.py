"""Shells complete commands, flags, choices and files; bash is asked itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command import lorita
from tests.screen import look_at

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = lorita("completion", "bash")
    assert done.code == 0, done.err
    file = tmp_path_factory.mktemp("completion") / "lorita.bash"
    file.write_text(done.out)
    return file


def completed(script: Path, line: str) -> list[str]:
    """What bash offers for the last word of the line."""
    words = line.split(" ")
    asked = (
        f"source {script}; COMP_WORDS=({' '.join(map(repr, words))}); "
        f"COMP_CWORD={len(words) - 1}; _lorita; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lorita tr", ["train"]),
        ("lorita export ", ["gguf", "ollama", "llama-server"]),
        ("lorita train --lr", ["--lr-scheduler-type"]),
        ("lorita train --use-cpu --lea", ["--learning-rate"]),
        ("lorita train --dtype b", ["bfloat16"]),
        ("lorita export gguf run out --quantize q8", ["q8_0"]),
        ("lorita completion ", ["bash", "zsh", "fish", "powershell"]),
    ],
)
def test_bash_completes(script: Path, line: str, offered: list[str]) -> None:
    assert completed(script, line) == offered


@pytest.mark.parametrize("command", ["train --data", "preview", "chat", "train --model"])
def test_files_are_completed_where_names_are_possible(
    script: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "a-long-name.csv").touch()
    (tmp_path / "rc").write_text(f"PS1='ready> '; source {script}\n")
    typed = (
        ("ready>", f"lorita {command} a-lo\t".encode()),
        ("a-long-name.csv", b"\x15exit\n"),
    )
    bash = ["bash", "--noprofile", "--rcfile", "rc", "-i"]
    seen = look_at(bash, typed=typed, cwd=tmp_path, seconds=20)
    assert f"lorita {command} a-long-name.csv" in "\n".join(seen.frames)


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_there_is_a_script_for_other_shells(shell: str) -> None:
    done = lorita("completion", shell)
    assert done.code == 0 and "scheduler" in done.out
