"""Valid files of every kind that lorita reads, tiny, made once; ``mutations`` then breaks them.

Everything lies in one folder: a base in several forms, a run with checkpoints, adapters of other
programs, and training data. No file names another by its path, except through ``PLACE``, which each
case replaces with its own copy of the folder.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import tiny

PLACE = "@PLACE@"
TRAIN = "--max-steps 2 --save-steps 1 --per-device-train-batch-size 2 --dtype float32 --r 2"
ONE_STEP = "--max-steps 1 --eval-fraction 0.25 --max-new-tokens 1 --use-cpu --no-proof"
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@dataclass(frozen=True)
class Target:
    """A file to break, and the commands that read it. ``PLACE`` is the folder of the case."""

    file: str
    commands: tuple[str, ...]


_BASE = "--base PLACE/model"
_MODEL = ("targets PLACE/model", "plan PLACE/model", "generate PLACE/model hello")
_PUSH = "push PLACE/run someone/run --base-model a/b"
_TUNED = (
    "generate PLACE/run hello",
    "merge PLACE/run PLACE/out",
    "export gguf PLACE/run PLACE/out.gguf",
    "export gguf PLACE/run PLACE/out.gguf --merged",
    f"export ollama PLACE/run PLACE/out {_BASE}",
    "evaluate PLACE/run",
    "compare PLACE/run",
    "compare PLACE/run --prompt hello",
    _PUSH,
)
_AGAIN = ("train PLACE/run --overwrite", "plan PLACE/run/run.yaml")
_RESUME = ("train PLACE/run --resume",)
_FROM = ("train PLACE/run --resume-from-checkpoint PLACE/run/checkpoint-1",)
_CHECKPOINT = (f"generate PLACE/run/checkpoint-1 hello {_BASE}",)
_CHAT = "preview PLACE/data/chat.jsonl --model PLACE/model"
_SAVED = ("preview PLACE/saved --model PLACE/model",)
_OTHER = (f"generate PLACE/mlx hello {_BASE}", f"merge PLACE/mlx PLACE/out {_BASE}")


def _data(name: str, more: str = "") -> Target:
    read = f"PLACE/data/{name} --model PLACE/model {more}"
    train = f"train --data {read} --output-dir PLACE/new {ONE_STEP}"
    return Target(f"data/{name}", (f"preview {read}", train))


TARGETS = (
    Target("model/config.json", (*_MODEL, *_AGAIN)),
    Target("model/generation_config.json", (_MODEL[2], _TUNED[1])),
    Target("model/tokenizer_config.json", (_MODEL[2], _CHAT)),
    Target("model/tokenizer.json", (_MODEL[2], "preview PLACE/data/a.csv --model PLACE/model")),
    Target("model/chat_template.jinja", (_CHAT,)),
    Target("model/model.safetensors", (_MODEL[2], _TUNED[0])),
    Target(
        "sharded/model.safetensors.index.json",
        ("generate PLACE/sharded hello", "plan PLACE/sharded"),
    ),
    Target("run/adapter_config.json", _TUNED),
    Target("run/adapter_model.safetensors", _TUNED),
    Target("run/lorita.json", _TUNED),
    Target("run/run.yaml", ("evaluate PLACE/run", *_AGAIN, *_RESUME)),
    Target("run/log.jsonl", (*_RESUME, *_FROM)),
    Target("run/compare.json", ("compare PLACE/run",)),
    Target("run/tokenizer_config.json", _TUNED),
    Target("run/tokenizer.json", _TUNED),
    Target("run/README.md", (_PUSH, *_RESUME)),
    Target("run/checkpoint-1/trainer_state.json", _FROM),
    Target("run/checkpoint-1/trainer_state.safetensors", _FROM),
    Target("run/checkpoint-1/adapter_model.safetensors", (*_FROM, *_CHECKPOINT)),
    Target("run/checkpoint-1/adapter_config.json", (*_FROM, *_CHECKPOINT)),
    Target("mlx/adapter_config.json", _OTHER),
    Target("mlx/adapters.safetensors", _OTHER),
    Target(
        "base.gguf",
        (
            "targets PLACE/base.gguf",
            "plan PLACE/base.gguf",
            "generate PLACE/base.gguf hello",
            "generate PLACE/adapter.gguf hello --base PLACE/base.gguf",
        ),
    ),
    Target("adapter.gguf", tuple(c.replace("/mlx", "/adapter.gguf") for c in _OTHER)),
    Target(
        "ollama/manifests/registry.ollama.ai/library/tiny/latest",
        ("plan ollama:tiny", "generate ollama:tiny hello"),
    ),
    Target(
        "sweep/sweep.json",
        (
            "sweep --model PLACE/model --data PLACE/data/a.csv --text-field prompt --r 1,2 "
            f"--output-dir PLACE/sweep {ONE_STEP}",
        ),
    ),
    Target("saved/state.json", _SAVED),
    Target("saved/dataset_info.json", _SAVED),
    Target("saved/data-00000-of-00001.arrow", _SAVED),
    _data("a.csv", "--text-field prompt"),
    _data("a.tsv", "--text-field prompt"),
    _data("a.csv.gz", "--text-field prompt"),
    _data("a.jsonl", "--text-field text"),
    _data("a.json", "--text-field text"),
    _data("chat.jsonl"),
    _data("a.parquet", "--text-field text"),
    _data("a.arrow", "--text-field text"),
    _data("a.txt"),
    _data("a.xlsx", "--text-field text"),
    Target("template.jinja", (f"{_CHAT} --chat-template PLACE/template.jinja",)),
    Target(
        "settings.yaml", tuple(f"{c} PLACE/settings.yaml" for c in ("train", "plan", "preview"))
    ),
)
"""Every kind of file that lorita reads."""


def arguments(command: str, place: Path) -> tuple[str, ...]:
    """The arguments of a command of a target, for a case in the folder ``place``."""
    few = ["--max-new-tokens", "2"] if " hello" in command else []
    return (*command.replace("PLACE", str(place)).split(), *few)


def make(folder: Path, lorita: Callable[[Sequence[str]], None]) -> Path:
    """Fill ``folder`` with the files of ``TARGETS``; ``lorita`` runs a command."""
    folder.mkdir(parents=True, exist_ok=True)
    model = tiny.save_model(folder / "model")
    (model / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "template.jinja").write_text(TEMPLATE, encoding="utf-8")
    _shard(model, folder / "sharded")
    _data_files(folder / "data")
    _saved(folder)
    run, data = folder / "run", folder / "data/a.csv"
    given = ["--model", str(model), "--data", str(data), "--text-field", "prompt"]
    steps = [*ONE_STEP.split()[2:-1], *TRAIN.split()]
    lorita(["train", *given, *steps, "--output-dir", str(run)])
    settings_file = run / "run.yaml"  # the proof takes most of a case's time
    text = settings_file.read_text(encoding="utf-8").replace("proof: true", "proof: false")
    settings_file.write_text(text, encoding="utf-8")
    lorita(["export", "gguf", str(run), str(folder / "adapter.gguf")])
    lorita(["export", "gguf", str(run), str(folder / "base.gguf"), "--merged", "--quantize", "f32"])
    _mlx(run, folder / "mlx")
    _ollama(folder)
    lorita(["sweep", *given, *ONE_STEP.split(), "--r", "1,2", "--output-dir", f"{folder}/sweep"])
    settings = {
        "model": f"{PLACE}/model",
        "data": [f"{PLACE}/data/a.csv"],
        "text_field": "prompt",
        "output_dir": f"{PLACE}/new",
        "max_steps": 1,
        "r": 1,
        "proof": False,
    }
    (folder / "settings.yaml").write_text(
        "".join(f"{k}: {json.dumps(v)}\n" for k, v in settings.items()), encoding="utf-8"
    )
    _without_place(folder)
    return folder


def _shard(model: Path, into: Path) -> None:
    shutil.copytree(model, into)
    (into / "model.safetensors").rename(into / "model-00001-of-00001.safetensors")
    from safetensors import safe_open

    with safe_open(into / "model-00001-of-00001.safetensors", "pt") as file:
        names = dict.fromkeys(file.keys(), "model-00001-of-00001.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (into / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _data_files(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    folder.mkdir()
    texts = tiny.make_texts(12)
    tiny.write_csv(folder / "a.csv", texts)
    text = (folder / "a.csv").read_text(encoding="utf-8")
    (folder / "a.tsv").write_text(text.replace(",", "\t"), encoding="utf-8")
    (folder / "a.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    rows = [{"text": row, "n": i, "nested": {"a": [i]}} for i, row in enumerate(texts)]
    (folder / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    (folder / "a.json").write_text(json.dumps({"data": rows}), encoding="utf-8")
    chats = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": row}]}
        for row in texts
    ]
    (folder / "chat.jsonl").write_text(
        "".join(json.dumps(c) + "\n" for c in chats), encoding="utf-8"
    )
    table = pa.table({"text": texts, "n": list(range(12))})
    parquet.write_table(table, folder / "a.parquet")
    with (
        pa.OSFile(str(folder / "a.arrow"), "wb") as out,
        pa.ipc.new_stream(out, table.schema) as to,
    ):
        to.write_table(table)
    (folder / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    (folder / "a.xlsx").write_bytes(_sheet(texts))


def _sheet(texts: Sequence[str]) -> bytes:
    """The smallest workbook: one sheet with text in its cells."""
    import io
    import zipfile

    office = "http://schemas.openxmlformats.org"
    rows = "".join(
        f'<row r="{i}"><c r="A{i}" t="inlineStr"><is><t>{text}</t></is></c></row>'
        for i, text in enumerate(["text", *texts], 1)
    )
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{office}/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
        'relationships+xml"/><Override PartName="/xl/workbook.xml" '
        f'ContentType="{kind}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" '
        f'ContentType="{kind}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{office}/package/2006/relationships"><Relationship '
        f'Id="r1" Type="{office}/officeDocument/2006/relationships/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{office}/spreadsheetml/2006/main" '
        f'xmlns:r="{office}/officeDocument/2006/relationships"><sheets>'
        '<sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{office}/package/2006/'
        f'relationships"><Relationship Id="r1" Type="{office}/officeDocument/2006/relationships/'
        'worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{office}/spreadsheetml/2006/main">'
        f"<sheetData>{rows}</sheetData></worksheet>",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _saved(folder: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": tiny.make_texts(12)}).save_to_disk(str(folder / "saved"))


def _mlx(run: Path, folder: Path) -> None:
    """The run's adapter as mlx-lm would write it."""
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    tensors = {}
    for name, tensor in load_file(run / "adapter_model.safetensors").items():
        module = name.removeprefix("base_model.model.")
        for letter in "AB":
            module = module.replace(f".lora_{letter}.weight", f".lora_{letter.lower()}")
        tensors[module] = tensor.T.contiguous()
    save_file(tensors, folder / "adapters.safetensors")
    config: dict[str, Any] = {"fine_tune_type": "lora", "model": "x", "num_layers": 2}
    config["lora_parameters"] = {"rank": 2, "scale": 2.0, "dropout": 0.0}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def _ollama(folder: Path) -> None:
    store = folder / "ollama"
    manifest = store / "manifests/registry.ollama.ai/library/tiny/latest"
    manifest.parent.mkdir(parents=True)
    (store / "blobs").mkdir()
    digest = "0" * 64
    os.link(folder / "base.gguf", store / f"blobs/sha256-{digest}")
    layer = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{digest}",
        "size": (folder / "base.gguf").stat().st_size,
    }
    text = json.dumps({"schemaVersion": 2, "layers": [layer]})
    manifest.write_text(text, encoding="utf-8")


def _without_place(folder: Path) -> None:
    """Replace the folder's path in its text files by ``PLACE``."""
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".yaml", ".md") and path.is_file():
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(str(folder), PLACE), encoding="utf-8")


def copy(material: Path, into: Path) -> None:
    """The material for one case: its own copy, in which every path is right again."""
    shutil.copytree(material, into, copy_function=os.link)
    for path in into.rglob("*"):
        if path.suffix in (".json", ".yaml", ".md") and path.is_file():
            text = path.read_text(encoding="utf-8")
            if PLACE in text:
                path.unlink()
                path.write_text(text.replace(PLACE, str(into)), encoding="utf-8")
