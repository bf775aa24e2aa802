"""The models that are served: one base in memory, and the adapters of runs on it.

Only the scheduler's thread changes the model; ``update`` and ``writer`` are called there.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.data.tokens.prompt_format import PromptFormat
from lorita.data.tokens.tokenizer_template import own_template
from lorita.engine.decoding import ACTIVE
from lorita.errors import AdapterError, LoritaError, SettingsError
from lorita.inference.one_at_a_time import TextWriter, open_writer
from lorita.inference.options import all_stops
from lorita.inference.resolve import Resolved, resolve_folder
from lorita.models.context import context_length
from lorita.models.fingerprint import fingerprint, fingerprint_problems
from lorita.models.load_adapter import load_adapters
from lorita.serving.guides import Rules, TokenGuide
from lorita.storage.run_folder import RECORD_FILE
from lorita.system.memory import room

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lorita.inference.tuned_model import TunedModel

CACHE_SHARE = 3
"""One part in so many of the free memory is for keys and values: they are copied as they grow."""
CHECKPOINT = re.compile(r"checkpoint-\d+")
BASE_NAME = "base"
"""What the base is called in requests."""
log = logging.getLogger("lorita.serving")


@dataclass(frozen=True)
class Served:
    """A model as requests name it.

    ``adapter`` is its name within the base: ``ACTIVE`` for what is switched on, None for none.
    ``texts`` is how a bare prompt is put, ``chat`` how a chat is; None if it knows no chats.
    ``stamp`` tells whether its folder is still the same run.
    """

    name: str
    adapter: str | None
    texts: PromptFormat
    chat: PromptFormat | None
    created: int
    folder: Path | None = None
    stamp: tuple[int, int] = (0, 0)


class Registry:
    """The base, its adapters, and the folder in which new runs are looked for (``watched``)."""

    def __init__(
        self, tuned: TunedModel, sole: Resolved | None = None, watched: Path | None = None
    ) -> None:
        self.tokenizer: PreTrainedTokenizerBase = tuned.tokenizer
        self.base, self.model = tuned.base, tuned.model
        self.watched = watched
        self.served: dict[str, Served] = {}
        self.called: Callable[[Path], str | None] = lambda run: run.name
        """What a run in the watched folder is called; None: it is not served."""
        self.on_demand: Callable[[str], Resolved | None] = lambda name: None
        """What is served from the first request that names it on."""
        self.refused: dict[str, tuple[tuple[int, int], str]] = {}
        """Runs in the watched folder that cannot be served: their stamp, and why."""
        self._loaded, self._count = {}, 0  # type: ignore[var-annotated]
        config: Any = self.model.config
        self.context = context_length(config)
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        self.own_stops = all_stops(self.model, [])
        self.words = int(head.weight.shape[0] if head is not None else config.vocab_size)
        if sole is not None:
            form = tuned.prompt_format
            self.served[_name(sole)] = run_served(sole, ACTIVE, form, self.tokenizer)
        else:
            self._fingerprint = fingerprint(self.model)
            self.served[BASE_NAME] = base_served(self.tokenizer)

    _loaded: dict[str, str]
    """Adapters on the model, and the model that each belongs to."""

    def guide_maker(self, rules: Rules) -> Callable[[], TokenGuide | None]:
        """What makes the guide of each answer with these rules."""
        return rules.guide

    def writer(self) -> TextWriter:
        """What writes texts with every adapter that is on the model now."""
        return open_writer(self.model, self.tokenizer, sorted(self._loaded))

    def cache_limit(self) -> int | None:
        """How much keys and values may take, as the writer counts it; None: anything."""
        here = room()
        return None if here is None else max(here.free, 0) // CACHE_SHARE

    def add(self, found: Resolved, name: str | None = None) -> Served:
        """Put a run's adapter on the base; ``AdapterError`` if it cannot share it."""
        name = name or _name(found)
        if name in self.served:
            raise SettingsError(
                f"two models would be called {name}: {self.served[name].folder or self.base.name} "
                f"and {found.folder}",
                hint="Rename one of the folders.",
            )
        served = self._load(found, name)
        self.served[name] = served
        return served

    def add_named(self, name: str) -> bool:
        """Serve what is only served on demand; whether there is such a model."""
        found = self.on_demand(name)
        if found is None:
            return False
        if name not in self.served:
            self.served[name] = replace(self._load(found, name), name=name)
        return True

    def changed(self) -> bool:
        """Whether the watched folder holds other runs than before. Quick: only names and times."""
        return self.watched is not None and self._changes() != ([], [])

    def update(self) -> bool:
        """Serve the runs that appeared in the watched folder; whether adapters came or went."""
        gone, new = self._changes()
        for name in gone:
            self.served.pop(name)
        for name, folder in new:
            try:
                found = resolve_folder(
                    folder, self.base.name, trust_remote_code=self.base.trust_remote_code
                )
                self.served[name] = replace(self._load(found, name), name=name)
            except LoritaError as error:
                self.refused[name] = (_stamp(folder), str(error))
                log.warning("cannot serve %s: %s", folder.name, error)
            else:
                self.refused.pop(name, None)
        return bool(gone or new)

    def drop_unused(self) -> None:
        """Take adapters off the model that no served model uses. For when no text is open."""
        for adapter in set(self._loaded) - {s.adapter for s in self.served.values()}:
            if len(self._loaded) > 1:  # PEFT's model needs one
                with warnings.catch_warnings():  # that another one is active now says nothing
                    warnings.simplefilter("ignore", UserWarning)
                    self.model.delete_adapter(adapter)  # type: ignore[operator]
                del self._loaded[adapter]

    def _changes(self) -> tuple[list[str], list[tuple[str, Path]]]:
        """The names of runs that are gone, and the names and folders of new ones."""
        if self.watched is None:
            return [], []
        called = ((self.called(folder), folder) for folder in finished_runs(self.watched))
        there = {name: folder for name, folder in called if name is not None}
        known = {s.name: s for s in self.served.values() if s.folder and s.folder in _own(self)}
        gone = [n for n, s in known.items() if n not in there or _stamp(there[n]) != s.stamp]
        left = self.served.keys() - set(gone)
        new = [
            (name, folder)
            for name, folder in there.items()
            if name not in left and self.refused.get(name, (None, ""))[0] != _stamp(folder)
        ]
        return gone, new

    def _load(self, found: Resolved, name: str) -> Served:
        if found.record is not None and found.record.base.fingerprint:
            problems = fingerprint_problems(found.record.base.fingerprint, self._fingerprint)
            if problems:
                raise AdapterError(
                    [f"{found.folder} was trained on another base than {self.base.name}: {p}"
                     for p in problems],
                    hint="Serve it with a server of its own.",
                )  # fmt: skip
        own = found.tokenizer()
        if own.get_vocab() != self.tokenizer.get_vocab():
            raise AdapterError(f"{found.folder}: its tokenizer is not that of {self.base.name}")
        self._count += 1
        adapter = f"m{self._count}"
        self.model = load_adapters(self.model, {adapter: found.adapter}).eval()  # type: ignore[arg-type]
        self._loaded[adapter] = name
        return run_served(found, adapter, found.prompt_format(own), own)


