"""The start scripts and the page of a folder for ``llama-server``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

BASE, TEMPLATE = "base.gguf", "chat_template.jinja"
FAULT = "https://github.com/ggml-org/llama.cpp/issues/26207"


@dataclass(frozen=True)
class ServerFolder:
    """What is served: ``adapters`` by name, each in the file ``NAME.gguf``.

    ``has_template``: there is a chat template of the run's. ``system`` is the system message of its
    training rows, ``stops`` are the texts that end an answer, ``penalty`` the repetition penalty.
    """

    adapters: Sequence[str]
    has_template: bool
    system: str | None
    stops: Sequence[str]
    penalty: float

    def flags(self) -> list[str]:
        """The arguments of ``llama-server``."""
        found = ["-m", BASE, "--alias", self.adapters[0]]
        for name in self.adapters:
            found += ["--lora", f"{name}.gguf"]
        if len(self.adapters) > 1:
            found += ["--lora-init-without-apply", "--no-cache-prompt"]
        if self.has_template:
            found += ["--jinja", "--chat-template-file", TEMPLATE]
        return [*found, "--temp", "0", "--repeat-penalty", f"{self.penalty:g}",
                "--repeat-last-n", "-1"]  # fmt: skip

    def shell_script(self) -> str:
        """``start.sh``, for Linux and macOS."""
        return (
            "#!/bin/sh\n"
            "# Serves this folder at http://127.0.0.1:8080. Flags of llama-server can follow:\n"
            "# ./start.sh --port 9000\n"
            'cd "$(dirname "$0")" || exit 1\n'
            f'exec llama-server {shlex.join(self.flags())} "$@"\n'
        )

    def batch_file(self) -> str:
        """``start.bat``, for Windows."""
        lines = [
            "@echo off",
            "rem Serves this folder at http://127.0.0.1:8080. Flags of llama-server can follow.",
            'cd /d "%~dp0"',
            f"llama-server {' '.join(self.flags())} %*",
        ]
        return "\r\n".join([*lines, ""])

    def request(self) -> dict[str, object]:
        """The body of a request to the first adapter: to ``path``."""
        body: dict[str, object] = {}
        if self.has_template:
            system = [{"role": "system", "content": self.system}] if self.system else []
            body["messages"] = [*system, {"role": "user", "content": "Hello!"}]
        else:
            body["prompt"] = "Once upon a time"
        body["max_tokens"] = 100
        if self.stops:
            body["stop"] = list(self.stops)
        return body

    @property
    def path(self) -> str:
        """Where requests go."""
        return "/v1/chat/completions" if self.has_template else "/v1/completions"

    def chosen(self, name: str | None) -> list[dict[str, object]]:
        """The ``lora`` field that switches one adapter on, and all others off; None: the base."""
        return [
            {"id": number, "scale": 1.0 if one == name else 0.0}
            for number, one in enumerate(self.adapters)
        ]

    def page(self) -> str:
        """``README.md``: how to start the server, and how to choose an adapter."""
        several = len(self.adapters) > 1
        first = {"lora": self.chosen(self.adapters[0])}
        return _PAGE.format(
            path=self.path,
            body=shlex.quote(json.dumps(self.request() | (first if several else {}))),
            numbers="\n".join(f"- {n}: `{name}.gguf`" for n, name in enumerate(self.adapters)),
            first=json.dumps(first),
            none=json.dumps({"lora": self.chosen(None)}),
            always=_SEVERAL if several else _ONE,
            cache=_CACHE_OFF if several else _CACHE_ON,
            fault=FAULT,
        )


_PAGE = """# A base model and LoRA adapters for llama-server

Needs llama.cpp (`llama-server` on the PATH). Start it with `./start.sh`, or `start.bat` on Windows.

```sh
curl http://127.0.0.1:8080{path} \\
  -H 'Content-Type: application/json' \\
  -d {body}
```

## Choosing an adapter

Adapters are numbered in the order in which they are loaded:

{numbers}

The field `lora` of a request says which are used, and how strongly. The first one:

```json
{first}
```

The base alone:

```json
{none}
```

{always} `GET /lora-adapters` lists them; `POST /lora-adapters` with such
a list sets what holds for requests without `lora`.

{cache}: some versions use what they computed for a prompt under one
adapter for another ({fault}).
"""
_SEVERAL = """Send `lora` with every request, and name all adapters in it: without it, some
versions of llama-server use all of them at once."""
_ONE = "Without `lora`, the adapter is on."
_CACHE_OFF = "The prompt cache is off (`--no-cache-prompt`)"
_CACHE_ON = 'Where requests take turns, send `"cache_prompt": false` as well'
