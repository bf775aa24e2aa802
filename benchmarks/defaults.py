"""The sweeps behind lorita's defaults: three data sets, one small pretrained model.

    python benchmarks/defaults.py prepare build/defaults    # writes the data sets and the settings
    lorita sweep build/defaults/roles.yaml --learning-rate 3e-4,1e-3,3e-3 --output-dir build/roles

- roles: 50 of the role prompts that come with lorita, plain text.
- signatures: 80 functions of Python's standard library, name and arguments to the first sentence of
  the docstring; prompt and completion.
- repairs: 44 questions about household repairs, all answered in the same manner, written for this
  project; chats.

The results are in LOG.md.
"""

from __future__ import annotations

import importlib
import inspect
import json
import random
import re
import sys
from pathlib import Path

MODULES = """
argparse ast asyncio base64 bisect calendar codecs collections colorsys configparser
contextlib copy csv dataclasses datetime decimal difflib dis email.utils enum fnmatch
fractions functools gettext glob gzip hashlib heapq html imaplib inspect io ipaddress json
keyword linecache locale logging mailbox mimetypes operator os os.path pathlib pickle
pkgutil platform pprint random re secrets shelve shlex shutil smtplib socket statistics
string subprocess tarfile tempfile textwrap threading timeit tokenize traceback types
urllib.parse urllib.request uuid warnings wave weakref xml.dom.minidom zipfile
"""


def signatures(count: int = 140) -> list[dict[str, str]]:
    """Standard library: ``name(arguments)`` and the first sentence of the docstring."""
    rows: dict[str, dict[str, str]] = {}
    for module_name in MODULES.split():
        module = importlib.import_module(module_name)
        for name, function in vars(module).items():
            row = _signature(module_name, name, function)
            if row is not None:
                rows.setdefault(row["completion"], row)
    drawn = random.Random(0).sample(sorted(rows.values(), key=lambda row: row["prompt"]), count)
    return [{"prompt": row["prompt"] + "\n", "completion": row["completion"]} for row in drawn]


def _signature(module: str, name: str, function: object) -> dict[str, str] | None:
    if name.startswith("_") or not callable(function) or inspect.isclass(function):
        return None
    if getattr(function, "__module__", None) != module:
        return None
    try:
        arguments = str(inspect.signature(function))
    except (ValueError, TypeError):
        return None
    first = (inspect.getdoc(function) or "").split("\n\n")[0]
    sentence = re.match(r".{20,200}?\.(?=\s|$)", " ".join(first.split()))
    if sentence is None or len(arguments) > 120 or "0x" in arguments:
        return None
    return {"prompt": f"{module}.{name}{arguments}", "completion": sentence.group()}


def prepare(folder: Path) -> None:
    """Write the data sets and one settings file for each."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = folder / "signatures.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in signatures()), encoding="utf-8")
    here = Path(__file__).parent
    roles = here.parent / "src/lorita/resources/role_prompts.csv"
    jobs = {
        "roles": (roles, 50, "text_field: prompt\n"),
        "signatures": (pairs, 80, "chat_template: none\n"),
        "repairs": (here / "data/repairs.jsonl", 44, ""),
    }
    for name, (data, rows, more) in jobs.items():
        settings = f"model: smollm2-135m\ndata: {data.resolve()}\nmax_train_samples: {rows}\n"
        (folder / f"{name}.yaml").write_text(
            settings + "max_eval_samples: 60\nmax_new_tokens: 20\n" + more, encoding="utf-8"
        )


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "prepare":
        sys.exit(__doc__)
    prepare(Path(sys.argv[2]))
