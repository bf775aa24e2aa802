"""llama.cpp, through the package ``xllamacpp``: text and probabilities from a GGUF file.

Used to check exports, and to answer prompts faster than transformers does on a CPU.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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


_GREEDY = {
    "temperature": 0.0,
    "repeat_penalty": 1.0,
    "cache_prompt": False,
    "return_tokens": True,
}


class LlamaCpp:
    """A GGUF model, with or without an adapter, loaded by llama.cpp on the CPU.

    ``context`` is the longest prompt with its answer, in tokens; ``parallel`` prompts are answered
    at once. ``threads`` 0 leaves the choice to llama.cpp. With ``exact``, everything that llama.cpp
    lets us choose is float32, so that any difference from transformers comes from the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        adapter: Path | None = None,
        context: int = 1024,
        threads: int = 0,
        parallel: int = 1,
        exact: bool = True,
    ) -> None:
        require()
        import xllamacpp as llama

        params = llama.CommonParams()
        params.model.path = str(path)
        if adapter is not None:
            params.lora_adapters = [llama.CommonAdapterLoraInfo(str(adapter), 1.0)]
        params.n_ctx = context * parallel
        params.n_parallel = parallel
        params.n_gpu_layers = 0
        params.warmup = False
        params.fit_params = False
        params.verbosity = 0
        params.cache_ram_mib = 0
        if exact:
            params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.swa_full = True
        if threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        self._parallel = parallel
        self._has_adapter = adapter is not None
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
        if self._has_adapter:
            body["lora"] = [{"id": 0, "scale": float(with_adapter)}]

        def ask(prompt: Sequence[int]) -> list[int]:
            whole = len(prompt) + options.max_new_tokens  # how far back the penalty looks
            found = self._ask(
                "completion", {**body, "prompt": list(prompt), "repeat_last_n": whole}
            )
            return [int(token) for token in found["tokens"]]

        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(ask, prompts))

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
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise _refusal(error.read().decode(errors="replace")) from error


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
