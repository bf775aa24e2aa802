"""Flags made from ``RunSettings``, the one definition of every option, and other shared flags.

The help shows each option's real type, but values are passed on as typed: ``RunSettings`` reads and
checks them, so that a flag and a YAML key mean the same and all mistakes come in one message.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token
from pydantic import SkipValidation
from pydantic.fields import FieldInfo

from lorita.cli.help import WHOLE_NAMES, shown_default
from lorita.settings.build import option_name
from lorita.settings.facts import facts
from lorita.settings.option import field_written
from lorita.settings.schema import RunSettings
from lorita.settings.types import choices_of, is_union

Command = Callable[..., None]
Engine = Literal["transformers", "llama.cpp"]
ENGINE_HELP = (
    "Program that generates the answers. llama.cpp (pip install lorita[llamacpp]) is two to four "
    "times as fast on a CPU; the GGUF files it needs are made once."
)
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
Dtype = Annotated[
    DtypeName,
    Parameter(help="Number format of the weights; auto chooses for this machine."),
]
BasePlace = Annotated[
    str | None,
    Parameter(help="Where the base model is, if it has moved since the run."),
]
TrustCode = Annotated[
    bool,
    Parameter(help="Run Python code that comes with the base model.", negative=()),
]
Penalty = Annotated[
    float | None,
    Parameter(
        help="Repetition penalty; 1 is none. Default: that of the run, else 1.5 for texts and 1.1 "
        "for chats."
    ),
]
Json = Annotated[bool, Parameter(help="Print the figures as JSON.", negative=())]
Length = Annotated[int, Parameter(help="Maximum length of an answer in tokens.")]


def _as_typed(hint: Any, tokens: Sequence[Token]) -> str:
    """A converter for cyclopts that leaves reading and checking the value to others.

    cyclopts also lets pydantic check the result, hence ``SkipValidation`` beside it.
    """
    return tokens[0].value


Quantize = Annotated[
    SkipValidation[Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]],
    Parameter(converter=_as_typed),
]
"""As typed: the export's own message says how to make other formats."""


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled; under transformers' names."""

    do_sample: Annotated[
        bool, Parameter(help="Sample instead of always taking the most likely token.")
    ] = False
    temperature: Annotated[
        float, Parameter(help="With --do-sample: higher makes answers more varied.")
    ] = 1.0
    top_k: Annotated[
        int, Parameter(help="With --do-sample: consider only the N most likely tokens; 0 is all.")
    ] = 50
    top_p: Annotated[
        float,
        Parameter(
            help="With --do-sample: consider only the most likely tokens that together reach this "
            "probability; 1 is all."
        ),
    ] = 1.0
    seed: Annotated[int, Parameter(help="With --do-sample: random seed.")] = 42


SamplingFlags = Annotated[Sampling, Parameter(name="*")]
LIKELIEST = Sampling()


def with_run_options(
    *, without: Collection[str] = (), lists: bool = False
) -> Callable[[Command], Command]:
    """Give a command every option of a run as a flag, except those in ``without``.

    The command is called with its positional argument and, as keyword arguments, the flags that
    were given. ``lists``: options that can be swept take several values, and the help says so.
    """

    def decorate(command: Command) -> Command:
        def wrapper(*args: Any, **flags: Any) -> None:
            given = {name: value for name, value in flags.items() if value is not None}
            command(*args, **given)

        wrapper.__doc__ = command.__doc__
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        own = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
        flags = [_flag(name, lists) for name in RunSettings.model_fields if name not in without]
        signature = inspect.Signature([*own, *flags])
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return wrapper

    return decorate


def canonical_flags(tokens: Sequence[str]) -> list[str]:
    """Flags under their own names: underscores and other tools' aliases are understood.

    Done before parsing, so that the help shows each option once. A lone ``-`` that belongs to no
    flag is data.
    """
    named = [_canonical(token) if token.startswith("--") else token for token in tokens]
    return ["--data=-" if token == "-" else token for token in joined_hyphens(named)]


def joined_hyphens(tokens: Sequence[str]) -> list[str]:
    """A lone ``-`` (standard input) joined to its flag, or it would pass for a flag itself."""
    joined: list[str] = []
    for token in tokens:
        if token == "-" and joined and _takes_value(joined[-1]):
            joined[-1] += "=-"
        else:
            joined.append(token)
    return joined


def _takes_value(token: str) -> bool:
    """Whether a token is the flag of an option of a run whose value is still to come."""
    name = token.removeprefix("--").replace("-", "_")
    field = RunSettings.model_fields.get(name) if token.startswith("--") else None
    return field is not None and _kind(field) is not bool


def _canonical(token: str) -> str:
    flag, equals, value = token.partition("=")
    no = "no-" if flag.replace("_", "-").startswith("--no-") else ""
    name = option_name(flag.replace("_", "-").removeprefix(f"--{no}"))
    return f"--{no}{name.replace('_', '-')}{equals}{value}" if name else token


def _flag(name: str, lists: bool) -> inspect.Parameter:
    field = RunSettings.model_fields[name]
    kind = _kind(field)
    parameter = Parameter(
        name=f"--{name.replace('_', '-')}",
        help=field.description,
        group=Group(facts(name).group, sort_key=_order(name), help_formatter=WHOLE_NAMES),
        converter=None if kind in (bool, list[str]) else _as_typed,
        metavar=_metavar(name, kind, lists),
        negative=None if kind is bool else (),
        show_default=(not field.is_required() and shown_default(field.default)) or False,
    )
    unchecked = SkipValidation()  # type: ignore[type-arg]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[typing.Optional[kind], unchecked, parameter],  # noqa: UP045
    )


def _kind(field: FieldInfo) -> Any:
    """The type that the help shows and shells complete; ``str`` where Python has none for it."""
    choices = choices_of(field.annotation)
    if choices:
        return Literal[choices]
    written = field_written(field)
    if written is not None:
        return list[str] if written.repeatable else str
    kinds = typing.get_args(field.annotation) if is_union(field.annotation) else [field.annotation]
    one, *more = [kind for kind in kinds if kind is not type(None)]
    return str if more else one


def _metavar(name: str, kind: Any, lists: bool) -> str | None:
    """The placeholder for a value; None where cyclopts makes it from the type."""
    written = field_written(RunSettings.model_fields[name])
    form = written.form if written else None
    if not lists or not facts(name).swept or kind is bool:
        return form
    if facts(name).holds_commas:
        return f"{form};..."
    one = "CHOICE" if typing.get_origin(kind) is Literal else kind.__name__.upper()
    return f"{one},..."


def _order(name: str) -> int:
    groups = list(dict.fromkeys(facts(field).group for field in RunSettings.model_fields))
    return groups.index(facts(name).group)


def is_settings(target: str) -> bool:
    """Whether a positional argument is a settings file or a run folder."""
    path = Path(target).expanduser()
    return path.suffix.lower() in (".yaml", ".yml") or (path / "run.yaml").is_file()


def settings_file(target: str) -> Path:
    """The YAML file of a positional argument: itself, or the ``run.yaml`` of a run."""
    path = Path(target).expanduser()
    return path / "run.yaml" if (path / "run.yaml").is_file() else path
