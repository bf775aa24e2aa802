"""llama.cpp, through the package ``xllamacpp``: text and probabilities from a GGUF file.

Used to check exports, and to answer prompts faster than transformers does on a CPU.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorita.errors import CheckFailed, LoritaError, UserError

if TYPE_CHECKING:
    from lorita.inference.options import GenerationOptions


def is_installed() -> bool:
    """Whether ``xllamacpp`` (the extra ``llamacpp``) is installed."""
    return find_spec("xllamacpp") is not None


def require() -> None:
    """Raise ``UserError``, which says how to install it, unless ``xllamacpp`` is installed."""
    if not is_installed():
        raise UserError(
            "llama.cpp is not installed", hint='Install it with: pip install "lorita[llamacpp]"'
        )


def threads() -> int:
    """How many threads llama.cpp is to use on this machine."""
    import torch

    from lorita.engine.numerics import choose_threads, usable_cores

    wanted = os.environ.get("OMP_NUM_THREADS")
    return choose_threads(usable_cores(), torch.get_num_threads(), wanted)[0]


NO_DEBUGGER = ("GGML_NO_BACKTRACE", "1")
"""Where llama.cpp gives up, it would start a debugger on the whole process before it ends."""
_GREEDY = {
    "temperature": 0.0,
    "repeat_penalty": 1.0,
    "cache_prompt": False,
    "return_tokens": True,
}


class LlamaCpp:
    """A GGUF model, with or without adapters, loaded by llama.cpp on the CPU.

    ``context`` is the longest prompt with its answer, in tokens; ``parallel`` prompts are answered
    at once, each with that much room, or with ``share`` all of them in the same room. ``threads`` 0
    leaves the choice to llama.cpp. With ``exact``, everything that llama.cpp lets us choose is
    float32, so that any difference from transformers comes from the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        adapter: Path | None = None,
        adapters: Sequence[Path] = (),
        context: int = 1024,
        threads: int = 0,
        parallel: int = 1,
        share: bool = False,
        exact: bool = True,
    ) -> None:
        require()
        os.environ.setdefault(*NO_DEBUGGER)
        used = [*([] if adapter is None else [adapter]), *adapters]
        import xllamacpp as llama

        params = llama.CommonParams()
        params.model.path = str(path)
        params.lora_adapters = [llama.CommonAdapterLoraInfo(str(path), 1.0) for path in used]
        params.n_ctx = context if share else context * parallel
        params.kv_unified = share
        params.n_parallel = parallel
        params.n_gpu_layers = 0
        params.warmup = False
        params.fit_params = False
        params.verbosity = 0
        params.cache_ram_mib = 0  # such a cache would be searched whatever the adapter
        self._key = secrets.token_urlsafe(16)  # others on this machine could ask it, too
        params.api_keys = [self._key]
        if exact:
            params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.swa_full = True
        if threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        self._parallel = parallel
        self._adapters = len(used)
        try:
            self._server = llama.Server(params)
        except Exception as error:
            raise CheckFailed(f"{path}: llama.cpp cannot load this file ({error})") from error

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        options: GenerationOptions,
        *,
        with_adapter: bool = True,
    ) -> list[list[int]]:
        """The new tokens for each prompt of token ids, ``parallel`` prompts at once.

        ``with_adapter=False`` switches the adapter off.
        """
        body = _steered(options)
        body["lora"] = self.scales(0 if with_adapter else None)

        def ask(prompt: Sequence[int]) -> list[int]:
            whole = len(prompt) + options.max_new_tokens  # how far back the penalty looks
            found = self._ask(
                "completion", {**body, "prompt": list(prompt), "repeat_last_n": whole}
            )
            return [int(token) for token in found["tokens"]]

        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(ask, prompts))

    def scales(self, adapter: int | None) -> list[dict[str, Any]]:
        """A request's ``lora`` that switches on the adapter of this number, and no other.

        All are named: what llama.cpp does with the others depends on its version.
        """
        return [{"id": n, "scale": float(n == adapter)} for n in range(self._adapters)]

    def stream(self, body: dict[str, Any]) -> LlamaStream:
        """Begin a completion that comes in pieces; ``CheckFailed`` or ``UserError`` if refused."""
        return LlamaStream(self._server.listening_address, self._key, {**body, "stream": True})

    def complete(self, prompt: Sequence[int], *, tokens: int) -> tuple[list[int], bool]:
        """The greedy continuation of a prompt of token ids, and whether an end token ended it."""
        answer = self._ask("completion", {**_GREEDY, "prompt": list(prompt), "n_predict": tokens})
        return [int(token) for token in answer["tokens"]], answer["stop_type"] == "eos"

    def likeliest(
        self, prompt: Sequence[int], *, count: int = 10, goes_on: bool = False
    ) -> dict[int, float]:
        """Log-probabilities of the ``count`` likeliest tokens after ``prompt``, by token id.

        ``goes_on``: the prompt continues that of the last call, which need not be read again.
        """
        # llama.cpp reports nothing if the token it draws is only part of a character or ends the
        # text. A grammar makes it draw another; the reported probabilities stay the model's own.
        body = {
            **_GREEDY,
            "prompt": list(prompt),
            "n_predict": 1,
            "n_probs": count,
            "cache_prompt": goes_on,
            "ignore_eos": True,
        }
        for _ in range(2):
            found = self._ask("completion", body).get("completion_probabilities")
            if found:
                return {int(t["id"]): float(t["logprob"]) for t in found[0]["top_logprobs"]}
            body["grammar"] = "root ::= [ -~]+"
        raise CheckFailed("llama.cpp returned no probabilities")

    def tokenize(self, text: str) -> list[int]:
        """The token ids of a text by the file's own tokenizer, special tokens included."""
        body = {"content": text, "add_special": True, "parse_special": True}
        return [int(token) for token in self._ask("tokenize", body)["tokens"]]

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._server.listening_address}/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise _refusal(error.read().decode(errors="replace")) from error


