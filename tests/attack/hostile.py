"""Folders that somebody else made, given to every command: a canary file must not appear.

python -m tests.attack.hostile

Each folder holds code in one of the places where programs have run it by mistake: a record that
asks for trust, a settings file that names a function, pickles under the names of weights, templates
that reach for Python, modules that a configuration names. Whatever a command does with the folder,
it does not run the code, shows no traceback and leaves the folder as it was.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack.forks import Forks, wait
from tests.foreign_code import MODELLING

FUNCTION = """
from pathlib import Path
Path({canary!r}).write_text("run")
def f(row):
    return row
"""
TEMPLATES = (
    "{{{{ cycler.__init__.__globals__.os.system('touch {canary}') }}}}",
    "{{{{ ''.__class__.__mro__[1].__subclasses__() }}}}{{{{ lipsum.__globals__['os'].popen("
    "'touch {canary}').read() }}}}",
    "{{% set x = messages.__init__.__globals__ %}}{{{{ x.os.system('touch {canary}') }}}}",
)
COMMANDS = (
    "generate X hello --max-new-tokens 2",
    "generate BASE hello --max-new-tokens 2",
    "chat X",
    "compare X --prompt hello --max-new-tokens 2",
    "evaluate X",
    "merge X OUT",
    "export gguf X OUT.gguf",
    "export ollama X OUT",
    "targets X",
    "targets BASE",
    "preview DATA --model X",
    "preview X --model GOOD",
    "preview BASE --model GOOD",
    "train X --output-dir OUT --max-steps 1 --no-proof",
    "train X --resume --no-proof",
    "train X/run.yaml --output-dir OUT --max-steps 1 --no-proof",
    "train --model X --data DATA --output-dir OUT --max-steps 1 --no-proof",
    "train --model BASE --data DATA --output-dir OUT --max-steps 1 --no-proof",
    "train --model GOOD --data X --output-dir OUT --max-steps 1 --no-proof",
    "train --model GOOD --data DATA --output-dir OUT --max-steps 9 --no-proof "
    "--resume-from-checkpoint X/checkpoint-1",
    "plan X",
    "plan --model BASE --data DATA --no-probe",
    "sweep X/run.yaml --r 2,4 --output-dir OUT",
    "push X someone/name",
)
"""X is the hostile folder, BASE the base that it names, GOOD a good model, DATA good data."""


class Canary:
    """Pickled, it writes the canary when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (os.system, (f"touch {self.path}",))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the JSON object in a file; a file that does not exist is an empty one."""
    values = json.loads(path.read_text()) if path.exists() else {}
    change(values)
    path.write_text(json.dumps(values))


class Hostile:
    """What a folder is made of: copies of a good run ``x`` and of its base ``base``."""

    def __init__(self, folder: Path, good: Path, run: Path, canary: Path) -> None:
        self.x, self.base, self.canary = folder / "x", folder / "base", canary
        shutil.copytree(run, self.x)
        shutil.copytree(good, self.base)
        for name in ("adapter_config.json", "lorita.json", "run.yaml"):
            for file in self.x.rglob(name):
                file.write_text(file.read_text().replace(str(good), str(self.base)))

    def record_asks_for_trust(self) -> None:
        self.base_with_code()
        edit(self.x / "lorita.json", lambda v: v["base"].update(trust_remote_code=True))

    def base_with_code(self) -> None:
        code = MODELLING.format(canary=str(self.canary))
        (self.base / "odd.py").write_text(code)
        auto = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"}
        edit(self.base / "config.json", lambda v: v.update(model_type="odd", auto_map=auto))
        edit(
            self.base / "tokenizer_config.json",
            lambda v: v.update(auto_map={"AutoTokenizer": ["odd.OddTokenizer", None]}),
        )

    def tokenizer_with_code(self) -> None:
        (self.x / "odd.py").write_text(MODELLING.format(canary=str(self.canary)))
        auto = {"AutoTokenizer": ["odd.OddTokenizer", "odd.OddTokenizer"]}
        new = {"auto_map": auto, "tokenizer_class": "OddTokenizer"}
        edit(self.x / "tokenizer_config.json", lambda v: v.update(new))

    def settings_name_a_function(self) -> None:
        (self.x / "evil.py").write_text(FUNCTION.format(canary=str(self.canary)))
        self._settings(map_row=f"{self.x}/evil.py:f")

    def settings_name_a_module(self) -> None:
        """A module that lies in the folder where the command is given."""
        (self.x.parent / "evil_module.py").write_text(FUNCTION.format(canary=str(self.canary)))
        self._settings(map_row="evil_module:f")

    def settings_ask_for_trust(self) -> None:
        self.base_with_code()
        self._settings(trust_remote_code=True)

    def settings_push(self) -> None:
        self._settings(push_to_hub=True, hub_model_id="someone/taken")

    def pickles_for_weights(self) -> None:
        for folder, name in ((self.x, "adapter_model"), (self.base, "pytorch_model")):
            for weights in folder.glob("*.safetensors"):
                weights.unlink()
            self._pickle(folder / f"{name}.bin")
        edit(self.base / "config.json", lambda v: v.pop("use_safetensors", None))

    def pickles_beside_weights(self) -> None:
        for folder in (self.x, self.base, *self.x.glob("checkpoint-*")):
            for name in (
                "adapter_model.bin", "pytorch_model.bin", "training_args.bin", "optimizer.pt",
                "scheduler.pt", "rng_state.pth", "trainer_state.pt", "vocab.pkl",
            ):  # fmt: skip
                self._pickle(folder / name)

    def pickles_as_data(self) -> None:
        for name in ("rows.pkl", "rows.pt", "rows.npy", "rows.joblib", "rows.pickle"):
            self._pickle(self.x / name)

    def templates_that_reach_out(self) -> None:
        for number, template in enumerate(TEMPLATES):
            text = template.format(canary=self.canary)
            for folder in (self.x, self.base):
                (folder / "chat_template.jinja").write_text(text)
                (folder / "additional_chat_templates").mkdir(exist_ok=True)
                (folder / f"additional_chat_templates/t{number}.jinja").write_text(text)
        asked = {"kind": "chat", "template": {"source": text}}
        edit(self.x / "lorita.json", lambda v: v["prompt_format"].update(asked))

    def adapter_names_modules(self) -> None:
        (self.x.parent / "evil_module.py").write_text(FUNCTION.format(canary=str(self.canary)))
        names = {"base_model_class": "f", "parent_library": "evil_module"}
        edit(
            self.x / "adapter_config.json",
            lambda v: v.update(
                auto_mapping=names, megatron_core="evil_module", megatron_config={"a": 1}
            ),
        )

    def config_names_kernels(self) -> None:
        def change(values: dict[str, Any]) -> None:
            values["attn_implementation"] = values["_attn_implementation"] = "someone/kernel"
            values["auto_map"] = {"AutoModelForCausalLM": "someone/evil--odd.OddForCausalLM"}

        edit(self.base / "config.json", change)

    def a_loading_script(self) -> None:
        (self.x / "x.py").write_text(FUNCTION.format(canary=str(self.canary)))
        (self.x / "dataset_infos.json").write_text('{"default": {}}')

    def a_packed_module(self) -> None:
        """A sitecustomize and a zip of modules in the folder of the command."""
        code = FUNCTION.format(canary=str(self.canary))
        for name in ("sitecustomize.py", "usercustomize.py", "gguf.py", "xllamacpp.py"):
            (self.x.parent / name).write_text(code)
        with zipfile.ZipFile(self.x / "rows.zip", "w") as archive:
            archive.writestr("../../evil.py", code)

    def _settings(self, **values: object) -> None:
        import yaml

        path = self.x / "run.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))

    def _pickle(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(Canary(self.canary)))


KINDS = [name for name in vars(Hostile) if not name.startswith("_")]


def attack(forks: Forks, work: Path, kind: str) -> None:
    """Every command on one kind of folder; exits with a message at the first fault."""
    folder, canary = work / kind, work / f"canary-{kind}"
    folder.mkdir()
    made = Hostile(folder, work / "model", work / "run", canary)
    getattr(made, kind)()
    os.chdir(folder)
    places = {
        "X": made.x, "BASE": made.base, "GOOD": work / "model", "DATA": work / "data.csv",
        "OUT": folder / "out", "OUT.gguf": folder / "out.gguf", "X/run.yaml": made.x / "run.yaml",
        "X/checkpoint-1": made.x / "checkpoint-1",
    }  # fmt: skip
    for command in COMMANDS:
        forks.log.write_text("")
        words = [str(places.get(word, word)) for word in command.split()]
        code = wait(forks.start(words))
        said = forks.log.read_text(errors="replace")
        shutil.rmtree(folder / "out", ignore_errors=True)
        if canary.exists() or "Traceback" in said or code not in (0, 1, 2):
            sys.exit(
                f"{kind}: lorita {' '.join(words)}\nended with {code}; the code was "
                f"{'' if canary.exists() else 'not '}run; it said:\n{said[-3000:]}"
            )
    os.chdir(work)


def main(kinds: list[str]) -> None:
    work = Path(tempfile.mkdtemp(prefix="lorita-hostile-"))
    os.environ |= {
        "HF_HOME": str(work / "home"), "HF_HUB_OFFLINE": "1", "XDG_STATE_HOME": str(work / "state"),
        "HF_DATASETS_CACHE": str(work / "home/tables"), "XDG_CACHE_HOME": str(work / "cache"),
    }  # fmt: skip
    prepare(forks := Forks(work), work)
    for kind in kinds or KINDS:
        attack(forks, work, kind)
        print(f"{kind}: {len(COMMANDS)} commands, nothing was run", flush=True)
    shutil.rmtree(work)


def prepare(forks: Forks, work: Path) -> None:
    """A good model, data and a run with a checkpoint; what the commands need is imported."""
    from tests import tiny
    from tests.export.models import save_base

    save_base(work / "model", "llama")
    tiny.write_csv(work / "data.csv", tiny.make_texts(24))
    train = f"train --model {work / 'model'} --data {work / 'data.csv'} --text-field prompt"
    train += f" --max-steps 2 --save-steps 1 --max-new-tokens 2 --use-cpu --output-dir {work}/run"
    forks.finish(train.split())
    forks.import_all()


if __name__ == "__main__":
    main(sys.argv[1:])
