"""``lorita export ollama``: a folder for ``ollama create``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lorita.cli.options import BasePlace


def command(
    run: Annotated[str, Parameter(help="A run folder, or any LoRA adapter (folder or hub id).")],
    out: Annotated[Path, Parameter(help="The folder to write.")],
    /,
    *,
    from_: Annotated[
        str | None,
        Parameter(
            name="--from",
            help="What Ollama puts the adapter on: a model that it has, or a GGUF file of the "
            "same base. By default the run's own base where that is a GGUF file.",
        ),
    ] = None,
    merged: Annotated[
        bool,
        Parameter(help="Write base and adapter as one GGUF file.", negative=()),
    ] = False,
    quantize: Annotated[
        str, Parameter(help="Of the merged file: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0 or q5_1.")
    ] = "q8_0",
    template: Annotated[
        Path | None,
        Parameter(help="A template in Ollama's language, instead of one derived from the run's."),
    ] = None,
    temperature: Annotated[float, Parameter(help="0 takes the likeliest token.")] = 0.0,
    top_k: Annotated[int | None, Parameter(help="With a temperature.")] = None,
    top_p: Annotated[float | None, Parameter(help="With a temperature.")] = None,
    repetition_penalty: Annotated[
        float | None, Parameter(help="1.0 is none. By default as the run was compared.")
    ] = None,
    base: BasePlace = None,
    overwrite: Annotated[bool, Parameter(help="Replace the folder.", negative=())] = False,
) -> None:
    """Write a Modelfile, and the GGUF file that it names, for ollama create.

    The layout of chats is derived from the run's chat template and compared with it on ten chats.
    """
    from lorita.export.gguf.export import write_run
    from lorita.export.ollama.export import ADAPTER, Wanted, export_ollama
    from lorita.models.adapter_sources import find_adapter

    wanted = Wanted(
        from_, merged, quantize, template, temperature, top_k, top_p, repetition_penalty
    )

    def write(tuned: Any, path: Path) -> list[str]:
        folder = find_adapter(run, base)
        merged = path.name != ADAPTER
        return write_run(tuned, folder, path, merged=merged, quantize=quantize, name=out.name)

    done = export_ollama(run, out, wanted, write, base=base, overwrite=overwrite)
    for note in done.notes:
        print(f"Note: {note}")
    print(f"Written: {', '.join(str(path) for path in sorted(done.folder.iterdir()))}")
    print(f"Use it:  ollama create {out.name} -f {out / 'Modelfile'} && ollama run {out.name}")