class LlamaStream:
    """The pieces of a completion, as llama.cpp sends them. ``close`` ends it from any thread."""

    def __init__(self, address: str, key: str, body: dict[str, Any]) -> None:
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"))
        self._connection.connect()
        self._socket = self._connection.sock
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._connection.request("POST", "/completion", json.dumps(body), headers)

    def pieces(self) -> Iterator[dict[str, Any]]:
        """Each piece; the last has ``stop``. Raises like ``LlamaCpp.stream``, and ``OSError`` or
        ``http.client.HTTPException`` where the stream was closed."""
        with self._connection.getresponse() as answer:
            if answer.status != 200:
                raise _refusal(answer.read().decode(errors="replace"))
            for line in answer:
                name, _, value = line.strip().partition(b":")
                if name == b"error":
                    raise _refusal(f'{{"error": {value.decode(errors="replace")}}}')
                if name == b"data":
                    piece = json.loads(value)
                    if "error" in piece:
                        raise _refusal(value.decode(errors="replace"))
                    yield piece

    def close(self) -> None:
        """Stop the completion."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _refusal(text: str) -> LoritaError:
    """The error to raise for the body of a response that rejects a request."""
    try:
        found = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        found = {}
    if found.get("type") == "exceed_context_size_error":
        return UserError(
            f"the prompt has {found['n_prompt_tokens']} tokens, the model takes {found['n_ctx']}",
            hint="Use a shorter prompt.",
        )
    return CheckFailed(f"llama.cpp rejected the request: {text[:300]}")


def _steered(options: GenerationOptions) -> dict[str, Any]:
    """The options in llama.cpp's terms, applied in the same order as by transformers."""
    return {
        "n_predict": options.max_new_tokens,
        "samplers": ["penalties", "temperature", "top_k", "top_p"],
        "repeat_penalty": options.penalty,
        "temperature": options.temperature if options.do_sample else 0.0,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": 0.0,
        "seed": options.seed,
        "cache_prompt": False,
        "return_tokens": True,
    }
