"""``lorita export ollama``: a folder for ``ollama create``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import (
    BasePlace,
    Penalty,
    Quantize,
    TrustCode,
)
from lorita.cli.say import say
from lorita.cli.unused import say_unused
from lorita.cli.waiting import waiting


@dataclass(frozen=True)
class OllamaSampling:
    """How Ollama draws answers, as parameters of the Modelfile."""

    temperature: Annotated[
        float, Parameter(help="Sampling temperature; 0 always takes the most likely token.")
    ] = 0.0
    top_k: Annotated[
        int | None, Parameter(help="With a temperature: consider only the N most likely tokens.")
    ] = None
    top_p: Annotated[
        float | None,
        Parameter(
            help="With a temperature: consider only the most likely tokens that together reach "
            "this probability."
        ),
    ] = None
    repetition_penalty: Penalty = None


SamplingFlags = Annotated[OllamaSampling, Parameter(name="*")]
BY_DEFAULT = OllamaSampling()
_AS_IT_IS = "here: only the adapter is written, in float32 (to merge it: --merged)"


def command(
    run: Annotated[str, Parameter(help="Run folder, or any LoRA adapter (folder or hub id).")],
    out: Annotated[Path, Parameter(help="Folder to write.")],
    /,
    *,
    from_: Annotated[
        str | None,
        Parameter(
            name="--from",
            help="Base for the adapter in Ollama: a model Ollama has, or a GGUF file of the same "
            "base. Default: the run's own base if that is a GGUF file.",
        ),
    ] = None,
    merged: Annotated[
        bool,
        Parameter(help="Write base and adapter merged into one GGUF file.", negative=()),
    ] = False,
    quantize: Annotated[
        Quantize, Parameter(help="With --merged: number format of the file.")
    ] = "q8_0",
    template: Annotated[
        Path | None,
        Parameter(
            help="File with a chat template in Ollama's language. Default: derived from the run's."
        ),
    ] = None,
    sampling: SamplingFlags = BY_DEFAULT,
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
    overwrite: Annotated[bool, Parameter(help="Replace an existing folder.", negative=())] = False,
) -> None:
    """Write a Modelfile and its GGUF file for Ollama.

    Ollama's chat template is derived from the run's and compared with it on ten chats.
    """
    _say_unused(sampling, merged, from_)
    how_to: Any = {"base": base, "overwrite": overwrite, "trust_remote_code": trust_remote_code}
    with waiting() as show:
        from lorita.export.gguf.file import write_run
        from lorita.export.ollama.export import ADAPTER, Wanted, export_ollama
        from lorita.models.adapter_sources import find_adapter

        folder = find_adapter(run, base)
        how = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.repetition_penalty)
        wanted = Wanted(from_, merged, template, *how)

        def write(tuned: Any, path: Path) -> list[str]:
            merged = path.name != ADAPTER
            if not merged:
                say_unused(_AS_IT_IS, quantize=(quantize, "q8_0"))
            named: Any = {"quantize": quantize, "name": out.name, "on_event": show}
            return write_run(tuned, folder, path, merged=merged, **named)

        done = export_ollama(run, out, wanted, write, on_event=show, **how_to)
    for note in done.notes:
        say(f"Note: {note}")
    written = sorted(done.folder.glob("[!.]*"))
    say(f"Written: {', '.join(map(str, written))}")
    say(f"Use it:  ollama create {out.name} -f {out / 'Modelfile'} && ollama run {out.name}")


def _say_unused(sampling: OllamaSampling, merged: bool, start: str | None) -> None:
    if sampling.temperature == 0:
        greedy = "without --temperature: the most likely token is always taken"
        say_unused(greedy, top_k=(sampling.top_k, None), top_p=(sampling.top_p, None))
    if merged:
        say_unused("with --merged: the file is a whole model", from_=(start, None))
