"""Flags made from ``RunSettings``: the one definition of every option becomes the command line.

Values are handed on as they were typed; ``RunSettings`` reads and checks them, so that a flag and
a YAML key mean the same and all mistakes come in one message.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from lorita.errors import SettingsError
from lorita.settings.build import field_group, option_name
from lorita.settings.schema import RunSettings

REPEATABLE = ("data", "compare_prompt")
Command = Callable[..., None]
Engine = Literal["transformers", "llama.cpp"]
ENGINE_HELP = (
    "What answers. llama.cpp (the extra llamacpp) is two to four times as fast on a CPU; it makes "
    "the GGUF files that it needs once."
)

Dtype = Annotated[str, Parameter(help="auto, float32, bfloat16 or float16.")]
BasePlace = Annotated[
    str | None, Parameter(help="Where the base is, if not where the run found it.")
]
Penalty = Annotated[float, Parameter(help="1.0 is none.")]
Length = Annotated[int, Parameter(help="Length of an answer at most.")]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; under transformers' names."""

    do_sample: Annotated[bool, Parameter(help="Draw instead of taking the likeliest.")] = False
    temperature: Annotated[float, Parameter(help="With --do-sample.")] = 1.0
    top_k: Annotated[int, Parameter(help="With --do-sample; 0 is off.")] = 50
    top_p: Annotated[float, Parameter(help="With --do-sample.")] = 1.0
    seed: Annotated[int, Parameter(help="With --do-sample.")] = 42


SamplingFlags = Annotated[Sampling, Parameter(name="*")]
LIKELIEST = Sampling()


def with_run_options(*, leave_out: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command every option of a run as a flag.

    The command takes ``target`` (the positional argument, or None) and the flags that were really
    given as keyword arguments.
    """

    def decorate(command: Command) -> Command:
        def wrapper(*args: Any, **flags: Any) -> None:
            given = {name: value for name, value in flags.items() if value is not None}
            command(*args, **given)

        wrapper.__doc__ = command.__doc__
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        own = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
        flags = [_flag(name) for name in RunSettings.model_fields if name not in leave_out]
        signature = inspect.Signature([*own, *flags])
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return wrapper

    return decorate


def canonical_flags(tokens: Sequence[str]) -> list[str]:
    """Flags under their own names: underscores and the aliases of other tools are understood.

    Done before parsing, so that the help shows each option once.
    """
    return [_canonical(token) if token.startswith("--") else token for token in tokens]


def _canonical(token: str) -> str:
    flag, equals, value = token.partition("=")
    no = "no-" if flag.replace("_", "-").startswith("--no-") else ""
    name = option_name(flag.replace("_", "-").removeprefix(f"--{no}"))
    return f"--{no}{name.replace('_', '-')}{equals}{value}" if name else token


def _flag(name: str) -> inspect.Parameter:
    field = RunSettings.model_fields[name]
    kind: Any = str
    if field.annotation is bool:
        kind = bool
    elif name in REPEATABLE:
        kind = list[str]
    parameter = Parameter(
        name=f"--{name.replace('_', '-')}",
        help=_help(name),
        group=Group(field_group(name), sort_key=_order(name)),
        negative=() if kind is not bool else None,
        show_default=False,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[typing.Optional[kind], parameter],  # noqa: UP045
    )


def _help(name: str) -> str:
    field = RunSettings.model_fields[name]
    text = field.description or ""
    choices = typing.get_args(field.annotation)
    if typing.get_origin(field.annotation) is typing.Literal:
        text += f" One of {', '.join(map(str, choices))}."
    default = field.default
    if not field.is_required() and default not in (None, [], False):
        shown = str(default).lower() if isinstance(default, bool) else default
        text += f" (default {shown})"
    return text


def _order(name: str) -> int:
    groups = list(dict.fromkeys(field_group(field) for field in RunSettings.model_fields))
    return groups.index(field_group(name))


def settings_file(target: str | None) -> Path | None:
    """The YAML file that a positional argument means: itself, or the ``run.yaml`` of a run."""
    if target is None:
        return None
    path = Path(target).expanduser()
    if path.suffix.lower() in (".yaml", ".yml"):
        return path
    if (path / "run.yaml").is_file():
        return path / "run.yaml"
    raise SettingsError(
        f"{target}: neither a settings file (.yaml) nor a run folder",
        hint="Models and data are given as --model and --data.",
    )
