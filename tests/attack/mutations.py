"""Broken versions of valid files: by their schema, by their bytes, and as something else.

Every change is drawn from a ``random.Random``, so that a case can be made again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import random
import struct
from pathlib import Path
from typing import Any

DEEP = "@DEEP@"
"""Stands for a value nested thousands of levels deep, which no JSON writer can write."""
VALUES: tuple[Any, ...] = (
    None, True, "", "x", "a\0b", "\x1b[31mred\x07", "‮cba", "../../../etc/passwd", "x" * 100_000,
    0, 1, -1, 0.5, -0.0, 2**31, 2**63, -(2**63), 10**30, 10**400, 1e308, math.nan, math.inf,
    -math.inf, [], {}, [None], [1, 2, 3], ["a", 1], {"a": 1}, [[[[]]]], {"": None}, DEEP,
    "none", "auto", "cuda", "nan", "-1", ["x"] * 1000,
)  # fmt: skip


def break_file(path: Path, rng: random.Random) -> str:
    """Change a file, or what is at its place; returns what was done."""
    kinds = [_bytes] * 3 + [_whole] + [_by_schema] * 6
    return rng.choice(kinds)(path, rng)


def _by_schema(path: Path, rng: random.Random) -> str:
    """One or two values of a structured file replaced; bytes of any other."""
    name = path.name
    if name.endswith((".json", "latest")):
        values = json.loads(path.read_text(encoding="utf-8"))
        if name == "trainer_state.json":
            values.pop("seal")
        values, done = _changed(values, rng, _fields(path))
        text = _text(values)
        if name == "trainer_state.json" and DEEP not in done and isinstance(values, dict):
            text = _sealed(values)
        _put(path, text.encode("utf-8", "surrogatepass"))
        return done
    if name.endswith(".jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number in rng.sample(range(len(lines)), min(len(lines), rng.choice([1, 1, 3]))):
            values, done = _changed(json.loads(lines[number]), rng, ())
            lines[number] = _text(values)
        _put(path, ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))
        return f"line: {done}"
    if name.endswith(".yaml"):
        return _yaml(path, rng)
    if name.endswith(".safetensors"):
        return _safetensors(path, rng)
    if name.endswith(".gguf"):
        return _gguf(path, rng)
    if name.endswith(".jinja"):
        source = rng.choice(TEMPLATES)
        _put(path, source.encode())
        return f"template {source[:60]!r}"
    if name.endswith(".gz"):
        _put(path, gzip.compress(_flipped(gzip.decompress(path.read_bytes()), rng), mtime=0))
        return "bytes inside the gzip file"
    return _bytes(path, rng)


TEMPLATES = (
    "{% for", "{{ messages[5].content }}", "{{ 1 / 0 }}", "{{ raise_exception('no\x1b[31m') }}",
    "{{ messages.__class__.__mro__ }}", "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "",
    "{{ undefined_function() }}", "{{ messages | tojson(indent='x') }}", "{% include 'a' %}",
    "{{ '%s' % (1, 2) }}", "{{ messages[0]['content'] + 1 }}", "{{ strftime_now(5) }}",
    "{{ messages }}", "{{ bos_token * 3 }}", "{" * 5000, "{{ (" * 500, "\x00", "{{ 'x'.encode() }}",
    "{{ ''.join(messages) }}", "{% set ns = namespace(a=1) %}{{ ns.b.c }}",
)  # fmt: skip


def _changed(values: Any, rng: random.Random, fields: tuple[str, ...]) -> tuple[Any, str]:
    """The values with one or two of them replaced or left out, and what was done."""
    done = []
    for _ in range(rng.choice([1, 1, 2])):
        places = _places(values)
        new = rng.choice(VALUES)
        shown = repr(new)[:40]
        if fields and rng.random() < 0.4:
            name = rng.choice(fields)
            values[name] = new
            done.append(f"{name} = {shown}")
            continue
        place = rng.choice(places)
        name = ".".join(map(str, place)) or "everything"
        if not place:
            return new, f"{name} = {shown}"
        holder = values
        for step in place[:-1]:
            holder = holder[step]
        if rng.random() < 0.15:
            del holder[place[-1]]
            done.append(f"without {name}")
        else:
            holder[place[-1]] = new
            done.append(f"{name} = {shown}")
        if not isinstance(values, dict):
            break
    return values, ", ".join(done)


def _places(values: Any, most: int = 400) -> list[tuple[Any, ...]]:
    """Paths to the values, the shallow ones first; long lists only at their ends."""
    found: list[tuple[Any, ...]] = [()]
    level: list[tuple[tuple[Any, ...], Any]] = [((), values)]
    while level and len(found) < most:
        below = []
        for place, value in level:
            keys: list[Any] = []
            if isinstance(value, dict):
                keys = list(value)[:60]
            elif isinstance(value, list):
                keys = list(range(len(value)))[:2]
            below += [((*place, key), value[key]) for key in keys]
        found += [place for place, _ in below]
        level = below
    return found


def _fields(path: Path) -> tuple[str, ...]:
    """Names in the schema of a file that it may lack."""
    from lorita.models import adapter_schema, base_schema

    if path.name == "adapter_config.json":
        import dataclasses

        from peft import LoraConfig

        fields = {field.name for field in dataclasses.fields(LoraConfig)}
        return tuple(sorted(fields | set(adapter_schema.PeftFile.model_fields)))
    schemas = {
        "config.json": base_schema.ConfigFile,
        "generation_config.json": base_schema.GenerationFile,
        "tokenizer_config.json": base_schema.TokenizerFile,
    }
    schema = schemas.get(path.name)
    return tuple(sorted(schema.model_fields)) if schema is not None else ()


def _text(values: Any) -> str:
    deep = "[" * 5000 + "]" * 5000
    return json.dumps(values, ensure_ascii=False).replace(json.dumps(DEEP), deep)


def _sealed(state: dict[str, Any]) -> str:
    seal = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    return json.dumps({**state, "seal": seal}, indent=2) + "\n"


def _yaml(path: Path, rng: random.Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    number = rng.choice([i for i, line in enumerate(lines) if ":" in line])
    key = lines[number].partition(":")[0].strip("# ")
    new = rng.choice(YAML)
    lines[number] = f"{key}: {new}"
    _put(path, "\n".join(lines).encode("utf-8", "surrogatepass"))
    return f"{key}: {new[:50]}"


YAML = (
    "", "~", "yes", "-1", "0", ".nan", ".inf", "-.inf", "1e400", "9" * 5000, "[1, [2]]", "{a: 1}",
    "!!python/object/apply:os.system ['true']", "!!binary aGVsbG8=", "*nothing", "&a [*a]", "'",
    "2001-99-99", "2001-01-01", "0x" + "f" * 400, "? [a]", "[" * 3000, "{" * 3000, '"\\0"',
    "!!set {a, b}", "!!timestamp 1", "!!int x", "!!float y", "1:2:3", '"\\ud800"', "|\n  text",
    "- 1", "!!null x", "{[1, 2]: 3}", "{{a: 1}: 2}", "\x07", "<<: 1", "\t", "@x", "%x", "0o9",
    "!!omap [a]", "!!pairs [a: 1]", "!!bool maybe", '"a\\nb"', "'" + "x" * 100_000 + "'", "[~]",
    "x: y: z", "null", "1_000", "['']",
)  # fmt: skip


def _safetensors(path: Path, rng: random.Random) -> str:
    """The header with values replaced and its length right."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    how = rng.choice(["values", "shape", "empty", "dtype", "rename", "length", "numbers"])
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    body = content[8 + length :]
    if how == "values":
        header, how = _changed(header, rng, ())
    elif how == "shape":
        shape = header[name]["shape"]
        header[name]["shape"] = rng.choice(
            [[math.prod(shape)], [1, *shape], shape[::-1], [*shape, 1]]
        )
    elif how == "empty":
        start = header[name]["data_offsets"][0]
        header = {name: {"dtype": "F32", "shape": [10**9, 0], "data_offsets": [0, 0]}}
        body = b"" if start >= 0 else body
    elif how == "dtype":
        size = header[name]["data_offsets"]
        count = size[1] - size[0]
        kind, each = rng.choice([("I64", 8), ("U8", 1), ("BOOL", 1), ("F16", 2), ("F64", 8)])
        header[name] |= {"dtype": kind, "shape": [count // each]}
    elif how == "rename":
        header[rng.choice(["x", name + ".x", "base_model.model.lm_head.weight"])] = header.pop(name)
    elif how == "numbers":
        value = rng.choice([math.nan, math.inf, 1e38, 0.0])
        start, end = header[name]["data_offsets"]
        body = body[:start] + struct.pack("<f", value) * ((end - start) // 4) + body[end:]
    text = _text(header).encode("utf-8", "surrogatepass")
    size = len(text) if how != "length" else rng.choice([0, 1, 2**40, 2**63, len(text) - 1])
    _put(path, size.to_bytes(8, "little") + text + body)
    return f"header: {how} ({name})"


def _gguf(path: Path, rng: random.Random) -> str:
    """A value in the metadata replaced by others of its size, found by its key."""
    content = bytearray(path.read_bytes())
    keys = (
        b"general.architecture", b"general.file_type", b"llama.block_count", b"llama.vocab_size",
        b"llama.embedding_length", b"llama.attention.head_count", b"llama.context_length",
        b"llama.feed_forward_length", b"llama.rope.freq_base", b"tokenizer.ggml.tokens",
        b"tokenizer.ggml.model", b"tokenizer.ggml.token_type", b"tokenizer.ggml.eos_token_id",
        b"general.type", b"adapter.lora.alpha", b"general.alignment",
        b"llama.attention.layer_norm_rms_epsilon", b"tokenizer.ggml.merges", b"adapter.type",
    )  # fmt: skip
    found = [key for key in keys if key in content]
    key = rng.choice(found)
    place = content.index(key) + len(key) + rng.choice([0, 4, 4, 4])
    new = rng.choice([b"\xff" * 4, b"\0" * 4, b"\1\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f",
                      b"\7\0\0\0", b"\x0d\0\0\0", rng.randbytes(4), rng.randbytes(12)])  # fmt: skip
    if rng.random() < 0.2:
        place = rng.choice([4, 8, 16])  # version, number of tensors, number of values
    content[place : place + len(new)] = new
    _put(path, bytes(content))
    return f"{key.decode()} at {place}: {new!r}"


def _bytes(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    how = rng.choice(["flip", "flip", "flip", "cut", "cut", "zeros", "doubled", "middle"])
    if how == "flip":
        content = _flipped(content, rng)
    elif how == "cut":
        content = content[: rng.choice([0, 1, 7, 8, 9, rng.randrange(len(content) + 1)])]
    elif how == "zeros":
        start = rng.randrange(len(content) + 1)
        content = content[:start] + bytes(len(content) - start)
    elif how == "doubled":
        content += content
    else:
        a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        content = content[:a] + content[b:]
    _put(path, content)
    return how


def _flipped(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, more often near the beginning, where headers are."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        near = rng.choice([64, 1024, len(changed)])
        place = rng.randrange(max(1, min(near, len(changed))))
        if place < len(changed):
            changed[place] = rng.randrange(256)
    return bytes(changed)


WHOLE = (
    "folder", "pipe", "dangling", "loop", "bom", "utf-16", "latin-1", "empty", "brackets", "braces",
    "array", "number", "null", "text", "noise",
)  # fmt: skip


def _whole(path: Path, rng: random.Random) -> str:
    """Something else at the file's place."""
    how = rng.choice(WHOLE)
    content = path.read_bytes()
    if how in ("folder", "pipe", "dangling", "loop"):
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("nowhere" if how == "dangling" else path.name)
        return how
    text = content.decode("utf-8", "replace")
    new = {
        "bom": b"\xef\xbb\xbf" + content, "utf-16": text.encode("utf-16", "replace"),
        "latin-1": b"\xe9\xff" + content, "empty": b"", "brackets": b"[" * 100_000,
        "braces": b'{"a":' * 100_000, "array": b"[1, 2]", "number": b"1e400", "null": b"null",
        "text": b"hello\n", "noise": rng.randbytes(2000),
    }[how]  # fmt: skip
    _put(path, new)
    return how


def _put(path: Path, content: bytes) -> None:
    """New content in a new file: the old one is a hard link to the material."""
    path.unlink()
    path.write_bytes(content)
