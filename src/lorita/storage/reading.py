"""The door for files: everything that lorita reads from a file of somebody else comes through here.

A file is data, and may hold anything. ``read_json`` bounds its size and depth, and a schema (a
pydantic model or a dataclass, defined beside the code that owns the kind of file) says what is in
it. ``one_message`` is for files that another library reads. Whatever is wrong becomes one error
that names the file, the place in it, what was found there and what is right. Tables of training
data have readers of their own (``data.sources``).
"""

from __future__ import annotations

import codecs
import reprlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lorita.errors import LoritaError, UserError

if TYPE_CHECKING:
    from pydantic import ValidationError

T = TypeVar("T")

LARGEST = 64 * 2**20
"""Bytes of the largest JSON or text file that is read; real ones are far smaller."""
LARGEST_NUMBER = 10**300
"""Whole numbers up to here can be computed with as floating-point numbers, too."""
DEEPEST = 100
"""Levels of nesting allowed in a JSON file; real ones have fewer than twenty."""
MOST_PROBLEMS = 5
"""Problems of one file that a message lists."""


def read_text(path: Path, kind: type[UserError] = UserError, *, hint: str | None = None) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises ``kind`` if it cannot be read, is larger than ``LARGEST`` or in another encoding.
    """
    content = _content(path, kind, hint)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content
        found = "looks like UTF-16" if wide else f"byte {error.start} is no valid character"
        raise kind(f"{path}: not in UTF-8 ({found})", hint=hint or _UTF8) from None


_UTF8 = "Save it again with the encoding UTF-8."


def _content(path: Path, kind: type[UserError], hint: str | None) -> bytes:
    size = plain_size(path, kind, hint=hint)
    if size > LARGEST:
        raise kind(
            f"{path}: too large to be right ({size:,} bytes; such a file has at most {LARGEST:,})",
            hint=hint,
        )
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror or error})", hint=hint) from None


def plain_size(path: Path, kind: type[UserError] = UserError, *, hint: str | None = None) -> int:
    """The bytes of an ordinary file; ``kind`` if it is missing, or something else than a file.

    Opening a pipe would wait for its other end, and a device may have no end.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror or error})", hint=hint) from None
    except ValueError:  # a name with a NUL byte
        raise kind(f"{str(path)!r}: no possible name of a file", hint=hint) from None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise kind(f"{path}: this is {what}, not a file", hint=hint)
    return status.st_size


def read_json(path: Path, kind: type[UserError] = UserError, *, hint: str | None = None) -> Any:
    """The value in a JSON file; ``kind`` if it cannot be read or is not JSON.

    The text must be UTF-8 without lone surrogates, with at most ``DEEPEST`` levels and numbers up
    to ``LARGEST_NUMBER``, so that nothing that uses the value later can fail on these.
    """
    text = read_text(path, kind, hint=hint)
    try:
        return parse_json(text)
    except ValueError as error:
        raise kind(f"{path}: not valid JSON ({error})", hint=hint) from None


def parse_json(text: str) -> Any:
    """The value of a JSON text; ``ValueError`` says what is wrong and where."""
    from pydantic_core import from_json

    if not text.strip():
        raise ValueError("it is empty")
    value = from_json(text)
    level = [value]
    for _ in range(DEEPEST):
        if not level:
            return value
        level = [inner for outer in level for inner in _inside(outer)]
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def _inside(value: Any) -> Sequence[Any]:
    """What is directly inside a list or an object; ``ValueError`` for a whole number too large."""
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ValueError(f"the number {short(value)} is too large")
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def read_object(
    path: Path,
    schema: Any = None,
    kind: type[UserError] = UserError,
    *,
    hint: str | None = None,
) -> dict[str, Any]:
    """The object in a JSON file, as it is there, after ``schema`` has checked it.

    ``schema`` is a pydantic model or any type that pydantic understands; None accepts every object.
    """
    values = read_json(path, kind, hint=hint)
    if not isinstance(values, dict):
        raise kind(f"{path}: expected a JSON object, found {short(values)}", hint=hint)
    if schema is not None:
        checked(values, schema, str(path), kind, hint=hint)
    return values


