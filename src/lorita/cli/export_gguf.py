"""``lorita export gguf``: an adapter or a merged model as a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lorita.cli.options import BasePlace
from lorita.cli.render import size_text


def command(
    run: Annotated[str, Parameter(help="A run folder, or any LoRA adapter (folder or hub id).")],
    out: Annotated[Path, Parameter(help="The .gguf file to write.")],
    /,
    *,
    merged: Annotated[
        bool, Parameter(help="The whole model, the adapter merged into it.", negative=())
    ] = False,
    quantize: Annotated[
        str | None,
        Parameter(help="With --merged: f32, f16 (default), bf16, q8_0, q4_0, q4_1, q5_0 or q5_1."),
    ] = None,
    base: BasePlace = None,
    allow_loss: Annotated[
        bool, Parameter(help="Keep the file although llama.cpp answers otherwise.", negative=())
    ] = False,
    overwrite: Annotated[bool, Parameter(help="Replace the file.", negative=())] = False,
) -> None:
    """Write an adapter as a GGUF file for llama.cpp, or with --merged the whole model.

    Where llama.cpp is installed (the extra llamacpp), it reads the file and must answer as base
    and adapter do.
    """
    from lorita.export.gguf.export import export_gguf

    made = export_gguf(
        run,
        out,
        merged=merged,
        quantize=quantize,
        base=base,
        allow_loss=allow_loss,
        overwrite=overwrite,
    )
    print(f"Written: {made.path}, {size_text(made.size)}")
    for line in [*made.notes, *made.checked]:
        print(line)