def finished_runs(folder: Path) -> list[Path]:
    """The runs in a folder that came to their end: their record is written last."""
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
    return [path for path in inside if (path / RECORD_FILE).is_file()]


def _own(registry: Registry) -> set[Path]:
    assert registry.watched is not None
    return {s.folder for s in registry.served.values() if s.folder is not None
            and s.folder.resolve().parent == registry.watched.resolve()}  # fmt: skip


def base_served(tokenizer: PreTrainedTokenizerBase) -> Served:
    """The base's forms: chats through its own template, if it has one."""
    chat = own_template(tokenizer)
    chat_format = None if chat is None else PromptFormat("chat", chat)
    return Served(BASE_NAME, None, _texts(PromptFormat()), chat_format, _written(None))


def _name(found: Resolved) -> str:
    """The run folder's name; of a checkpoint, that of its run, and its own if that is finished."""
    folder = found.adapter.resolve()
    run = folder.parent
    if not CHECKPOINT.fullmatch(folder.name):
        return folder.name
    return f"{run.name}-{folder.name}" if (run / RECORD_FILE).is_file() else run.name


def run_served(
    found: Resolved, adapter: str, form: PromptFormat, tokenizer: PreTrainedTokenizerBase
) -> Served:
    """A run's forms: chats through its template; an adapter of another tool, through its base's."""
    chat = form if form.template is not None else None
    if chat is None and found.record is None and (own := own_template(tokenizer)) is not None:
        chat = PromptFormat("chat", own)
    folder = found.adapter
    return Served(
        _name(found), adapter, _texts(form), chat, _written(folder), folder, _stamp(folder)
    )


def _texts(form: PromptFormat) -> PromptFormat:
    """How a bare prompt is put: as it is, and what spells a control token is text."""
    return PromptFormat(
        "text", control_tokens="text", repetition_penalty=form.repetition_penalty
    ) if form.template is not None or form.control_tokens is None else form  # fmt: skip


def _stamp(folder: Path) -> tuple[int, int]:
    try:
        status = (folder / RECORD_FILE).stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_ino


def _written(folder: Path | None) -> int:
    import time

    return int(time.time()) if folder is None else int(folder.stat().st_mtime)


def open_registry(
    names: Sequence[Resolved], watched: Path | None, open_base: Callable[[Resolved], TunedModel]
) -> Registry:
    """The registry of what was resolved: base models and runs, all of one base.

    ``open_base`` loads a base, with the adapter if there is one on it.
    """
    from lorita.models.load_adapter import why_not_shared

    runs = [found for found in names if found.folder is not None]
    first = (runs or list(names))[0]
    if any(found.base.reference != first.base.reference for found in names if not found.folder):
        both = sorted({found.base.name for found in names})
        raise SettingsError(
            f"a server has one base, but {' and '.join(both)} were named",
            hint="Start a server for each base, on another --port.",
        )
    if len(runs) == 1 and watched is None and list(why_not_shared("m1", first.adapter)):
        return Registry(open_base(first), sole=first)
    registry = Registry(open_base(Resolved(first.base)), watched=watched)
    for found in runs:
        registry.add(found)
    registry.update()
    return registry
