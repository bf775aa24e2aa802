"""The folder for ``llama-server``: its files, its scripts, and requests as its page shows them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lorita.cli import run as lorita
from lorita.export.llamacpp.server_text import ServerFolder
from lorita.inference.llamacpp import LlamaCpp
from lorita.models.adapter import save_adapter
from tests.command import refused
from tests.export import models
from tests.export.gguf.test_gguf import write_model
from tests.export.merged.test_merge import saved

IDS = [5, 30, 100, 200, 7, 9]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters on a GGUF file."""
    folder = tmp_path_factory.mktemp("server")
    idle = models.with_adapter(models.make_model("llama"), zero=True)
    base = write_model(idle, folder / "model.gguf", "f32")
    for name, scale in (("red", 1.0), ("blue one", -1.0)):
        tuned = models.with_adapter(models.make_model("llama"))
        for key, parameter in tuned.named_parameters():
            if "lora_B" in key:
                parameter.data *= scale
        for config in tuned.peft_config.values():
            config.base_model_name_or_path = str(base)
        (folder / name).mkdir()
        save_adapter(tuned, folder / name)
    return folder


def export(*arguments: object) -> int:
    return lorita(["export", "llama-server", *map(str, arguments)])


def test_one_adapter(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert export(place / "red", out) == 0
    names = {".lorita-files", "README.md", "base.gguf", "red.gguf", "start.bat", "start.sh"}
    assert {path.name for path in out.iterdir()} == names
    said = capsys.readouterr().out
    linked = (out / "base.gguf").samefile(place / "model.gguf")
    assert ("a hard link" if linked else "a copy") in said
    assert "red: llama.cpp:" in said
    assert "--lora red.gguf" in (out / "start.sh").read_text()
    assert "init-without-apply" not in (out / "start.sh").read_text()
    assert (out / "start.bat").read_bytes().count(b"\r\n") == 4
    assert export(place / "red", out) == 2
    assert export(place / "red", out, "--overwrite") == 0
    assert (place / "model.gguf").is_file()


def test_the_script_starts_llama_server(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "a place"
    assert export(place / "red", out, "--adapter", place / "blue one") == 0
    stub = tmp_path / "bin" / "llama-server"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\npwd\nfor word; do echo "$word"; done\n')
    stub.chmod(0o755)
    done = subprocess.run(
        [out / "start.sh", "--port", "9000"], capture_output=True, text=True, check=True,
        env={**os.environ, "PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    folder, *words = done.stdout.splitlines()
    assert Path(folder).samefile(out)
    assert words[-2:] == ["--port", "9000"]
    files = [word for word in words if word.endswith(".gguf")]
    assert files == ["base.gguf", "red.gguf", "blue_one.gguf"]
    assert all((out / file).is_file() for file in files)
    assert {"--lora-init-without-apply", "--no-cache-prompt"} <= set(words)


def test_requests_as_the_page_shows_them(place: Path, tmp_path: Path) -> None:
    """llama.cpp's own server takes them, and answers with the adapter that they name."""
    out = tmp_path / "out"
    assert export(place / "red", out, "--adapter", place / "blue one") == 0
    page = (out / "README.md").read_text()
    red, none = (json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", page))
    shown = re.search(r"-d '(.*)'\n", page)
    assert shown is not None
    assert json.loads(shown[1])["lora"] == red["lora"]
    assert [one["scale"] for one in none["lora"]] == [0, 0]
    both = LlamaCpp(out / "base.gguf", adapters=[out / "red.gguf", out / "blue_one.gguf"])
    alone = LlamaCpp(out / "base.gguf", adapter=out / "red.gguf")
    base = LlamaCpp(out / "base.gguf")

    def said(server: LlamaCpp, **more: Any) -> list[int]:
        body = {"prompt": IDS, "n_predict": 12, "temperature": 0, "return_tokens": True,
                "cache_prompt": False, **more}  # fmt: skip
        return list(server._ask("completion", body)["tokens"])

    assert said(both, **red) == said(alone)
    assert said(both, **none) == said(base) != said(alone)
    found = both._ask("v1/completions", json.loads(shown[1]))
    assert found["choices"][0]["text"] is not None


def test_a_base_that_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = models.save_base(tmp_path / "base", "llama")
    run = saved(tmp_path / "run", base)
    assert export(run, tmp_path / "out") == 0
    assert "converted to f16" in capsys.readouterr().out
    assert (tmp_path / "out/base.gguf").stat().st_size > 1000


def test_what_cannot_be_served(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = models.save_base(tmp_path / "base", "llama")
    dora = saved(tmp_path / "dora", base, use_dora=True)
    out = tmp_path / "out"
    before = set(tmp_path.iterdir())
    for arguments, said in (
        ([dora, out], "a GGUF adapter cannot hold"),
        ([place / "red", out, "--adapter", place / "red"], "two files would have one name"),
        ([place / "red", out, "--adapter", dora], "but the base here is"),
        ([place / "red", out, "--quantize", "q8_0"], "a GGUF file already"),
        ([place / "red", place], "already exists"),
        ([place / "red", out, "--quantize", "q4_k"], "cannot write this format"),
    ):
        assert said in refused(capsys, "export", "llama-server", *arguments)
    assert set(tmp_path.iterdir()) == before


def test_chats_get_their_template_and_system_message() -> None:
    folder = ServerFolder(["cook"], True, 'You\'re a "cook".', ["<|im_end|>"], 1.1)
    assert "--jinja --chat-template-file chat_template.jinja" in folder.shell_script()
    assert folder.path in folder.page()
    shown = re.search(r"-d (.*)\n", folder.page())
    assert shown is not None
    import shlex

    (body,) = shlex.split(shown[1])
    assert json.loads(body)["messages"][0] == {"role": "system", "content": 'You\'re a "cook".'}
    assert json.loads(body)["stop"] == ["<|im_end|>"]
