"""How to load an adapter, in Python: the part of a model card that people copy.

A card is shown and published, so it names no place on this machine. Where the base is a file or a
folder, PEFT's own ``adapter_config.json`` says where.
"""

from __future__ import annotations

import re
from pathlib import Path

from lorita.evaluation.markdown import python_string
from lorita.models.base import BUNDLED, Base, load_config
from lorita.models.language_part import reads_images

_SECTION = re.compile(r"^## Use\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def hub_origin(base: Base) -> str | None:
    """The base's id on the hub; None if it is unknown, as for files and folders."""
    if base.name in BUNDLED:
        return BUNDLED[base.name][2]
    return base.location if base.is_hub else None


def public_name(base: Base) -> str:
    """The base's name without folders of this machine."""
    local = base.name not in BUNDLED and not base.is_hub and Path(base.name).expanduser().exists()
    return Path(base.name).expanduser().resolve().name if local else base.name


def load_path(folder: Path) -> str:
    """What to call a run's folder where its training was started.

    That is its path as it was typed, or relative to the current folder. Of a folder elsewhere only
    the name is told.
    """
    if not folder.is_absolute():
        return folder.as_posix()
    here = Path.cwd()
    return folder.relative_to(here).as_posix() if folder.is_relative_to(here) else folder.name


def usage_section(
    run: str, base: Base, revision: str | None = None, *, tokens: int | None = None
) -> str:
    """The section "Use" for a run on this machine; ``run`` is its path or name.

    ``revision`` is the branch, tag or commit of the base that was asked for. ``tokens`` is the
    number of tokens that the base needs rows for, where the run has added some.
    """
    trust = ", trust_remote_code=True" if base.trust_remote_code else ""
    if base.is_hub:
        asked = f", revision={python_string(revision)}" if revision else ""
        loaded = [f"{_BASE}({python_string(base.location)}{asked}{trust})"]
    else:
        loaded = [f"place = PeftConfig.from_pretrained({python_string(run)}).{_FIELD}"]
        where = "place"
        if base.gguf_file is not None:
            loaded.append("folder, file = os.path.split(place)")
            where = 'folder, gguf_file=file, dtype="float32"'
        loaded.append(f"{_BASE}({where}{trust})")
    section = _section(run, [*loaded, *_grown(tokens)], trust, is_here=True, tokens=tokens)
    # The whole checkpoint: the adapter's layers have the names that they have there.
    whole = base.gguf_file is None and reads_images(load_config(base))
    return section.replace(_TEXT_CLASS, _WHOLE_CLASS) if whole else section


def hub_section(
    run: str, origin: str | None, *, trust_remote_code: bool = False, tokens: int | None = None
) -> str:
    """The section "Use" for a run on the hub, whose base is ``origin`` (None: unknown).

    ``tokens`` as in ``usage_section``.
    """
    trust = ", trust_remote_code=True" if trust_remote_code else ""
    grown = _grown(tokens)
    if origin is None:
        loaded = [f'{_BASE}("BASE"{trust})  # the base model', *grown]
        return _section(run, loaded, f', base="BASE"{trust}', tokens=tokens)
    loaded = [f"{_BASE}({python_string(origin)}{trust})", *grown]
    return _section(run, loaded, trust, tokens=tokens)


def _grown(tokens: int | None) -> list[str]:
    """The lines that give a base rows for new tokens, whose weights PEFT then loads."""
    if tokens is None:
        return []
    return [
        f"if base.get_input_embeddings().num_embeddings < {tokens}:  # room for the new tokens",
        f"    base.resize_token_embeddings({tokens})",
    ]


def with_section(card: str, section: str) -> str:
    """The card with ``section`` in place of the one that it has; unchanged if it has none."""
    if _WHOLE_CLASS in card:
        section = section.replace(_TEXT_CLASS, _WHOLE_CLASS)
    return _SECTION.sub(lambda _: f"{section}\n", card, count=1)


_TEXT_CLASS, _WHOLE_CLASS = "AutoModelForCausalLM", "AutoModelForImageTextToText"
_BASE = "base = AutoModelForCausalLM.from_pretrained"
_FIELD = "base_model_name_or_path"


def _section(
    run: str,
    loaded: list[str],
    options: str,
    *,
    is_here: bool = False,
    tokens: int | None = None,
) -> str:
    code = "\n".join(loaded)
    remark = "  # the path of this folder" if is_here else ""
    imports = ["import os", ""] if "os.path" in code else []
    names = "PeftConfig, PeftModel" if "PeftConfig" in code else "PeftModel"
    name = python_string(run)
    known = "AutoModelForCausalLM" + (", AutoTokenizer" if tokens is not None else "")
    own = [f"tokenizer = AutoTokenizer.from_pretrained({name})"] if tokens is not None else []
    return "\n".join([
        "## Use", "", "```python", "import lorita", "",
        f"tuned = lorita.load({name}{options}){remark}",
        'print(tuned.generate("..."))', "```", "",
        "or with PEFT alone:", "", "```python", *imports,
        f"from peft import {names}", f"from transformers import {known}", "",
        *loaded, f"tuned = PeftModel.from_pretrained(base, {name})", *own, "```", "",
    ])  # fmt: skip
