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
from lorita.cli.render import size_text
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
AdapterOnly = Annotated[
    bool,
    Parameter(
        help="Write only the adapter, to be put on a GGUF file of the base. Only Ollama before "
        "0.34.1 takes it. The opposite, --merged, is the default.",
        negative="--merged",
    ),
]
From = Annotated[
    str | None,
    Parameter(
        help="With --adapter-only: a model that Ollama has, or a GGUF file of the same base. "
        "Default: the run's own base if that is a GGUF file.",
    ),
]
Format = Annotated[
    Quantize | None,
    Parameter(
        help="Number format of the merged model. Default: as in the base's own GGUF file if "
        "what was learned survives that, else q8_0."
    ),
]
Template = Annotated[
    Path | None,
    Parameter(
        help="File with a chat template in Ollama's language. Default: derived from the run's."
    ),
]


def command(
    run: Annotated[str, Parameter(help="Run folder, or any LoRA adapter (folder or hub id).")],
    out: Annotated[Path, Parameter(help="Folder to write.")],
    /,
    *,
    adapter_only: AdapterOnly = False,
    from_: Annotated[From, Parameter(name="--from")] = None,
    quantize: Format = None,
    template: Template = None,
    sampling: SamplingFlags = BY_DEFAULT,
    base: BasePlace = None,
    trust_remote_code: TrustCode = False,
    allow_loss: Annotated[
        bool, Parameter(help="Keep the model even if llama.cpp answers differently.", negative=())
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace an existing folder.", negative=())] = False,
) -> None:
    """Write a Modelfile and its GGUF file for Ollama.

    Ollama's chat template is derived from the run's and compared with it on ten chats. If llama.cpp
    is installed (pip install lorita[llamacpp]), the model is loaded in it and asked for answers.
    """
    _say_unused(sampling, adapter_only, quantize)
    how_to: Any = {"base": base, "overwrite": overwrite, "trust_remote_code": trust_remote_code}
    with waiting() as show:
        from lorita.export.gguf.number_formats import check_format
        from lorita.export.ollama.export import Wanted, export_ollama
        from lorita.export.ollama.gguf_file import checked_writer
        from lorita.models.adapter_sources import find_adapter

        folder = find_adapter(run, base)
        how = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.repetition_penalty)
        wanted = Wanted(adapter_only, from_, template, *how)
        kind = None if quantize is None else check_format(quantize)
        write = checked_writer(
            folder, wanted, quantize=kind, name=out.name, allow_loss=allow_loss, on_event=show
        )
        done = export_ollama(run, out, wanted, write, on_event=show, **how_to)
    for note in done.notes:
        say(f"Note: {note}")
    sizes = [
        f"{path} ({size_text(path.stat().st_size)})" for path in sorted(done.folder.glob("[!.]*"))
    ]
    say(f"Written: {', '.join(sizes)}")
    for line in done.checked:
        say(line)
    say(f"Use it:  ollama create {out.name} -f {out / 'Modelfile'} && ollama run {out.name}")


def _say_unused(sampling: OllamaSampling, adapter_only: bool, quantize: str | None) -> None:
    if sampling.temperature == 0:
        greedy = "without --temperature: the most likely token is always taken"
        say_unused(greedy, top_k=(sampling.top_k, None), top_p=(sampling.top_p, None))
    if adapter_only:
        say_unused("with --adapter-only: the adapter is float32", quantize=(quantize, None))