def read_as(
    path: Path, schema: type[T], kind: type[UserError] = UserError, *, hint: str | None = None
) -> T:
    """The value in a JSON file as an instance of ``schema``, with exactly its types."""
    values = read_json(path, kind, hint=hint)
    return checked(values, schema, str(path), kind, hint=hint)


def checked(
    values: Any,
    schema: type[T],
    where: str,
    kind: type[UserError] = UserError,
    *,
    hint: str | None = None,
) -> T:
    """JSON values as an instance of ``schema``; ``kind`` lists what does not fit.

    ``where`` is how messages call the place of the values. Types are strict: a number in quotes is
    not a number.
    """
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import to_json

    try:
        # Through JSON, because strict checks of Python values want tuples and instances.
        text = to_json(values, inf_nan_mode="constants")
        return TypeAdapter(schema).validate_json(text, strict=True)
    except ValidationError as error:
        found = schema_problems(error, values)
        raise kind([f"{where}: {line}" for line in found], hint=hint) from None


def schema_problems(error: ValidationError, values: Any) -> list[str]:
    """One line for each place in ``values`` that does not fit: what was found, what is right.

    Where several types are allowed, pydantic reports each; they are joined.
    """
    places: dict[str, tuple[Any, list[str]]] = {}
    for found in error.errors(include_url=False, include_context=False):
        name, value = _at(values, found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if found["type"] == "missing":
            name, message = ".".join(filter(None, (name, str(found["loc"][-1])))), "is missing"
            value = _ABSENT
        messages = places.setdefault(name, (value, []))[1]
        if message not in messages and not (messages and found["type"] in _OTHER_FORMS):
            messages.append(message)
    inner = [name for name in places if not any(_is_inside(other, name) for other in places)]
    lines = [_line(name, *places[name]) for name in inner]
    if len(lines) > MOST_PROBLEMS:
        lines = [*lines[:MOST_PROBLEMS], f"and {len(lines) - MOST_PROBLEMS} more problems"]
    return lines


_OTHER_FORMS = ("list_type", "dict_type", "model_type", "none_required")
"""The other forms of an option that may be a single value; the message is about that value."""


def _is_inside(place: str, outer: str) -> bool:
    return place != outer and place.startswith((f"{outer}.", f"{outer}["))


_ABSENT = object()


def _line(name: str, value: Any, messages: Sequence[str]) -> str:
    what = ", or ".join(messages)
    if value is _ABSENT:
        return f"{name} {what}" if name else what
    return f"{name or 'the content'} = {short(value)}: {what}"


def _at(values: Any, loc: Sequence[int | str]) -> tuple[str, Any]:
    """The place in ``values`` that pydantic means: its name and value.

    ``loc`` also names types that were tried, which are not in ``values``.
    """
    name = ""
    for step in loc:
        if isinstance(values, Mapping) and step in values:
            name, values = f"{name}.{step}" if name else str(step), values[str(step)]
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            name, values = f"{name}[{step}]", values[step]
    return (name if len(name) <= 100 else f"{name[:99]}…"), values


def short(value: Any, most: int = 60) -> str:
    """A value as a message shows it: its ``repr``, cut."""
    text = _REPR.repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxdict, _REPR.maxlist = 3, 3, 4
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 50


@contextmanager
def one_message(
    where: str, kind: type[UserError] = UserError, *, hint: str | None = None
) -> Iterator[None]:
    """One ``kind`` of error for whatever another library raises on a file of somebody else.

    ``where`` begins the message: the file, and what could not be done. Libraries fail on such files
    in many ways, of which none is a bug of lorita. What lorita raises itself, and a lack of memory,
    pass unchanged.
    """
    try:
        yield
    except (LoritaError, MemoryError):
        raise
    except Exception as error:
        raise kind(f"{where}: {said(error)}", hint=hint) from error
    except BaseException as error:
        # Rust code that panics does not raise an Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise kind(f"{where}: {said(error)}", hint=hint) from None


def said(error: BaseException) -> str:
    """The first line of another library's error, in one line for people."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError) and error.args:
        return f"{short(error.args[0])} is missing or unknown"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if len(lines) > 1 and text.endswith(":"):
        text = f"{text} {lines[1]}"
    return text if len(text) <= 300 else f"{text[:299]}…"
