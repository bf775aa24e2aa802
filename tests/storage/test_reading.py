"""The door for files: what is no file, no text, no JSON or not as the schema says is one error."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from lorita.errors import AdapterError, ModelError, UserError
from lorita.storage.reading import one_message, plain_size, read_as, read_json, read_object
from tests.command import write


class Sizes(BaseModel):
    model_config = ConfigDict(extra="allow")

    r: Annotated[int, Field(ge=1, le=100)]
    alpha: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    names: list[str] | str | None = None
    ranks: dict[str, int] = {}


NOT_JSON: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "it is empty"),
    "blank": (" \n", "it is empty"),
    "cut": ('{"r": 1,\n "alpha"', "line 2"),
    "deep": ("[" * 150 + "]" * 150, "nested more than 100 levels"),
    "very deep": ("[" * 100_000, "recursion limit exceeded"),
    "deep objects": ('{"a":' * 150 + "1" + "}" * 150, "nested more than 100 levels"),
    "number of many digits": (f'{{"r": {"9" * 5000}}}', "number out of range"),
    "number beyond all computing": (f'{{"r": {"9" * 400}}}', "is too large"),
    "half a character": (r'["\ud800"]', "not valid JSON"),
    "UTF-16": ('{"r": 1}'.encode("utf-16"), "looks like UTF-16"),
    "Latin-1": ('{"r": "é"}'.encode("latin-1"), "byte 7 is no valid character"),
    "a list": ("[1]", "expected a JSON object, found [1]"),
    "null": ("null", "expected a JSON object, found None"),
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_not_an_object(case: str, tmp_path: Path) -> None:
    content, said = NOT_JSON[case]
    path = write(tmp_path / "a.json", content)
    with pytest.raises(AdapterError) as refused:
        read_object(path, Sizes, AdapterError)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    assert read_json(write(tmp_path / "a.json", b'\xef\xbb\xbf{"r": 3}')) == {"r": 3}


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "loop").symlink_to("loop")
    said = {
        "folder": "this is a folder",
        "pipe": "this is a pipe",
        "nowhere": "No such file",
        "loop": "cannot be read",
        "a\0b": "no possible name",
    }
    for name, words in said.items():
        for read in (read_json, plain_size):
            with pytest.raises(UserError, match=words):
                read(tmp_path / name)  # type: ignore[operator]


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", "")
    os.truncate(path, 2**40)
    with pytest.raises(UserError, match="too large to be right"):
        read_json(path)


SCHEMA: dict[str, tuple[dict[str, Any], list[str]]] = {
    "missing": ({}, ["r is missing"]),
    "text for a number": ({"r": "8"}, ["r = '8': input should be a valid integer"]),
    "yes for a number": ({"r": True}, ["r = True: input should be a valid integer"]),
    "negative": ({"r": -1}, ["r = -1: input should be greater than or equal to 1"]),
    "huge": ({"r": 10**30}, ["less than or equal to 100"]),
    "not a number": ({"r": 1, "alpha": float("nan")}, ["alpha = nan: input should be a finite"]),
    "infinite": ({"r": 1, "alpha": float("-inf")}, ["alpha = -inf"]),
    "inside a list": ({"r": 1, "names": ["a", 2]}, ["names[1] = 2: input should be a valid str"]),
    "inside an object": ({"r": 1, "ranks": {"q": None}}, ["ranks.q = None"]),
    "several at once": ({"r": "x", "alpha": "y"}, ["r = 'x'", "alpha = 'y'"]),
}


@pytest.mark.parametrize("case", SCHEMA)
def test_what_does_not_fit(case: str, tmp_path: Path) -> None:
    values, said = SCHEMA[case]
    path = write(tmp_path / "a.json", json.dumps(values))
    with pytest.raises(ModelError) as refused:
        read_object(path, Sizes, ModelError, hint="Do this.")
    assert len(refused.value.problems) == len(said)
    for line, words in zip(refused.value.problems, said, strict=True):
        assert line.startswith(f"{path}: ") and words in line
    assert refused.value.hint == "Do this."


def test_what_fits_is_returned_as_it_is(tmp_path: Path) -> None:
    values = {"r": 8, "alpha": 16, "names": "all", "more": {"of": [1.5, None]}, "large": 10**30}
    assert read_object(write(tmp_path / "a.json", json.dumps(values)), Sizes) == values


def test_many_problems_are_not_all_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps({"r": 1, "names": list(range(1000))}))
    with pytest.raises(UserError, match="and 995 more problems"):
        read_object(path, Sizes)


@dataclass(frozen=True)
class Point:
    x: float
    tags: tuple[str, ...] = ()


def test_as_an_instance(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '{"x": 1, "tags": ["a"], "newer": 1}')
    assert read_as(path, Point) == Point(1.0, ("a",))
    with pytest.raises(UserError, match="x = 'one'"):
        read_as(write(path, '{"x": "one"}'), Point)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("weight"), "'weight' is missing or unknown"),
        (RecursionError("maximum recursion"), "nested too deeply"),
        (ValueError("first\nsecond"), "f: first"),
        (RuntimeError(""), "RuntimeError"),
        (ZeroDivisionError("division by zero"), "division by zero"),
    ],
)
def test_errors_of_other_libraries_become_one(error: Exception, said: str) -> None:
    with pytest.raises(ModelError, match=said) as refused, one_message("f", ModelError):
        raise error
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("error", [AdapterError("x"), MemoryError(), KeyboardInterrupt()])
def test_errors_that_say_what_they_are_pass(error: BaseException) -> None:
    with pytest.raises(type(error)), one_message("f", ModelError):
        raise error
